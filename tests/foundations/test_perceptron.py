"""The perceptron learns whatever a line can separate, and proves it of whatever a line cannot."""

import math
import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.errors import UserError
from handgrad.foundations import perceptron

FUNCTIONS = {function.name: function for function in perceptron.boolean_functions()}
INSEPARABLE = ("XOR", "XNOR")
SQUARE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


@st.composite
def tables(draw, max_rows=8):
    """Rows of one to three whole numbers."""
    n_columns = draw(st.integers(1, 3))
    row = st.lists(st.integers(-4, 4), min_size=n_columns, max_size=n_columns)
    return np.array(draw(st.lists(row, min_size=1, max_size=max_rows)), dtype=np.float64)


@given(tables(), st.data())
def test_every_linearly_separable_set_is_learned_within_novikoffs_bound(inputs, data):
    coefficient = st.integers(-3, 3)
    v = np.array(data.draw(st.lists(coefficient, min_size=inputs.shape[1] + 1, max_size=inputs.shape[1] + 1)))
    rows = np.column_stack([inputs, np.ones(len(inputs))])
    scores = rows @ v
    inputs, rows, scores = inputs[scores != 0], rows[scores != 0], scores[scores != 0]
    if len(inputs) == 0:
        return
    most_mistakes = np.max(np.sum(rows**2, axis=1)) * np.sum(v**2) / np.min(scores**2)
    result = perceptron.train(inputs, np.where(scores > 0, 1, 0), max_epochs=int(most_mistakes) + 1)
    assert result.separable is True
    assert np.sum(result.n_mistakes) <= most_mistakes
    np.testing.assert_array_equal(perceptron.predict(inputs, result.weights, result.bias), scores > 0)


@given(tables(), st.data())
def test_a_verdict_always_comes_with_its_proof(inputs, data):
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(inputs), max_size=len(inputs))))
    result = perceptron.train(inputs, labels, max_epochs=500)
    if result.separable:
        np.testing.assert_array_equal(perceptron.predict(inputs, result.weights, result.bias), labels)
    elif result.separable is False:
        assert np.all(result.certificate >= 0)
        assert math.gcd(*result.certificate.tolist()) == 1  # not all zero, and in lowest terms
        assert not any(perceptron.certificate_sum(inputs, labels, result.certificate))
    else:
        assert result.n_epochs == 500
    assert (result.certificate is None) == (result.separable is not False)


@given(tables(), st.data())
def test_the_common_point_is_a_mean_of_either_class(inputs, data):
    labels = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(inputs), max_size=len(inputs))))
    result = perceptron.train(inputs, labels, max_epochs=200)
    if result.certificate is None:
        return
    point = perceptron.common_point(inputs, labels, result.certificate)
    for label in (0, 1):
        share = np.where(labels == label, result.certificate, 0) / np.sum(result.certificate[labels == label])
        np.testing.assert_allclose(
            share @ inputs, point, atol=1e-12
        )  # rounding of a few sums of numbers to 4


@given(tables(), st.data(), st.integers(-4, 4))
def test_from_zero_weights_the_learning_rate_only_scales_them(inputs, data, power):
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(inputs), max_size=len(inputs)))
    plain = perceptron.train(inputs, labels, max_epochs=50)
    scaled = perceptron.train(inputs, labels, max_epochs=50, learning_rate=2.0**power)
    np.testing.assert_array_equal(scaled.weights, 2.0**power * plain.weights)  # powers of two scale exactly
    assert scaled.bias == 2.0**power * plain.bias
    np.testing.assert_array_equal(scaled.n_mistakes, plain.n_mistakes)


@given(tables(max_rows=5), st.data())
def test_a_row_with_both_labels_can_never_be_learned(inputs, data):
    labels = data.draw(st.lists(st.integers(0, 1), min_size=len(inputs), max_size=len(inputs)))
    doubled = np.concatenate([inputs, inputs[:1]])
    assert perceptron.train(doubled, [*labels, 1 - labels[0]], max_epochs=200).separable is not True


