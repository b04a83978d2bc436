"""Every hand-derived gradient is proved by measuring, and the proof itself is put to the test."""

import copy
import itertools
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from handgrad import gradcheck, ops, tree

SLIP = 1e-4
"""The relative error planted in a whole gradient."""


def run(op: Any, inputs: dict[str, Any], rng: np.random.Generator) -> tuple[Any, Any, Any]:
    """A random upstream gradient, what the forward saved, and the gradients."""
    y, saved = op.forward(**copy.deepcopy(inputs))
    dy = np.asarray(rng.normal(size=y.shape))
    return dy, saved, op.backward(dy, saved)


def with_slip(op: ModuleType, number: int, slip: Callable[[np.ndarray], np.ndarray]) -> SimpleNamespace:
    """A stand-in for `op` whose backward makes `slip` in one of its arrays."""

    def backward(dy: Any, saved: Any) -> Any:
        count = itertools.count()
        return tree.map(lambda g: slip(g) if next(count) == number else g, op.backward(dy, saved))

    return SimpleNamespace(forward=op.forward, backward=backward)


def described(value: Any, name: str) -> list[tuple[str, tuple[int, ...], Any]]:
    return [(path, leaf.shape, leaf.dtype) for path, leaf in tree.named_leaves(value, name)]


def test_backward_is_the_gradient_of_forward(op, inputs, differentiable, rng):
    proofs = gradcheck.check(op, inputs, rng)
    names = [path for name, value in differentiable.items() for path, _ in tree.named_leaves(value, name)]
    assert [proof.input for proof in proofs] == names
    assert [proof for proof in proofs if not proof.passed] == []


def test_every_float_input_has_a_gradient_shaped_and_typed_like_it(op, inputs, differentiable, rng):
    _, _, gradients = run(op, inputs, rng)
    assert type(gradients) is tuple
    for (name, value), gradient in zip(differentiable.items(), gradients, strict=True):
        assert described(gradient, name) == described(value, name)
        assert isinstance(gradient, type(value))


