"""Every op and every preset inside `jax.jit`: hand-derived gradients are those that JAX derives itself."""

import copy
from functools import partial
from typing import Any

import numpy as np
import pytest

from handgrad import tree
from handgrad.model.cases import every_case
from handgrad.model.config import PRESETS

jax = pytest.importorskip("jax", reason="JAX is an oracle: install the extra [oracles]")
jax.config.update("jax_enable_x64", True)

TOLERANCE = 1e-9
"""Far above the rounding of a few hundred terms in float64 (1e-13), far below any difference of formula."""


def movable(value: Any) -> bool:
    """Whether JAX differentiates with respect to `value`: a tree of float arrays."""
    leaves = tree.leaves(value)
    return bool(leaves) and all(np.issubdtype(leaf.dtype, np.floating) for leaf in leaves)


def compare(op: Any, inputs: dict[str, Any], names: list[str], rng: np.random.Generator) -> None:
    """All in one compilation: ours, forward and backward, and JAX's own; `names` have a gradient."""
    arrays = {name: jax.tree.map(jax.numpy.asarray, inputs[name]) for name in names}
    expected, _ = op.forward(**copy.deepcopy(inputs))
    dy = jax.numpy.asarray(rng.normal(size=expected.shape))

    def forward(arrays: dict[str, Any]) -> Any:
        return op.forward(**{**copy.deepcopy(inputs), **arrays})  # a generator starts anew

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def everything(arrays: dict[str, Any]) -> Any:
        y, saved = forward(arrays)
        _, pull_back = jax.vjp(lambda moved: forward(moved)[0], arrays)
        return y, op.backward(dy, saved), pull_back(dy)[0]

    jax.eval_shape(forward, arrays)  # what is saved can leave a compiled function: no texts, no functions
    y, ours, theirs = everything(arrays)
    np.testing.assert_allclose(y, expected, rtol=TOLERANCE, atol=TOLERANCE)
    for name, gradient in zip(names, (g for g in ours if g is not None), strict=True):
        pairs = zip(tree.named_leaves(gradient, name), tree.leaves(theirs[name]), strict=True)
        for (path, a), b in pairs:
            np.testing.assert_allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, err_msg=path)


def test_an_op_has_the_gradients_that_jax_derives(op, inputs, differentiable, rng):
    compare(op, inputs, [name for name, value in differentiable.items() if movable(value)], rng)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_gradients_that_jax_derives(name, rng):
    (case,) = every_case(name)
    compare(case.op, case.inputs, ["weights"], rng)
