"""The ops' fused CPU kernels. Only this package imports Numba."""

PRECISIONS = ("auto", "float32", "bfloat16", "int16")
"""What matrices can be multiplied in. It stands here because to read it imports no Numba."""