def test_backward_is_pure(op, inputs, rng):
    dy, saved, first = run(op, inputs, rng)
    before = copy.deepcopy((dy, saved))
    second = op.backward(dy, saved)
    for a, b in zip(tree.leaves((*before, first)), tree.leaves((dy, saved, second)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_backward_is_linear_in_the_upstream_gradient(op, inputs, rng):
    dy, saved, gradients = run(op, inputs, rng)
    other = np.asarray(rng.normal(size=dy.shape))
    combined = op.backward(dy - 3.0 * other, saved)
    expected = tree.map(lambda a, b: a - 3.0 * b, gradients, op.backward(other, saved))
    for a, b in zip(tree.leaves(combined), tree.leaves(expected), strict=True):
        # rounding of sums with at most a hundred terms
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12 * max(1.0, np.max(np.abs(b))))


def test_a_gradient_off_by_one_part_in_ten_thousand_is_caught(op, inputs, rng):
    def slip(g: np.ndarray) -> np.ndarray:
        # The bias of attention's keys shifts whole rows of scores, which softmax does not see: its gradient
        # is zero but for rounding, and a factor would break nothing.
        return g * (1 + SLIP) if np.max(np.abs(g)) > 1e-12 else g + SLIP

    _, _, gradients = run(op, inputs, rng)
    for number in range(len(tree.leaves(gradients))):
        proofs = gradcheck.check(with_slip(op, number, slip), inputs, rng)
        assert [i for i, proof in enumerate(proofs) if not proof.passed] == [number]


def with_slip_in_weight(slip: np.ndarray) -> SimpleNamespace:
    """`linear` with `slip`, relative to each element, in its weight's gradient."""
    return with_slip(ops.linear, 1, lambda g: g * (1 + slip))


def test_one_element_of_65_536_off_by_a_ten_thousandth_is_caught_every_time():
    # the definition of "proved" in gradcheck: more draws and smaller slips in benchmarks/planted_slips.py
    for seed in range(20):
        rng = np.random.default_rng(seed)
        inputs = {"x": rng.normal(size=(8, 256)), "weight": rng.normal(size=(256, 256))}
        slip = np.zeros((256, 256))
        slip[tuple(rng.integers(256, size=2))] = 1e-4
        of_x, of_weight = gradcheck.check(with_slip_in_weight(slip), inputs, rng)
        assert of_x.passed
        assert not of_weight.passed


def test_two_elements_that_took_each_others_place_are_caught_every_time():
    # signs alone would let this pass in every second direction: hence several, and of several sizes
    for seed in range(20):
        rng = np.random.default_rng(seed)
        inputs = {"x": rng.normal(size=(3, 4)), "weight": rng.normal(size=(4, 2))}

        def swap(g: np.ndarray) -> np.ndarray:
            return g[[1, 0, 2, 3]] * [1, 0] + g * [0, 1]

        of_x, of_weight = gradcheck.check(with_slip(ops.linear, 1, swap), inputs, rng)
        assert of_x.passed
        assert not of_weight.passed


@pytest.mark.parametrize("name", ops.ALL)
def test_a_single_wrong_element_is_located(name, rng):
    op = ops.ALL[name]
    inputs = next(op.cases(rng))  # the first case: to measure every element of every case is slow
    _, _, gradients = run(op, inputs, rng)
    leaves = tree.leaves(gradients)
    number = int(rng.integers(len(leaves)))
    index = tuple(int(rng.integers(n)) for n in leaves[number].shape)
    slip = np.zeros(leaves[number].shape)
    slip[index] = SLIP * max(np.max(np.abs(g)) for g in leaves)

    proof = gradcheck.check_elements(with_slip(op, number, lambda g: g + slip), inputs, rng)[number]

    assert not proof.passed
    assert proof.worst() == [index]
    others = np.delete(proof.relative_errors, np.ravel_multi_index(index, slip.shape))
    assert proof.relative_errors[index] > 10 * np.max(others, initial=0.0)  # it stands out, not by a hair


def test_the_worst_elements_are_named_in_order(rng):
    inputs = {"x": rng.normal(size=(3, 4))}
    factor = np.ones((3, 4))
    factor[2, 1], factor[0, 3] = 1.5, 1.05
    (proof,) = gradcheck.check_elements(with_slip(ops.erf, 0, lambda g: g * factor), inputs, rng)
    assert proof.worst(2) == [(2, 1), (0, 3)]


def test_a_gradient_that_is_not_a_number_fails_and_is_located(rng):
    inputs = {"x": rng.normal(size=(3, 4))}
    slip = np.zeros((3, 4))
    slip[1, 2] = np.nan
    broken = with_slip(ops.tanh, 0, lambda g: g + slip)
    (proof,) = gradcheck.check(broken, inputs, rng)
    (elements,) = gradcheck.check_elements(broken, inputs, rng)
    assert not proof.passed
    assert not elements.passed
    assert elements.worst() == [(1, 2)]


def test_a_gradient_of_the_wrong_shape_is_refused_by_name(rng):
    inputs = {"x": rng.normal(size=(3, 4)), "weight": rng.normal(size=(4, 2)), "bias": rng.normal(size=2)}
    with pytest.raises(AssertionError, match="gradient of bias is not shaped like it"):
        gradcheck.check(with_slip(ops.linear, 2, lambda g: g[None]), inputs, rng)


def test_an_op_that_writes_to_its_inputs_is_refused_by_name(rng):
    def backward(dy: Any, saved: Any) -> Any:
        saved.weight[...] *= 2.0
        return ops.linear.backward(dy, saved)

    op = SimpleNamespace(forward=ops.linear.forward, backward=backward)
    with pytest.raises(AssertionError, match="writes to its input weight"):
        gradcheck.check(op, {"x": rng.normal(size=(3, 4)), "weight": rng.normal(size=(4, 2))}, rng)


def test_a_kink_beside_the_inputs_is_left_behind(rng):
    # 1e-9 from zero, every step crosses the ReLU's kink; nearby none does
    verdicts = gradcheck.check(ops.relu, {"x": np.array([1.0, -1e-9, 2.0])}, rng)
    assert [proof.passed for proof in verdicts] == [True]
    assert not next(gradcheck.proofs(ops.relu, {"x": np.array([1.0, -1e-9, 2.0])}, rng)).passed


def test_a_missing_gradient_is_refused(rng):
    inputs = {"x": rng.normal(size=(3, 4)), "h": rng.normal(size=(3, 4))}
    op = SimpleNamespace(forward=ops.residual.forward, backward=lambda dy, saved: (dy,))
    with pytest.raises(ValueError, match="zip"):
        gradcheck.check(op, inputs, rng)
