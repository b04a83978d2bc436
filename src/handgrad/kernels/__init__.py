"""Fused CPU twins of the ops, in Numba: the only place that knows it."""

from handgrad.kernels import cache

with cache.here():  # kernels are kept where their sources say, not beside them
    from handgrad.kernels import (
        activations,
        attention,
        attention_bfloat16,
        elementwise,
        loss,
        norms,
        optimizer,
        products,
        products_bfloat16,
    )

__all__ = [
    "activations",
    "attention",
    "attention_bfloat16",
    "elementwise",
    "loss",
    "norms",
    "optimizer",
    "products",
    "products_bfloat16",
]
