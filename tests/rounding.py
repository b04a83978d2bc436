"""The formulas with every operand of a product rounded to bfloat16, as kernels of that precision have it."""

from typing import Any

import numpy as np

from handgrad.ops import activation, attention, dropout, feed_forward, linear, prelu, softmax, unembedding
from handgrad.shapes import product_over_rows

U = 2**-8
"""Rounding to the nearest number of 8 bits changes a number by at most this share."""


def rounded(x: Any) -> np.ndarray:
    """The nearest bfloat16, ties to even, as float64."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return nearest.astype(np.uint32).view(np.float32).astype(np.float64)


class RoundedLinear:
    @staticmethod
    def forward(x, weight, bias=None):
        z = rounded(x) @ rounded(weight)
        return (z if bias is None else z + bias), linear.Saved(x, weight, bias)

    @staticmethod
    def backward(dz, saved):
        x, weight, bias = saved
        dbias = None if bias is None else dz.reshape(-1, dz.shape[-1]).sum(0)
        return rounded(dz) @ rounded(weight).T, product_over_rows(rounded(x), rounded(dz)), dbias


class RoundedUnembedding:
    @staticmethod
    def forward(x, weight):
        return rounded(x) @ rounded(weight).T, unembedding.Saved(x, weight)

    @staticmethod
    def backward(dz, saved):
        return rounded(dz) @ rounded(saved.weight), product_over_rows(rounded(dz), rounded(saved.x))


class RoundedAttention:
    formula_forward = staticmethod(attention.forward)

    @classmethod
    def forward(cls, q, k, v, **settings):
        q, k, v = rounded(q), rounded(k), rounded(v)
        _, saved = cls.formula_forward(q, k, v, **settings)
        return (rounded(saved.dropped) @ v[:, :, None]).reshape(q.shape), saved

    @staticmethod
    def backward(dy, saved):
        q, k, v, probs, dropped, drop, scale = saved
        grouped = (*k.shape[:2], q.shape[1] // k.shape[1], *q.shape[2:])
        dy, q_ = rounded(dy).reshape(grouped), q.reshape(grouped)
        dv = (rounded(dropped).mT @ dy).sum(2)
        (dprobs,) = dropout.backward(dy @ v[:, :, None].mT, drop)
        (dscores,) = softmax.backward(dprobs, probs)
        dscores = rounded(dscores * scale)
        return (dscores @ k[:, :, None]).reshape(q.shape), (dscores.mT @ q_).sum(2), dv


class RoundedActivation:
    """In a feed-forward block without a gate slopes are kept rounded, or, for the parametric ReLU, x."""

    forward, Saved = staticmethod(activation.forward), activation.Saved

    @staticmethod
    def backward(dy, saved):
        if isinstance(saved.inner, prelu.Saved):
            kept = saved.inner._replace(x=rounded(saved.inner.x))
            return activation.backward(dy, activation.Saved(kept))
        slopes, _ = activation.backward(np.ones_like(dy), saved)
        return dy * rounded(slopes), None


def round_what_is_multiplied(monkeypatch: Any) -> None:
    """Let the library's own formulas do so."""
    for op, changed in (
        (linear, RoundedLinear), (unembedding, RoundedUnembedding), (attention, RoundedAttention)
    ):  # fmt: skip
        monkeypatch.setattr(op, "forward", changed.forward)
        monkeypatch.setattr(op, "backward", changed.backward)
    monkeypatch.setattr(feed_forward, "activation_op", RoundedActivation)
