"""The twin of `ops.feed_forward`: the twins of its parts, gated or not."""

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
        gate: LinearTwin.Saved | None
        act: ActivationTwin.Saved
        down: LinearTwin.Saved
        opened: np.ndarray | None
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
    ) -> tuple[np.ndarray, Saved]:
        z, saved_up = self.linear.forward(x, *up)
        saved_gate, opened = None, None
        if gate is None:
            h, act = self.activation.forward(z, alpha, name=activation)
        else:
            g, saved_gate = self.linear.forward(x, *gate)
            opened, act = self.activation.forward(g, alpha, name=activation)
            h = self.workspace.like(z)
            elementwise.multiply(h.reshape(-1), opened.reshape(-1), z.reshape(-1))
        y, saved_down = self.linear.forward(h, *down)
        return y, self.Saved(saved_up, saved_gate, act, saved_down, opened, z)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[Any, ...]:
        """dx is written into x."""
        dh, *ddown = self.linear.backward(dy, saved.down)
        if saved.gate is None or saved.opened is None:
            dz, dalpha = self.activation.backward(dh, saved.act)
            dx, dweight, dbias = self.linear.backward(dz, saved.up)
            return dx, Linear(dweight, dbias), Linear(*ddown), None, dalpha
        flat, dz, z = dh.reshape(-1), saved.opened, saved.z.reshape(-1)
        elementwise.multiply_by(dz.reshape(-1), flat)  # dz = dh * f(g), written into f(g)
        elementwise.multiply_by(flat, z)  # d f(g) = dh * z, written into dh
        dg, dalpha = self.activation.backward(dh, saved.act)
        dx, (dup, dgate) = self.linear.backward_of_several([(dz, saved.up), (dg, saved.gate)])
        return dx, Linear(*dup), Linear(*ddown), Linear(*dgate), dalpha
