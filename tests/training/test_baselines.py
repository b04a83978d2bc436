"""What a little knowledge is worth: n-grams as their formula says, and a compressor."""

import itertools
import random

import numpy as np
import pytest

from handgrad.training import baselines

V = 4


def by_hand(word, context, train, vocab_size=V):
    """p(word | context) by the recursion, over lists."""
    shorter = by_hand(word, context[1:], train, vocab_size) if context else 1 / vocab_size
    n = len(context)
    followers = [train[i + n] for i in range(len(train) - n) if train[i : i + n] == context]
    if not followers:
        return shorter
    kinds = len(set(followers))
    return (followers.count(word) + kinds * shorter) / (len(followers) + kinds)


@pytest.fixture
def texts(rng):
    return rng.choice(V - 1, size=60), rng.choice(V, size=20)  # the last token is new, and so are contexts


@pytest.mark.parametrize(("name", "order"), [("unigram", 0), ("bigram", 1), ("trigram", 2)])
def test_n_grams_are_what_their_formula_says(texts, name, order):
    train, validation = (list(map(int, tokens)) for tokens in texts)
    text = train[-order:] * (order > 0) + validation
    losses = [-np.log(by_hand(text[i + order], text[i : i + order], train)) for i in range(len(text) - order)]
    assert baselines.losses(*texts, V)[name] == pytest.approx(np.mean(losses), rel=1e-12)


def test_probabilities_after_every_context_sum_to_one(texts):
    train = list(map(int, texts[0]))
    for context in itertools.product(range(V), repeat=2):
        assert sum(by_hand(w, list(context), train) for w in range(V)) == pytest.approx(1)


def test_each_knows_what_the_one_before_it_does_not():
    every_third_is_told_by_two = np.tile([0, 0, 1], 500)
    found = baselines.losses(every_third_is_told_by_two, every_third_is_told_by_two[:99], 2)
    assert found["uniform"] == pytest.approx(np.log(2))
    assert found["trigram"] < 0.02 < found["bigram"] - 0.4 < found["unigram"] - 0.5


def test_a_large_vocabulary_costs_no_table():
    found = baselines.losses(np.arange(5), np.array([2, 3]), 1 << 20)
    p = [by_hand(2, [3, 4], list(range(5)), 1 << 20), by_hand(3, [4, 2], list(range(5)), 1 << 20)]
    assert found["trigram"] == pytest.approx(-np.log(p).mean())


def test_a_text_too_short_for_a_trigram_has_what_there_is():
    found = baselines.losses(np.array([0, 1]), np.array([1]), 2)
    assert found["trigram"] == found["bigram"]  # no context of two: it knows no more


def test_xz_says_what_the_validation_text_adds():
    hexadecimal = random.Random(1).randbytes(20_000).hex().encode()  # four bits a byte
    assert baselines.xz(hexadecimal, hexadecimal[:5_000]) < 0.1
    assert baselines.xz(hexadecimal[:20_000], hexadecimal[20_000:]) == pytest.approx(4, abs=0.6)
    assert baselines.xz(b"a" * 1000, b"a" * 1000) >= 0
