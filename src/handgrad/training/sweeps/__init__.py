"""Sweeps: the same run with other numbers, many times, to find the ones that learn best."""
