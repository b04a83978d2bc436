"""Models and runs on disk: written whole or not at all, checked as they are read."""
