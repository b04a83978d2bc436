"""The twin of `ops.linear`: products with a weight's panels, packed once per update."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import products
from handgrad.kernels.workspace import NONE, Weight, Workspace, rows, value_of


class LinearTwin:
    class Saved(NamedTuple):
        a: np.ndarray
        """The operand of x."""
        weight: Weight
        bias: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, bias: Weight | None = None) -> tuple[np.ndarray, Saved]:
        saved = self.Saved(self.workspace.operand(x), weight, bias)
        z = self.workspace.arena.take(*x.shape[:-1], weight.value.shape[1])
        return self.apply(z, saved), saved

    def backward(self, dz: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """dx is written into `passing`."""
        self.workspace.passing.reset()
        dx, ((dweight, dbias),) = self.backward_of_several([(dz, saved)])
        return dx, dweight, dbias

    def apply(self, z: np.ndarray, layer: Saved) -> np.ndarray:
        """z becomes x @ W + b."""
        self.product(z, layer.a, layer.weight.panels, value_of(layer.bias))
        return z

    def backward_of_several(
        self, layers: list[tuple[np.ndarray, Saved]]
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray | None]]]:
        """The backward of layers that share one x: dx, in `passing`, and each one's dweight and dbias."""
        (first, (_, weight, _)), gradients = layers[0], []
        dx = self.workspace.passing.take(*first.shape[:-1], weight.value.shape[0])
        for i, (dz, (a, weight, bias)) in enumerate(layers):
            d = self.workspace.passing_operand(dz)
            self.add_gradient(weight, a, d)
            if bias is not None:
                add_sums(bias.gradient, dz)
            gradients.append((weight.gradient, None if bias is None else bias.gradient))
            self.product(dx, d, weight.transposed, add=i > 0)
        return dx, gradients

    def product(
        self, out: np.ndarray, a: np.ndarray, panels: np.ndarray, bias: np.ndarray = NONE, add: bool = False
    ) -> None:
        """out = x @ W + bias for the operand `a` of x; with `add`, out += x @ W."""
        kernels = self.workspace.kernels.products
        kernels.affine(rows(out), a, panels, bias, add, self.workspace.need(kernels.scratch_size(a.shape[1])))

    def add_gradient(self, weight: Weight, a: np.ndarray, d: np.ndarray) -> None:
        """The weight's gradient += x^T dz, for the operands of x and dz."""
        kernels = self.workspace.kernels.products
        scratch = self.workspace.need(kernels.scratch_size(a.shape[1]))
        kernels.add_gradient(weight.sums, a, d, not weight.is_zero, scratch)
        weight.is_zero = False


def add_sums(gradient: np.ndarray, dy: np.ndarray) -> None:
    """gradient += dy, summed over the leading axes that only dy has."""
    products.add_column_sums(gradient.reshape(-1), dy.reshape(-1, gradient.size))
