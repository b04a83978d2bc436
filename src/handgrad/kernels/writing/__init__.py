"""Kernels of texts in progress: a few rows at a time, each weight read once, all threads in one call."""
