"""Fused CPU twins of the ops, in Numba: the only place that knows it."""
