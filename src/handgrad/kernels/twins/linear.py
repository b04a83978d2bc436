"""The twin of `ops.linear`: products with a weight's panels, packed once per update."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import products
from handgrad.kernels.workspace import NONE, Weight, Workspace, rows, value_of


class LinearTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        weight: Weight
        bias: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, bias: Weight | None = None) -> tuple[np.ndarray, Saved]:
        z = self.workspace.arena.take(*x.shape[:-1], weight.value.shape[1])
        self.product(z, x, weight.panels, value_of(bias))
        return z, self.Saved(x, weight, bias)

    def backward(self, dz: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """dx is written into x."""
        dx, ((dweight, dbias),) = self.backward_of_several([(dz, saved)])
        return dx, dweight, dbias

    def backward_of_several(
        self, layers: list[tuple[np.ndarray, Saved]]
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray | None]]]:
        """The backward of layers that share one x: dx, into x, and each one's dweight and dbias."""
        gradients = []
        for dz, (x, weight, bias) in layers:
            self.add_gradient(weight.gradient, x, dz)
            if bias is not None:
                add_sums(bias.gradient, dz)
            gradients.append((weight.gradient, None if bias is None else bias.gradient))
        for i, (dz, (x, weight, _)) in enumerate(layers):  # from here on nobody reads x
            self.product(x, dz, weight.transposed, add=i > 0)
        return x, gradients

    def product(
        self, out: np.ndarray, x: np.ndarray, panels: np.ndarray, bias: np.ndarray = NONE, add: bool = False
    ) -> None:
        """out = x @ W + bias; with `add`, out += x @ W."""
        kernels, x = self.workspace.kernels.products, rows(x)
        scratch = self.workspace.need(kernels.scratch_size(x.shape[1]))
        kernels.affine(rows(out), x, panels, bias, add, scratch)

    def add_gradient(self, dweight: np.ndarray, x: np.ndarray, dz: np.ndarray) -> None:
        """dweight += x^T dz."""
        kernels, x = self.workspace.kernels.products, rows(x)
        kernels.add_gradient(dweight, x, rows(dz), self.workspace.need(kernels.scratch_size(x.shape[1])))


def add_sums(gradient: np.ndarray, dy: np.ndarray) -> None:
    """gradient += dy, summed over the leading axes that only dy has."""
    products.add_column_sums(gradient.reshape(-1), dy.reshape(-1, gradient.size))
