"""Training: the recipe, the run on disk, the loop, what is measured on the way, and what went wrong if it
did."""
