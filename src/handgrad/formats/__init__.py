"""Models on disk: handgrad's own folders, whole or absent."""
