"""What the judges of exercises say."""

import re

import numpy as np
import pytest

from handgrad import ops
from handgrad.lessons import exercise

X = np.array([0.5, -1.0, 2.0])


def double(x):
    return 2 * x


def test_a_right_answer_is_true_and_says_so():
    verdict = exercise.value(6, lambda: 2 * 3)
    assert verdict
    assert repr(verdict) == "✓ Right."
    assert exercise.function(double, lambda x: x + x, X, 3.0)
    assert re.fullmatch(
        r"✓ Right: double passes, in (\d+|less than 1) µs\.",
        repr(exercise.function(double, lambda x: x + x, X)),
    )


@pytest.mark.parametrize(
    ("seconds", "says"),
    [(3e-7, "less than 1 µs"), (2e-6, "2 µs"), (0.0123, "12 ms"), (0.9996, "1.0 s"), (61.04, "61.0 s")],
)
def test_a_time_is_said_in_the_unit_that_suits_it(seconds, says):
    clocked = exercise.Clocked(lambda: None)
    clocked.seconds = seconds
    assert str(clocked) == says


@pytest.mark.parametrize("answer", [..., (..., 1), [(1, ...), 2]])
def test_dots_are_no_answer_yet(answer):
    assert exercise.value(answer, lambda: 6).state == "unsolved"


def test_a_function_of_dots_is_no_answer_yet():
    assert exercise.function(lambda x: ..., double, X).state == "unsolved"
    assert exercise.gradient(ops.sigmoid.forward, lambda dy, saved: ..., x=X).state == "unsolved"
    assert exercise.gradient(lambda x: ..., ops.sigmoid.backward, x=X).state == "unsolved"
    assert exercise.backward(lambda dy, saved: (...,), ops.sigmoid).state == "unsolved"
    assert exercise.claim(lambda: ..., lambda f: f(), "something true").state == "unsolved"


@pytest.mark.parametrize("answer", [6.001, "six", None, np.ones(3), (6, 6)])
def test_a_wrong_value_is_rejected(answer):
    assert exercise.value(answer, lambda: 6).state == "wrong"


def test_a_wrong_function_is_told_for_which_input():
    verdict = exercise.function(np.abs, lambda x: x, 1.0, -3.0)
    assert verdict.state == "wrong"
    assert "for the input -3." in verdict.message


def test_a_wrong_shape_is_told():
    assert "shape should be (3,)" in exercise.function(np.sum, lambda x: x, X).message


def test_an_error_in_the_answer_is_a_verdict_and_stops_nothing():
    def broken(x):
        return x.no_such_thing

    verdict = exercise.function(broken, double, X)
    assert verdict.state == "wrong"
    assert "broken stops with AttributeError" in verdict.message


def test_a_gradient_is_judged_by_the_proof():
    assert exercise.backward(ops.softmax.backward, ops.softmax)
    verdict = exercise.backward(lambda dy, saved: (dy * saved.y * (1 - saved.y),), ops.softmax)
    assert verdict.state == "wrong"
    assert "the gradient of x fails the proof" in verdict.message


def test_a_small_slip_is_seen_in_the_numbers_of_the_verdict():
    def slip(dy, saved):
        return (ops.softmax.backward(dy, saved)[0] * (1 + 1e-8),)

    measured, said = re.findall(r"\d\.\d+", exercise.backward(slip, ops.softmax).message)
    assert measured != said


def test_a_claim_says_what_was_asked_for():
    assert exercise.claim(3, lambda n: n % 2 == 1, "an odd number")
    assert "an odd number was asked for" in exercise.claim(4, lambda n: n % 2 == 1, "an odd number").message


def test_verdicts_are_shown_without_trusting_what_they_quote():
    verdict = exercise.value("<script>", lambda: "text")
    assert "<script>" not in verdict._repr_html_()


def test_infinities_are_compared_as_such_and_do_not_excuse_the_rest():
    expected = np.array([np.inf, 1.0, np.nan])
    assert exercise.value(expected.copy(), lambda: expected)
    assert exercise.value(np.array([np.inf, 1.1, np.nan]), lambda: expected).state == "wrong"
    assert exercise.value(np.array([-np.inf, 1.0, np.nan]), lambda: expected).state == "wrong"
