"""From logits to a token: distributions are what they say, and every setting does what its formula says."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handgrad.errors import UserError
from handgrad.generation import penalties
from handgrad.generation.sampling import Sampling, Seen, distribution, draw, log_probabilities, min_p, top_k

logits = arrays(np.float32, st.integers(1, 12), elements=st.floats(-50, 50, width=32))
P = np.array([0.1, 0.5, 0.25, 0.15])


@given(logits, st.floats(0, 5), st.none() | st.integers(1, 20), st.none() | st.floats(0.01, 1))
@example(np.array([0.0, 1.2e-38], np.float32), 1.0, None, 0.5)
def test_a_distribution_is_one(z, temperature, top_k, top_p):
    probs = distribution(z, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert probs.min() >= 0
    assert abs(probs.sum() - 1) < 1e-12
    behind = float(z.max()) - float(z[np.argmax(probs)])
    assert behind <= 1e-15 * temperature  # the exponential of less is one
    if top_k is not None:
        assert np.count_nonzero(probs) <= top_k


def test_temperature_one_is_the_softmax_and_zero_the_likeliest():
    z = np.log([0.2, 0.5, 0.3])
    np.testing.assert_allclose(distribution(z, Sampling(temperature=1.0)), [0.2, 0.5, 0.3])
    np.testing.assert_array_equal(distribution(z, Sampling(temperature=0.0)), [0, 1, 0])


def test_top_p_keeps_the_fewest_tokens_that_reach_p():
    z = np.log([0.1, 0.5, 0.25, 0.15])
    kept = {
        p: np.flatnonzero(distribution(z, Sampling(temperature=1.0, top_p=p))).tolist()
        for p in (0.5, 0.6, 0.8)
    }
    assert kept == {0.5: [1], 0.6: [1, 2], 0.8: [1, 2, 3]}


def test_top_k_keeps_the_likeliest_in_their_proportions():
    probs = distribution(np.log([0.1, 0.5, 0.25, 0.15]), Sampling(temperature=1.0, top_k=2))
    np.testing.assert_allclose(probs, [0, 2 / 3, 1 / 3, 0])


def test_draws_follow_the_distribution(rng):
    probs = np.array([0.2, 0.0, 0.8])
    n = 4000
    counts = np.bincount([draw(probs, rng) for _ in range(n)], minlength=3)
    assert counts[1] == 0
    assert abs(counts[2] / n - 0.8) < 4 * np.sqrt(0.8 * 0.2 / n)  # four standard deviations


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -0.1}, "temperature must be zero"),
        ({"temperature": float("nan")}, "temperature must be zero"),
        ({"temperature": 10**400}, "temperature must be zero"),
        ({"temperature": "1"}, "temperature must be a number"),
        ({"top_k": 1 << 63}, "top_k must be a whole number"),
        ({"top_k": 0}, "top_k must be a whole number from 1"),
        ({"top_p": 0.0}, "top_p must be a share"),
        ({"top_p": 1.1}, "top_p must be a share"),
        ({"min_p": -0.1}, "min_p must be a share of the likeliest"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be a factor above 0"),
        ({"presence_penalty": float("inf")}, "presence_penalty must be a number that logits lose"),
        ({"dry_multiplier": -1}, "dry_multiplier must be zero"),
        ({"dry_base": 0.5}, "dry_base must be from 1 to 100"),
        ({"dry_allowed_length": 0}, "dry_allowed_length must be a whole number from 1"),
        ({"logit_bias": [1]}, "logit_bias are numbers by token id"),
        ({"logit_bias": {"a": 1.0}}, "logit_bias: a token id must be a whole number"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias of token 1 must be finite"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Sampling(**settings)


def test_greedy_needs_no_more_memory_than_the_vocabulary():
    z = np.zeros(10_000_000, np.float32)
    z[5] = 1.0
    assert int(np.argmax(distribution(z, Sampling(temperature=0.0)))) == 5


def test_of_equally_likely_tokens_those_of_lower_ids_are_kept():
    np.testing.assert_allclose(top_k(np.array([0.2, 0.3, 0.3, 0.2]), 3), [0.25, 0.375, 0.375, 0])


def test_min_p_keeps_what_has_a_share_of_the_likeliest():
    np.testing.assert_allclose(min_p(P, 0.3), [0, 5 / 9, 2.5 / 9, 1.5 / 9])
    np.testing.assert_allclose(min_p(P, 1.0), [0, 1, 0, 0])


def test_what_is_kept_by_one_setting_is_what_the_next_one_sees():
    probs = distribution(np.log(P), Sampling(temperature=1.0, top_k=2, top_p=0.6))
    np.testing.assert_allclose(probs, [0, 1, 0, 0])  # of 2/3 and 1/3 the first has 0.6


def test_a_bias_may_come_from_json_whose_names_are_texts():
    assert Sampling(logit_bias={"13": 1}) == Sampling(logit_bias={13: 1.0})


def test_a_bias_is_added_and_what_is_not_allowed_cannot_be_drawn():
    z = np.zeros(3)
    found = distribution(z, Sampling(temperature=1.0, logit_bias={1: np.log(2.0)}))
    np.testing.assert_allclose(found, [0.25, 0.5, 0.25])
    allowed = np.array([True, False, True])
    np.testing.assert_allclose(distribution(z, Sampling(), allowed=allowed), [0.5, 0, 0.5])
    assert not z.any()


def test_a_repeated_token_loses_whatever_the_sign_of_its_logit():
    np.testing.assert_allclose(penalties.repetition(np.array([2.0, -2.0, 2.0]), [0, 1, 1], 2.0), [1, -4, 2])


def test_presence_counts_once_and_frequency_each_time_of_what_was_written():
    seen = Seen([2, 2, 0, 1, 1], n_prompt=2)
    sampling = Sampling(temperature=1.0, presence_penalty=0.5, frequency_penalty=0.25)
    found = np.log(distribution(np.zeros(3), sampling, seen))
    np.testing.assert_allclose(found - found[2], [-0.75, -1.0, 0.0])


def penalty(token_ids, **settings):
    settings = {"multiplier": 1.0, "base": 2.0, "allowed_length": 2, **settings}
    return -penalties.dry(np.zeros(6), token_ids, **settings)


def test_dry_grows_with_the_repetition_that_a_token_would_continue():
    np.testing.assert_array_equal(
        penalty([1, 2, 3, 4, 1, 2, 3]), [0, 0, 0, 0, 2, 0]
    )  # 1 2 3 -> 4: 2 ** (3 - 2)
    np.testing.assert_array_equal(penalty([1, 2, 3, 4, 2, 3, 5, 1, 2, 3]), [0, 0, 0, 0, 2, 1])  # and 2 3 -> 5
    np.testing.assert_array_equal(penalty([3, 4, 1, 3]), np.zeros(6))  # one token alone is allowed
    np.testing.assert_array_equal(penalty([3, 4, 1, 3], allowed_length=1), [0, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal(penalty([1, 2, 3, 4, 1, 2, 3], breakers=[2]), np.zeros(6))
    np.testing.assert_array_equal(penalty([1, 1, 1]), [0, 1, 0, 0, 0, 0])  # a token follows itself
    assert not penalty([]).any()
    assert not penalty([1]).any()


def test_dry_stays_finite_in_the_longest_repetition():
    assert penalty([1] * 5000, base=1.75)[1] == 1.75**48


@given(st.lists(st.integers(0, 2), max_size=30), st.lists(st.integers(0, 2), max_size=1))
def test_dry_is_what_its_definition_says(ids, breakers):
    def repeated(end):  # the length of the repetition that ends before `end` and at the text's end
        n = 0
        while n < min(end, len(ids)) and ids[end - 1 - n] == ids[-1 - n] and ids[-1 - n] not in breakers:
            n += 1
        return n

    lengths = [max([repeated(end) for end in range(len(ids)) if ids[end] == i] or [0]) for i in range(6)]
    expected = [2.0 ** (n - 2) if n >= 2 else 0.0 for n in lengths]
    np.testing.assert_array_equal(penalty(ids, breakers=breakers), expected)


def test_log_probabilities_are_the_models_own():
    z = np.array([1e4, 1e4 + np.log(3.0), -1e4], np.float64)
    np.testing.assert_allclose(np.exp(log_probabilities(z)), [0.25, 0.75, 0.0])
