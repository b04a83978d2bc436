"""Trees of arrays: their names, their order, and one buffer under all of them."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from handgrad import tree
from handgrad.parameters import (
    Block,
    FeedForward,
    LayerNorm,
    Linear,
    MultiHeadAttention,
    RMSNorm,
    Transformer,
)


class Pair(NamedTuple):
    left: Any
    right: Any = None


leaves = arrays(np.float32, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
trees = st.recursive(
    leaves | st.none(),
    lambda children: (
        st.lists(children, max_size=3)
        | st.lists(children, max_size=3).map(tuple)
        | st.builds(Pair, children, children)
    ),
    max_leaves=8,
)


def same(a: Any, b: Any) -> bool:
    """Whether two trees have the same types, names, shapes and bits."""
    if tree.is_array(a):
        return tree.is_array(b) and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a is b


def linear(m: int, n: int) -> Linear:
    return Linear(np.zeros((m, n)), np.zeros(n))


def test_names_are_paths_in_the_order_of_the_fields():
    bare = Linear(np.zeros((2, 2)))
    block = Block(
        norm1=LayerNorm(np.zeros(2), np.zeros(2)),
        attention=MultiHeadAttention(bare, bare, bare, linear(2, 2), key_norm=RMSNorm(np.zeros(2))),
        norm2=RMSNorm(np.zeros(2)),
        feed_forward=FeedForward(up=linear(2, 3), down=linear(3, 2), alpha=np.zeros(3)),
    )
    model = Transformer(np.zeros((5, 2)), None, (block, block), RMSNorm(np.zeros(2)), None)
    names = [name for name, _ in tree.named_leaves(model)]
    of_a_block = [
        "norm1.gamma",
        "norm1.beta",
        "attention.query.weight",
        "attention.key.weight",
        "attention.value.weight",
        "attention.output.weight",
        "attention.output.bias",
        "attention.key_norm.gamma",
        "norm2.gamma",
        "feed_forward.up.weight",
        "feed_forward.up.bias",
        "feed_forward.down.weight",
        "feed_forward.down.bias",
        "feed_forward.alpha",
    ]
    blocks = [f"blocks.{i}.{name}" for i in (0, 1) for name in of_a_block]
    assert names == ["embedding", *blocks, "norm.gamma"]


def test_names_begin_with_the_name_of_the_tree():
    assert [name for name, _ in tree.named_leaves(linear(2, 3), "up")] == ["up.weight", "up.bias"]
    assert [name for name, _ in tree.named_leaves(np.zeros(3), "alpha")] == ["alpha"]


def test_none_is_an_absent_branch():
    weight = np.ones((2, 3))
    absent = Linear(weight, None)
    assert [name for name, _ in tree.named_leaves(absent)] == ["weight"]
    assert tree.size(absent) == 6
    assert tree.map(np.negative, absent).bias is None
    assert tree.leaves(None) == []
    _, packed = tree.pack(absent)
    assert packed.bias is None


@given(trees)
def test_pack_copies_every_number_and_keeps_the_type(original):
    flat, packed = tree.pack(original)
    assert same(packed, original)
    assert flat.dtype == np.float32
    assert flat.size == tree.size(original) == sum(leaf.size for leaf in tree.leaves(original))
    expected = [leaf.reshape(-1) for leaf in tree.leaves(original)]
    assert flat.tobytes() == b"".join(part.tobytes() for part in expected)


@given(trees)
def test_views_undo_pack(original):
    flat, _ = tree.pack(original)
    assert same(tree.views(flat, original), original)


@given(trees)
def test_map_with_the_identity_changes_nothing(original):
    assert same(tree.map(lambda leaf: leaf, original), original)


@given(trees)
def test_pack_leaves_the_original_alone(original):
    flat, packed = tree.pack(original)
    for leaf, view in zip(tree.leaves(original), tree.leaves(packed), strict=True):
        assert not np.shares_memory(leaf, view)
        assert leaf.size == 0 or np.shares_memory(flat, view)


def test_the_tree_and_its_buffer_are_one_memory():
    flat, packed = tree.pack(linear(2, 3))
    flat[:] = np.arange(9)
    np.testing.assert_array_equal(packed.weight, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(packed.bias, [6, 7, 8])
    packed.weight[1, 0] = -1.0
    assert flat[3] == -1.0


def test_pack_takes_the_type_it_is_told():
    assert tree.pack(linear(2, 3))[0].dtype == np.float32
    flat, packed = tree.pack(linear(2, 3), np.float64)
    assert flat.dtype == packed.weight.dtype == packed.bias.dtype == np.float64


def test_map_takes_the_leaves_of_several_trees_together_and_keeps_types():
    nested = (Linear(np.full((2, 2), 2.0), None), [np.full(3, 3.0)])
    result = tree.map(lambda a, b: a * b + b, nested, nested)
    assert type(result) is tuple
    assert type(result[0]) is Linear
    assert type(result[1]) is list
    np.testing.assert_array_equal(result[0].weight, 6.0)
    np.testing.assert_array_equal(result[1][0], 12.0)


def test_map_refuses_trees_of_different_lengths():
    with pytest.raises(ValueError, match="zip"):
        tree.map(np.add, (np.zeros(2), np.zeros(2)), (np.zeros(2),))


def test_copy_into_writes_into_the_same_memory():
    flat, packed = tree.pack(linear(2, 3))
    tree.copy_into(packed, Linear(np.ones((2, 3)), np.full(3, 2.0)))
    np.testing.assert_array_equal(flat, [1.0] * 6 + [2.0] * 3)


def test_a_scalar_that_numpy_made_is_an_array_without_axes():
    assert tree.is_array(np.float64(1.0))
    assert not tree.is_array(1.0)
    assert tree.size((np.float32(1.0), np.zeros((2, 0)))) == 1
