"""Pictures for notebooks, runs and docs. Each function returns a matplotlib Figure."""
