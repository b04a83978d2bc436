r"""Axis letters, array types, and changes of layout that several formulas share.

| letter | axis                    | letter | axis                                  |
|--------|-------------------------|--------|---------------------------------------|
| `B`    | batch                   | `H`    | query heads                           |
| `T`    | positions of queries    | `G`    | key-value heads (a divisor of H)      |
| `S`    | positions of keys       | `K`    | width of one head                     |
| `D`    | width of the model      | `F`    | width inside the feed-forward block   |
| `V`    | vocabulary              | `L`    | layers                                |

`*B` is any number of leading axes, also none. An array is anything that follows the Python array API
(https://data-apis.org/array-api), such as a NumPy array, or a JAX array on an accelerator.
"""

import sys
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING or sys.modules.get("jaxtyping"):  # the tests import it first, and check every call by it
    from jaxtyping import Bool, Float, Int
else:

    class Shaped:
        """`Float[Array, "B T"]` where nothing checks it: an array, and its shape in words."""

        def __class_getitem__(cls, what):
            return Annotated[what]

    Bool = Float = Int = Shaped

Array: TypeAlias = Any
"""Any array of the array API; the dimension string beside it says the shape."""

__all__ = [
    "Array",
    "Bool",
    "Float",
    "Int",
    "UniformSource",
    "average",
    "inverse_root",
    "merge_heads",
    "product_over_rows",
    "split_heads",
    "sum_to",
]


@runtime_checkable
class UniformSource(Protocol):
    """Where dropout takes its numbers from: `numpy.random.Generator`, or anything that draws like it."""

    def random(self, size: tuple[int, ...]) -> Array:
        """Uniform numbers in [0, 1) of shape `size`."""


def average(x: Float[Array, "*B D"]) -> Float[Array, "*B 1"]:
    """The mean over the last axis, kept as an axis of length one: the angle brackets of the norms."""
    return x.__array_namespace__().mean(x, axis=-1, keepdims=True)


def inverse_root(x: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """x^(-1/2), and NaN where x is infinite: a sum that overflowed says nothing about its terms."""
    xp = x.__array_namespace__()
    return xp.where(x == xp.inf, xp.nan, x) ** -0.5


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    r"""Undo broadcasting: sum `x` over the axes along which an array of `shape` was repeated.

    $$dx = \sum_{\text{copies}} dy$$
    """
    xp = x.__array_namespace__()
    n_new = x.ndim - len(shape)
    repeated = [n_new + axis for axis, size in enumerate(shape) if size == 1 and x.shape[n_new + axis] != 1]
    axes = (*range(n_new), *repeated)
    return xp.reshape(xp.sum(x, axis=axes), shape) if axes else x


def product_over_rows(x: Float[Array, "*B M"], y: Float[Array, "*B N"]) -> Float[Array, "M N"]:
    """x^T y, all leading axes read as rows: the gradient of a weight."""
    xp = x.__array_namespace__()
    rows_of_x = xp.reshape(x, (-1, x.shape[-1]))
    return xp.matmul(rows_of_x.T, xp.reshape(y, (-1, y.shape[-1])))


def split_heads(x: Float[Array, "B T D"], n_heads: int) -> Float[Array, "B H T K"]:
    """Cut the last axis into heads, and move the heads before the positions."""
    xp = x.__array_namespace__()
    B, T, D = x.shape
    return xp.permute_dims(
        xp.reshape(x, (B, T, n_heads, D // n_heads)), (0, 2, 1, 3)
    )  # (B,T,H,K) -> (B,H,T,K)


def merge_heads(x: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
    """Undo `split_heads`: concatenate the heads of each position."""
    xp = x.__array_namespace__()
    B, H, T, K = x.shape
    return xp.reshape(xp.permute_dims(x, (0, 2, 1, 3)), (B, T, H * K))
