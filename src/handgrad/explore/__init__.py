"""The explorer: a page that shows a model at work on a text, forward and backward, by `handgrad.trace`."""
