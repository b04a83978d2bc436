"""The twin of `ops.linear`: products with a weight's panels, packed once per update."""

from typing import NamedTuple

import numpy as np

from handgrad.kernels import products
from handgrad.kernels.workspace import NONE, Weight, Workspace, rows, value_of


class LinearTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        """Where dx goes."""
        a: np.ndarray
        """The operand of x."""
        weight: Weight
        bias: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, bias: Weight | None = None) -> tuple[np.ndarray, Saved]:
        ((z, saved),) = self.forward_of_several(x, [(weight, bias)])
        return z, saved

    def forward_of_several(
        self, x: np.ndarray, layers: list[tuple[Weight, Weight | None]]
    ) -> list[tuple[np.ndarray, Saved]]:
        """The forward of layers that share one x, which is rounded once."""
        a, results = self.workspace.operand(x), []
        for weight, bias in layers:
            z = self.workspace.arena.take(*x.shape[:-1], weight.value.shape[1])
            self.product(z, a, weight.panels, value_of(bias))
            results.append((z, self.Saved(x, a, weight, bias)))
        return results

    def backward(self, dz: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """dx is written into x."""
        dx, ((dweight, dbias),) = self.backward_of_several([(dz, saved)])
        return dx, dweight, dbias

    def backward_of_several(
        self, layers: list[tuple[np.ndarray, Saved]]
    ) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray | None]]]:
        """The backward of layers that share one x: dx, into x, and each one's dweight and dbias."""
        self.workspace.passing.reset()
        operands = [self.workspace.passing_operand(dz) for dz, _ in layers]
        gradients = []
        for d, (dz, (_, a, weight, bias)) in zip(operands, layers, strict=True):
            self.add_gradient(weight.gradient, a, d)
            if bias is not None:
                add_sums(bias.gradient, dz)
            gradients.append((weight.gradient, None if bias is None else bias.gradient))
        x = layers[0][1].x
        for i, (d, (_, saved)) in enumerate(zip(operands, layers, strict=True)):  # nobody reads x any more
            self.product(x, d, saved.weight.transposed, add=i > 0)
        return x, gradients

    def product(
        self, out: np.ndarray, a: np.ndarray, panels: np.ndarray, bias: np.ndarray = NONE, add: bool = False
    ) -> None:
        """out = x @ W + bias for the operand `a` of x; with `add`, out += x @ W."""
        kernels = self.workspace.kernels.products
        kernels.affine(rows(out), a, panels, bias, add, self.workspace.need(kernels.scratch_size(a.shape[1])))

    def add_gradient(self, dweight: np.ndarray, a: np.ndarray, d: np.ndarray) -> None:
        """dweight += x^T dz, for the operands of x and dz."""
        kernels = self.workspace.kernels.products
        kernels.add_gradient(dweight, a, d, self.workspace.need(kernels.scratch_size(a.shape[1])))


def add_sums(gradient: np.ndarray, dy: np.ndarray) -> None:
    """gradient += dy, summed over the leading axes that only dy has."""
    products.add_column_sums(gradient.reshape(-1), dy.reshape(-1, gradient.size))
