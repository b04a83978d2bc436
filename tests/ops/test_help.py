"""Whoever asks Python for help on an op is shown its formula."""

import inspect
import pydoc

import pytest

from handgrad import ops, optim


@pytest.mark.parametrize("function", ["forward", "backward"])
@pytest.mark.parametrize("name", ops.ALL)
def test_help_on_a_function_of_an_op_shows_its_formula(name, function):
    op = ops.ALL[name]
    formula = inspect.getdoc(op)
    assert inspect.getdoc(getattr(op, function)) == formula
    assert formula.partition("\n")[0] in pydoc.plain(pydoc.render_doc(getattr(op, function)))


@pytest.mark.parametrize(
    "optimizer", [optim.gradient_descent, optim.momentum, optim.adam, optim.adamw, optim.muon]
)
def test_help_on_a_step_of_an_optimizer_shows_its_formula(optimizer):
    assert inspect.getdoc(optimizer.update) == inspect.getdoc(optimizer)
    assert r"W \leftarrow" in inspect.getdoc(optimizer.update)
