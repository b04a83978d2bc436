"""What is wrong with a gradient is said in the terms in which it was derived."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad import ops
from handgrad.lessons import exercise, slips
from handgrad.shapes import average, sum_to

RNG = np.random.default_rng(1)
FIRST, SECOND = RNG.normal(size=(2, 4, 4))
TERMS = {"one": FIRST, "two": SECOND}


@given(st.sampled_from([-1.0, 0.0, 0.5, 3.0]), st.sampled_from(["one", "two"]))
def test_a_term_with_another_factor_is_named(factor, name):
    found = FIRST + SECOND + (factor - 1) * TERMS[name]
    said = slips.compared(found, FIRST + SECOND, TERMS)
    words = {-1.0: "has the wrong sign", 0.0: "is missing", 0.5: "counts 0.5 times", 3.0: "counts 3 times"}
    assert said == f"the term {name} {words[factor]}"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (FIRST + SECOND.T, "the term two is transposed"),
        (FIRST + SECOND * np.arange(1, 5)[:, None], "the term two is multiplied by something else .* axis 0"),
        ((FIRST + SECOND).T, "all of it is transposed"),
        (2 * (FIRST + SECOND), "all of it counts 2 times"),
        (2 * FIRST - SECOND, "the term one counts 2 times, and the term two has the wrong sign"),
        (SECOND, "the term one is missing"),
        (
            FIRST + SECOND - FIRST.mean(axis=1, keepdims=True),
            "the mean of the term one over axis 1 is taken .*",
        ),
        (FIRST + SECOND + (FIRST + SECOND).mean(axis=0), "the mean of the whole over axis 0 is added .*"),
        ((FIRST + SECOND)[::-1, ::-1], "the numbers are right, and stand in the wrong places: .*"),
        ((FIRST + SECOND)[:2], r"the shape is \(2, 4\), and should be \(4, 4\)"),
        (FIRST + SECOND + np.eye(4)[:1].T @ np.eye(4)[:1], r"only some places .* the first of them \[0, 0\]"),
    ],
)
def test_what_was_done_to_a_term_is_said(found, says):
    import re

    assert re.fullmatch(says, slips.compared(found, FIRST + SECOND, TERMS))


def test_a_right_gradient_has_nothing_wrong_and_a_random_one_no_explanation():
    assert slips.compared(FIRST + SECOND, FIRST + SECOND, TERMS) is None
    assert slips.compared(RNG.normal(size=(4, 4)), FIRST + SECOND, TERMS) is None


def test_a_step_that_was_forgotten_is_named_and_a_term_that_is_there_alone():
    said = slips.compared(FIRST, FIRST + SECOND, {}, {"the second path": FIRST})
    assert said == "the second path is forgotten"
    rows = {f"of row {i}": row for i, row in enumerate(np.vstack([FIRST, SECOND]))}
    whole = sum(rows.values())
    assert slips.compared(rows["of row 2"], whole, rows) == "the term of row 2 is there alone"


def rms_terms():
    def scaled(dy, saved):
        return saved.rrms * saved.gamma * dy

    def along(dy, saved):
        x_hat = saved.x * saved.rrms
        return -saved.rrms * x_hat * average(saved.gamma * dy * x_hat)

    return {"x": {"r g": scaled, "r x_hat <g x_hat>": along}}


def test_a_verdict_says_which_term_is_missing():
    def without_the_second(dy, saved):
        x_hat = saved.x * saved.rrms
        return saved.rrms * saved.gamma * dy, sum_to(dy * x_hat, saved.gamma.shape)

    verdict = exercise.backward(without_the_second, ops.rms_norm, terms=rms_terms())
    assert verdict.state == "wrong"
    assert "in the gradient of x, the term r x_hat <g x_hat> is missing" in verdict.message


def test_a_verdict_says_which_gradient_has_the_wrong_sign_where_no_terms_are_known():
    def backward(dy, saved):
        dx, dgamma = ops.rms_norm.backward(dy, saved)
        return dx, -dgamma

    verdict = exercise.backward(backward, ops.rms_norm)
    assert "in the gradient of gamma, all of it has the wrong sign" in verdict.message
