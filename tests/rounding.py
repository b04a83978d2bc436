"""The formulas with every operand of a product rounded, as kernels of that precision have it."""

from typing import Any

import numpy as np

from handgrad.kernels.quantize import TOP
from handgrad.kernels.scaled import slice_rows
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
        """What meets the values, rounded, are exponentials: probabilities, but for a factor of each row."""
        q, k, v = rounded(q), rounded(k), rounded(v)
        _, saved = cls.formula_forward(q, k, v, **settings)
        factor = saved.probs.y.max(-1, keepdims=True) / (1.0 - settings.get("dropout", 0.0))
        weights = rounded(saved.dropped / factor) * factor
        return (weights @ v[:, :, None]).reshape(q.shape), saved

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


def units(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """The whole numbers that rows are scaled and rounded to, in blocks, and what one of each is worth."""
    numbers, scales = np.zeros(x.shape), np.zeros(x.shape)
    width = slice_rows(x.shape[-1])
    for first in range(0, x.shape[-1], width):
        block = x[..., first : first + width]
        unit = np.abs(block).max(-1, keepdims=True) / TOP
        scales[..., first : first + width] = unit
        numbers[..., first : first + width] = np.rint(block / np.where(unit, unit, 1.0))
    return numbers, scales


def scaled(x: Any) -> np.ndarray:
    """What `units` stand for."""
    numbers, scales = units(x)
    return numbers * scales


class WholeNumberAttention:
    """With keys and values as 8 bits hold them, a scale for each; on tiles what they meet is rounded, too."""

    def __init__(self, on_tiles: bool):
        self._formula, self._rounded = attention.forward, rounded if on_tiles else np.asarray

    def forward(self, q, k, v, **settings):
        root, (whole, units) = q.shape[-1] ** 0.5, zip(*map(_whole_numbers, (k, v)), strict=True)
        k, v = (x * unit for x, unit in zip(whole, units, strict=True))
        y, saved = self._formula(root * self._rounded(q / root), k, v, **settings)
        largest, unit = saved.probs.y.max(-1, keepdims=True), units[1].swapaxes(-1, -2)[:, :, None]
        numerators = self._rounded(unit * self._rounded(saved.probs.y / largest))
        summed = largest * (numerators @ whole[1][:, :, None])
        return summed.reshape(y.shape).astype(y.dtype), saved


def _whole_numbers(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """And what one of them is worth."""
    unit = np.abs(x).max(-1, keepdims=True) / 127
    return np.rint(x / np.where(unit, unit, 1.0)), unit


def scaled_gradient(x: Any, dz: Any) -> np.ndarray:
    """x^T dz of at most a block of tokens: X's integers, and dZ times their scales, rounded by columns."""
    (q, s), dz = units(x.reshape(-1, x.shape[-1])), scaled(dz.reshape(-1, dz.shape[-1]))
    rows = (q[:, k] @ scaled((s[:, k, None] * dz).T).T for k in range(x.shape[-1]))
    return np.stack(list(rows))


class ScaledLinear:
    @staticmethod
    def forward(x, w, bias=None):
        z = scaled(x) @ scaled(w.T).T
        return (z if bias is None else z + bias), linear.Saved(x, w, bias)

    @staticmethod
    def backward(dz, saved):
        x, w, bias = saved
        dbias = None if bias is None else dz.reshape(-1, dz.shape[-1]).sum(0)
        return scaled(dz) @ scaled(w).T, scaled_gradient(x, dz), dbias


class ScaledUnembedding:
    @staticmethod
    def forward(x, w):
        return scaled(x) @ scaled(w).T, unembedding.Saved(x, w)

    @staticmethod
    def backward(dz, saved):
        return scaled(dz) @ scaled(saved.weight.T).T, scaled_gradient(dz, saved.x)


CHANGED = {
    "bfloat16": ((linear, RoundedLinear), (unembedding, RoundedUnembedding), (attention, RoundedAttention)),
    "int16": ((linear, ScaledLinear), (unembedding, ScaledUnembedding)),
}
"""The ops that multiply, and what they become."""


def round_what_is_multiplied(monkeypatch: Any, precision: str) -> None:
    """Let the library's own formulas do so."""
    for op, changed in CHANGED[precision]:
        monkeypatch.setattr(op, "forward", changed.forward)
        monkeypatch.setattr(op, "backward", changed.backward)
    monkeypatch.setattr(feed_forward, "activation_op", RoundedActivation)