def test_there_are_sixteen_boolean_functions_and_each_is_what_its_name_says():
    def value(name, a, b):
        words = {"FALSE": 0, "TRUE": 1, "A": a, "B": b, "NOT A": 1 - a, "NOT B": 1 - b}
        operators = {
            "AND NOT": lambda p, q: p & (1 - q),
            "IMPLIES": lambda p, q: int(p <= q),
            "NAND": lambda p, q: 1 - (p & q),
            "NOR": lambda p, q: 1 - (p | q),
            "XNOR": lambda p, q: int(p == q),
            "AND": operator.and_,
            "OR": operator.or_,
            "XOR": operator.xor,
        }
        if name in words:
            return words[name]
        if name in operators:
            return operators[name](a, b)
        left, middle, right = name[0], name[2:-2], name[-1]
        return operators[middle](words[left], words[right])

    assert len(FUNCTIONS) == len({tuple(function.labels) for function in FUNCTIONS.values()}) == 16
    for name, inputs, labels in FUNCTIONS.values():
        assert [value(name, int(a), int(b)) for a, b in inputs] == labels.tolist()


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in INSEPARABLE])
def test_fourteen_boolean_functions_are_learned_with_all_four_rows_right(name):
    _, inputs, labels = FUNCTIONS[name]
    result = perceptron.train(inputs, labels)
    assert result.separable is True
    assert result.n_mistakes[-1] == 0
    np.testing.assert_array_equal(perceptron.predict(inputs, result.weights, result.bias), labels)
    assert "every row is right" in result.explanation


@pytest.mark.parametrize("name", INSEPARABLE)
def test_xor_and_xnor_are_reported_as_not_linearly_separable_with_a_certificate(name):
    _, inputs, labels = FUNCTIONS[name]
    result = perceptron.train(inputs, labels)
    assert result.separable is False
    assert result.certificate.tolist() == [1, 1, 1, 1]
    assert perceptron.certificate_sum(inputs, labels, result.certificate) == [0, 0, 0]
    assert perceptron.common_point(inputs, labels, result.certificate).tolist() == [0.5, 0.5]
    assert "4 of the signed rows" in result.explanation


def test_wrong_multipliers_do_not_pass_for_a_certificate():
    _, inputs, labels = FUNCTIONS["XOR"]
    assert any(perceptron.certificate_sum(inputs, labels, np.array([1, 1, 1, 2])))


def test_decimal_fractions_are_taken_exactly():
    result = perceptron.train(0.1 + 0.7 * SQUARE, [0, 1, 1, 0])
    assert result.separable is False
    assert not any(perceptron.certificate_sum(0.1 + 0.7 * SQUARE, [0, 1, 1, 0], result.certificate))


def test_the_search_is_bounded_where_neither_success_nor_a_cycle_comes(rng):
    inputs = SQUARE + 0.1 * rng.normal(size=SQUARE.shape)  # still no line, but 53 binary digits each
    result = perceptron.train(inputs, [0, 1, 1, 0], max_epochs=30)
    assert result.separable is None
    assert result.certificate is None
    assert result.n_epochs == 30
    assert "Not known" in result.explanation


def test_labels_may_be_signs_or_truth_values():
    _, inputs, labels = FUNCTIONS["A IMPLIES B"]
    results = [perceptron.train(inputs, y) for y in (labels, 2 * labels - 1, labels.astype(bool))]
    assert len({(*result.weights, result.bias) for result in results}) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be a positive number; got 0.0; try 1.0."),
        ({"max_epochs": 0}, "max_epochs must be at least 1; got 0; try 1000."),
        ({"labels": [0, 1]}, "labels must be one for each of the 4 rows; got the shape (2,); check both."),
        (
            {"labels": [0, 1, 2, 0]},
            "labels must be 0 and 1, or -1 and 1; got 0, 1, 2; rename the two classes.",
        ),
        (
            {"inputs": [[0.0, math.nan]]},
            "inputs must be a table of numbers up to 1e+100, one row an example; got the shape (1, 2) with 1 "
            "that are not; try [[0, 0], [0, 1]].",
        ),
        (
            {"inputs": [0.0, 1.0]},
            "inputs must be a table of numbers up to 1e+100, one row an example; got the shape (2,) with 0 "
            "that are not; try [[0, 0], [0, 1]].",
        ),
    ],
)
def test_bad_arguments_are_answered_with_rule_facts_and_remedy(arguments, message):
    with pytest.raises(UserError) as error:
        perceptron.train(**{"inputs": SQUARE, "labels": [0, 1, 1, 0], **arguments})
    assert str(error.value) == message
