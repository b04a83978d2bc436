"""Training: recipe, run on disk, loop, what is measured on the way, and what went wrong."""
