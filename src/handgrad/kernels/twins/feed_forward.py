"""The twin of `ops.feed_forward`: the twins of its parts, gated or not.

Without a gate neither z nor f(z) is kept in full: the activation writes the operand of the product that
follows, and its derivative, rounded too.
"""

from typing import Any, NamedTuple

import numpy as np

from handgrad.kernels import elementwise
from handgrad.kernels.twins.activation import ActivationTwin
from handgrad.kernels.twins.linear import LinearTwin
from handgrad.kernels.workspace import Weight, Workspace
from handgrad.parameters import Linear


class FeedForwardTwin:
    class Saved(NamedTuple):
        up: LinearTwin.Saved
        act: ActivationTwin.Saved
        down: LinearTwin.Saved

    class GatedSaved(NamedTuple):
        up: LinearTwin.Saved
        gate: LinearTwin.Saved
        act: ActivationTwin.Saved
        down: LinearTwin.Saved
        opened: np.ndarray
        """f(gate), which multiplies z."""
        z: np.ndarray

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.linear, self.activation = LinearTwin(workspace), ActivationTwin(workspace)

    def forward(
        self,
        x: np.ndarray,
        up: Linear,
        down: Linear,
        gate: Linear | None = None,
        alpha: Weight | None = None,
        *,
        activation: str = "relu",
    ) -> tuple[np.ndarray, Saved | GatedSaved]:
        workspace, linear = self.workspace, self.linear
        first = LinearTwin.Saved(workspace.operand(x), *up)
        if gate is not None:
            return self._forward_gated(x, first, down, gate, alpha, activation)
        workspace.passing.reset()
        z = linear.apply(workspace.unrounded(*x.shape[:-1], up.weight.value.shape[1]), first)
        act = ActivationTwin.Saved(activation, workspace.slopes(z), alpha)
        h = workspace.new_operand(z, workspace.arena)
        self.activation.write(h, z, act)
        last = LinearTwin.Saved(h, *down)
        return linear.apply(workspace.like(x), last), self.Saved(first, act, last)

    def backward(self, dy: np.ndarray, saved: Saved | GatedSaved) -> tuple[Any, ...]:
        """dx is written into `passing`."""
        workspace, linear = self.workspace, self.linear
        workspace.passing.reset()
        if isinstance(saved, self.GatedSaved):
            return self._backward_gated(dy, saved)
        up, act, down = saved
        dh, (ddown,) = linear.backward_of_several([(dy, down)])
        dz = workspace.passing_operand_or(dh)
        dalpha = self.activation.write_backward(dz, dh, act)
        linear.add_gradient(up.weight, up.a, dz)
        if up.bias is not None:
            workspace.kernels.products.add_column_sums(up.bias.gradient, dz)
        dx = workspace.passing.take(*dy.shape)
        linear.product(dx, dz, up.weight.transposed)
        dup = Linear(up.weight.gradient, None if up.bias is None else up.bias.gradient)
        return dx, dup, Linear(*ddown), None, dalpha

    def _forward_gated(
        self,
        x: np.ndarray,
        up: LinearTwin.Saved,
        down: Linear,
        gate: Linear,
        alpha: Weight | None,
        activation: str,
    ) -> tuple[np.ndarray, GatedSaved]:
        workspace, linear = self.workspace, self.linear
        opener = LinearTwin.Saved(up.a, *gate)
        z, g = (workspace.arena.take(*x.shape[:-1], up.weight.value.shape[1]) for _ in range(2))
        linear.apply(z, up)
        opened, act = self.activation.forward(linear.apply(g, opener), alpha, name=activation)
        workspace.passing.reset()
        h = workspace.unrounded(*z.shape)
        elementwise.multiply(h.reshape(-1), opened.reshape(-1), z.reshape(-1))
        last = LinearTwin.Saved(workspace.operand(h), *down)
        return linear.apply(workspace.like(x), last), self.GatedSaved(up, opener, act, last, opened, z)

    def _backward_gated(self, dy: np.ndarray, saved: GatedSaved) -> tuple[Any, ...]:
        dh, (ddown,) = self.linear.backward_of_several([(dy, saved.down)])
        flat, dz, z = dh.reshape(-1), saved.opened, saved.z.reshape(-1)
        elementwise.multiply_by(dz.reshape(-1), flat)  # dz = dh * f(g), written into f(g)
        elementwise.multiply_by(flat, z)  # d f(g) = dh * z, written into dh
        dg, dalpha = self.activation.backward(dh, saved.act)
        dx, (dup, dgate) = self.linear.backward_of_several([(dz, saved.up), (dg, saved.gate)])
        return dx, Linear(*dup), Linear(*ddown), Linear(*dgate), dalpha
