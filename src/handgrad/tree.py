"""Trees of arrays: NamedTuples, tuples and lists, nested; `None` is an absent branch.

Parameters, gradients and everything saved for a backward pass are such trees. `pack` lays a tree's arrays
into one flat buffer, so that clipping, an optimizer's step and a checkpoint are each one pass over one
array.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")


def is_array(node: Any) -> bool:
    """Whether `node` is an array of the array API (a scalar that NumPy made counts: it has no axes)."""
    return hasattr(node, "__array_namespace__")


def named_leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every array of `tree` with its dotted name, such as `blocks.0.norm1.gamma`, in order."""
    if is_array(tree):
        yield name, tree
    elif isinstance(tree, tuple | list):
        fields = getattr(tree, "_fields", range(len(tree)))
        for field, child in zip(fields, tree, strict=True):
            yield from named_leaves(child, f"{name}.{field}" if name else str(field))


def leaves(tree: Any) -> list[Any]:
    """Every array of `tree`, in the order of the fields."""
    return [leaf for _, leaf in named_leaves(tree)]


def map(function: Callable[..., Any], tree: T, *others: T) -> T:
    """A tree of the same type with `function(leaf, *leaves of the others)` in each array's place."""
    if is_array(tree):
        return function(tree, *others)
    if isinstance(tree, tuple | list):
        children = [map(function, *nodes) for nodes in zip(tree, *others, strict=True)]
        return type(tree)(*children) if hasattr(tree, "_fields") else type(tree)(children)
    return tree


def size(tree: Any) -> int:
    """How many numbers `tree` holds."""
    return sum(math.prod(leaf.shape) for leaf in leaves(tree))


def views(flat: np.ndarray, like: T) -> T:
    """A tree shaped as `like` whose arrays are views into `flat`, one after the other."""
    position = 0

    def cut(leaf: Any) -> np.ndarray:
        nonlocal position
        start, position = position, position + math.prod(leaf.shape)
        return flat[start:position].reshape(leaf.shape)

    return map(cut, like)


def pack(tree: T, dtype: Any = np.float32) -> tuple[np.ndarray, T]:
    """Copy `tree` into one new buffer; return the buffer and the tree of views into it."""
    flat = np.empty(size(tree), dtype)
    packed = views(flat, tree)
    copy_into(packed, tree)
    return flat, packed


def copy_into(target: T, source: T) -> None:
    """Write every array of `source` over the one in its place in `target`."""
    for to, values in zip(leaves(target), leaves(source), strict=True):
        if to.shape != values.shape:
            raise ValueError(f"an array of shape {values.shape} does not go where one of {to.shape} is")
        to[...] = values
