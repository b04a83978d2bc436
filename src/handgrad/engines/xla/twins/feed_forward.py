"""The twin of `ops.feed_forward`."""

from typing import Any, NamedTuple

from handgrad import ops
from handgrad.engines.xla.twins.wide import anew, widened
from handgrad.ops import linear
from handgrad.ops.activation import Elementwise
from handgrad.parameters import Linear
from handgrad.shapes import Array, Float


class FeedForward:
    """As `ops.feed_forward`. Of what stands between the products it keeps the first products, without their
    biases: what follows is computed in backward again, while they are read."""

    class Saved(NamedTuple):
        x: Float[Array, "*B D"]
        z: Float[Array, "*B F"]
        g: Float[Array, "*B F"] | None
        weights: tuple[Linear, Linear, Linear | None]
        """Up, down, gate."""
        alpha: Float[Array, " F"] | None
        activation: Elementwise

    def forward(
        self,
        x: Float[Array, "*B D"],
        up: Linear,
        down: Linear,
        gate: Linear | None = None,
        alpha: Float[Array, " F"] | None = None,
        *,
        activation: Elementwise = "relu",
    ) -> tuple[Float[Array, "*B D"], Saved]:
        z, _ = linear.forward(x, up.weight)
        g = None if gate is None else linear.forward(x, gate.weight)[0]
        saved = self.Saved(x, z, g, (up, down, gate), alpha, activation)
        y, _ = linear.forward(_between(saved)[0], *down)
        return y, saved

    def backward(self, dy: Float[Array, "*B D"], saved: Saved) -> tuple[Any, ...]:
        up, down, gate = saved.weights
        h, _ = _between(saved)  # where forward's is still there, XLA takes that
        # the barrier: XLA must not keep forward's, in float32, instead of computing it again
        _, between = _between(saved._replace(z=anew(saved.z), g=anew(saved.g)))
        dh, *ddown = linear.backward(dy, linear.Saved(h, *down))
        op = ops.activation if gate is None else ops.gated
        gradients = op.backward(widened(dh), between)
        *dinner, dalpha = (None if d is None else d.astype(dy.dtype) for d in gradients)
        dinner = anew(dinner)  # the sum for the bias reads it, instead of computing it again
        dx, *dup = linear.backward(dinner[-1], linear.Saved(saved.x, *up))
        dgate = None
        if gate is not None:
            dx_gate, *dweights = linear.backward(dinner[0], linear.Saved(saved.x, *gate))
            dx, dgate = dx_gate + dx, Linear(*dweights)
        return dx, Linear(*dup), Linear(*ddown), dgate, dalpha


def _between(saved: FeedForward.Saved) -> tuple[Float[Array, "*B F"], Any]:
    """What stands between the products, in float32 or wider, and what its backward needs."""
    up, _, gate = saved.weights
    alpha, z = widened(saved.alpha), _plus(widened(saved.z), up.bias)
    between: Any
    if gate is None:
        h, between = ops.activation.forward(z, alpha, name=saved.activation)
    else:
        g = _plus(widened(saved.g), gate.bias)
        h, between = ops.gated.forward(g, z, alpha, activation=saved.activation)
    return h.astype(saved.z.dtype), between


def _plus(x: Array, bias: Array | None) -> Array:
    return x if bias is None else x + widened(bias)
