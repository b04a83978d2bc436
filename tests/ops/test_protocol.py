"""What every op promises beside its formula: it is pure, keeps its type, needs only the array API."""

import copy
import pkgutil
from typing import Any

import array_api_strict
import jaxtyping
import numpy as np
import pytest

from handgrad import ops, tree


def bits(*values: Any) -> list[tuple[str, Any, tuple[int, ...], bytes]]:
    """Every array as its name, type, shape and bytes: equal lists are equal to the bit."""
    return [(name, leaf.dtype, leaf.shape, leaf.tobytes()) for name, leaf in tree.named_leaves(values)]


def is_float(array: Any) -> bool:
    return np.issubdtype(array.dtype, np.floating)


def cast(inputs: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """The same inputs with every float array, settings included, in `dtype`."""
    return {
        name: tree.map(lambda leaf: leaf.astype(dtype) if is_float(leaf) else leaf, value)
        for name, value in inputs.items()
    }


def upstream(y: Any, rng: np.random.Generator) -> np.ndarray:
    return np.asarray(rng.normal(size=y.shape)).astype(y.dtype)


def test_every_file_in_the_folder_is_an_op_of_all():
    assert list(ops.ALL) == sorted(module.name for module in pkgutil.iter_modules(ops.__path__))


@pytest.mark.parametrize("name", ops.ALL)
def test_an_op_is_a_derivation_what_it_saves_forward_backward_and_cases(name):
    op = ops.ALL[name]
    assert "$" in op.__doc__  # a formula, not only words
    assert issubclass(op.Saved, tuple)
    assert callable(op.forward)
    assert callable(op.backward)
    assert len(list(op.cases(np.random.default_rng(0)))) > 0


def test_saved_is_a_named_tuple(op, inputs):
    _, saved = op.forward(**inputs)
    assert type(saved) is op.Saved
    assert set(saved._fields) == set(op.Saved.__annotations__)


def test_no_input_is_written_to(op, inputs, rng):
    before = bits(*inputs.values())
    y, saved = op.forward(**inputs)
    assert bits(*inputs.values()) == before

    dy = upstream(y, rng)
    before = bits(*inputs.values(), y, dy, saved)
    op.backward(dy, saved)
    assert bits(*inputs.values(), y, dy, saved) == before


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_goes_in_and_comes_out(op, inputs, dtype, rng):
    y, saved = op.forward(**cast(inputs, dtype))
    gradients = op.backward(upstream(y, rng), saved)
    assert y.dtype == dtype
    assert {leaf.dtype for leaf in tree.leaves(gradients)} == {np.dtype(dtype)}
    assert {leaf.dtype for leaf in tree.leaves(saved) if is_float(leaf)} <= {np.dtype(dtype)}


def test_float32_agrees_with_float64(op, inputs, rng):
    results = {}
    dy = None
    for dtype in (np.float64, np.float32):
        y, saved = op.forward(**copy.deepcopy(cast(cast(inputs, np.float32), dtype)))
        dy = upstream(y, rng) if dy is None else dy
        results[dtype] = tree.leaves((y, op.backward(np.asarray(dy.astype(dtype)), saved)))
    for half, full in zip(results[np.float32], results[np.float64], strict=True):
        # a few dozen roundings of 6e-8 each, against the largest number in the array: sums cancel
        np.testing.assert_allclose(half, full, rtol=0, atol=1e-5 * max(1.0, np.max(np.abs(full))))


def test_the_same_inputs_give_the_same_bits(op, inputs, rng):
    copies = copy.deepcopy(inputs)  # a generator among them starts anew
    y, saved = op.forward(**inputs)
    dy = upstream(y, rng)
    again, saved_again = op.forward(**copies)
    assert bits(y, saved, op.backward(dy, saved)) == bits(again, saved_again, op.backward(dy, saved_again))


def test_nothing_but_the_array_api_is_needed(op, inputs, rng):
    strict_inputs = {
        name: tree.map(array_api_strict.asarray, value) for name, value in copy.deepcopy(inputs).items()
    }
    y, saved = op.forward(**inputs)
    dy = upstream(y, rng)
    strict_y, strict_saved = op.forward(**strict_inputs)
    strict_gradients = op.backward(array_api_strict.asarray(dy), strict_saved)

    for array, strict in zip(
        tree.leaves((y, op.backward(dy, saved))), tree.leaves((strict_y, strict_gradients)), strict=True
    ):
        assert isinstance(strict, array_api_strict._array_object.Array)
        # NumPy computes both, by the same steps: a rounding at most, where a product is laid out otherwise
        np.testing.assert_allclose(np.from_dlpack(strict), array, rtol=1e-14, atol=1e-14)


def test_shape_annotations_are_checked_while_tests_run(rng):
    x, weight = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    with pytest.raises(jaxtyping.TypeCheckError):
        ops.linear.forward(x, weight, np.zeros(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        ops.embedding.forward(weight, x)
