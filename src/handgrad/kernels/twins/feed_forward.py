"""The twin of `ops.feed_forward`: the twins of its parts, gated or not.

Without a gate f(z) never exists in full precision: the activation writes the operand of the product that
follows, and its derivative the operand of the two that follow it.
"""

from typing import Any, NamedTuple

import numpy as np

from handgrad.kernels import elementwise
from handgrad.kernels.twins.activation import ActivationTwin
from handgrad.kernels.twins.linear import LinearTwin, add_sums
from handgrad.kernels.workspace import Weight, Workspace, rows, value_of
from handgrad.parameters import Linear


class FeedForwardTwin:
    class Saved(NamedTuple):
        up: LinearTwin.Saved
        act: ActivationTwin.Saved
        h: np.ndarray
        """The operand of f(z)."""
        down: Linear

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
        if gate is not None:
            return self._forward_gated(x, up, down, gate, alpha, activation)
        z, saved_up = self.linear.forward(x, *up)
        act = ActivationTwin.Saved(activation, z, alpha)
        h = self.workspace.new_operand(z, self.workspace.arena)
        self.activation.write(h, act)
        y = self.workspace.like(x)
        self.linear.product(y, h, down.weight.panels, value_of(down.bias))
        return y, self.Saved(saved_up, act, h, down)

    def backward(self, dy: np.ndarray, saved: Saved | GatedSaved) -> tuple[Any, ...]:
        """dx is written into x."""
        if isinstance(saved, self.GatedSaved):
            return self._backward_gated(dy, saved)
        workspace, linear = self.workspace, self.linear
        x, a, up, up_bias = saved.up
        down, down_bias = saved.down
        workspace.passing.reset()
        d = workspace.passing_operand(dy)
        linear.add_gradient(down.gradient, saved.h, d)
        if down_bias is not None:
            add_sums(down_bias.gradient, dy)
        dz = dh = saved.h  # all three have one place where they are float32
        if dh.dtype != np.float32:
            dh = workspace.passing.take(*rows(saved.act.x).shape)
            dz = workspace.new_operand(dh, workspace.passing)
        linear.product(dh, d, down.transposed)
        dalpha = self.activation.write_backward(dz, dh, saved.act)
        linear.add_gradient(up.gradient, a, dz)
        if up_bias is not None:
            workspace.kernels.products.add_column_sums(up_bias.gradient, dz)
        linear.product(x, dz, up.transposed)
        return x, _gradients(up, up_bias), _gradients(down, down_bias), None, dalpha

    def _forward_gated(
        self, x: np.ndarray, up: Linear, down: Linear, gate: Linear, alpha: Weight | None, activation: str
    ) -> tuple[np.ndarray, GatedSaved]:
        (z, saved_up), (g, saved_gate) = self.linear.forward_of_several(x, [up, gate])
        opened, act = self.activation.forward(g, alpha, name=activation)
        h = self.workspace.like(z)
        elementwise.multiply(h.reshape(-1), opened.reshape(-1), z.reshape(-1))
        y, saved_down = self.linear.forward(h, *down)
        return y, self.GatedSaved(saved_up, saved_gate, act, saved_down, opened, z)

    def _backward_gated(self, dy: np.ndarray, saved: GatedSaved) -> tuple[Any, ...]:
        dh, *ddown = self.linear.backward(dy, saved.down)
        flat, dz, z = dh.reshape(-1), saved.opened, saved.z.reshape(-1)
        elementwise.multiply_by(dz.reshape(-1), flat)  # dz = dh * f(g), written into f(g)
        elementwise.multiply_by(flat, z)  # d f(g) = dh * z, written into dh
        dg, dalpha = self.activation.backward(dh, saved.act)
        dx, (dup, dgate) = self.linear.backward_of_several([(dz, saved.up), (dg, saved.gate)])
        return dx, Linear(*dup), Linear(*ddown), Linear(*dgate), dalpha


def _gradients(weight: Weight, bias: Weight | None) -> Linear:
    return Linear(weight.gradient, None if bias is None else bias.gradient)
