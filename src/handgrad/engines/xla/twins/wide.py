"""Computing in float32 what is stored in bfloat16, and telling XLA when to compute a thing anew."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from handgrad.gradcheck import Op
from handgrad.shapes import Array


def widened(tree: Any) -> Any:
    """bfloat16 arrays as float32; all else as it is."""
    return jax.tree.map(lambda x: x.astype(jnp.float32) if is_narrow(x) else x, tree)


def is_narrow(x: Any) -> bool:
    return getattr(x, "dtype", None) == jnp.bfloat16


class Wide:
    """An op that computes in float32 on bfloat16 arrays. A gradient has its input's type, y the first's."""

    class Saved(NamedTuple):
        inner: Any
        """What the op saved, with the inputs as they came."""
        types: tuple[Any, ...]
        """The types of the inputs."""

    def __init__(self, op: Op):
        self.op = op

    def forward(self, *inputs: Any, **settings: Any) -> tuple[Array, Saved]:
        wide = widened(inputs)
        came = dict(zip(map(id, jax.tree.leaves(wide)), jax.tree.leaves(inputs), strict=True))
        y, saved = self.op.forward(*wide, **settings)
        saved = jax.tree.map(lambda leaf: came.get(id(leaf), leaf), saved)
        types = tuple(getattr(x, "dtype", None) for x in inputs)
        return y.astype(types[0]) if y.ndim else y, self.Saved(saved, types)

    def backward(self, dy: Any, saved: Saved) -> tuple[Any, ...]:
        gradients = self.op.backward(widened(dy), widened(saved.inner))
        return tuple(
            None if g is None else g.astype(dtype) for g, dtype in zip(gradients, saved.types, strict=False)
        )


def wide_type(x: Array) -> Any:
    return jnp.float32 if is_narrow(x) else x.dtype


def anew(values: Any) -> Any:
    """The same values, of which XLA does not know that it has computed with them before."""
    return lax.optimization_barrier(values)
