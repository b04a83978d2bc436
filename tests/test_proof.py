"""The list of proofs judges an input by its worst case, and a tree of arrays by its worst array."""

import math

import numpy as np

from handgrad import ops, proof, tree


def test_a_nan_in_one_case_of_an_op_fails_it(monkeypatch):
    right = ops.softmax.backward
    monkeypatch.setattr(
        ops.softmax,
        "backward",
        lambda dy, saved: tree.map(lambda g: g * _nan_if(g.ndim == 3), right(dy, saved)),
    )
    assert len({inputs["x"].ndim for inputs in ops.softmax.cases(np.random.default_rng(0))}) > 1
    (x,) = proof.check("softmax")
    assert math.isnan(x.relative_error)
    assert not x.passed


def test_a_nan_in_one_array_of_a_tree_fails_it_and_is_named(monkeypatch):
    right = ops.embedding.backward
    monkeypatch.setattr(
        ops.embedding, "backward", lambda *given: tree.map(lambda g: g * math.nan, right(*given))
    )
    (weights,) = proof.check("nano")  # its embedding is the first of many arrays
    assert weights.worst == "embedding"
    assert math.isnan(weights.relative_error)
    assert not weights.passed


def _nan_if(wrong):
    return math.nan if wrong else 1.0
