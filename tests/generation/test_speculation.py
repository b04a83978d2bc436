"""Speculation: guesses change when a token is there, and never which; and they stop where they do not pay."""

import itertools

import numpy as np
import pytest

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation import speculation, stream
from handgrad.generation.batch import opened
from handgrad.generation.constraint import regular_expression
from handgrad.generation.request import Request
from handgrad.generation.speculation import DraftModel, Gauge, Lookup
from handgrad.generation.writer import Writer
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer
from handgrad.tokenizer import CharacterTokenizer

TINY = ModelConfig(vocab_size=4, context_length=12, n_layers=1, n_heads=1, d_model=4, position="rope")


def model(config=TINY, seed=1, like=None, noise=1.0, **known):
    rng = np.random.default_rng(seed)
    weights = tree.map(
        lambda w: w + noise * rng.normal(size=w.shape).astype(np.float32), like or init(config)
    )
    return Model(config, weights, **known)


class Always(Gauge):
    """Guesses four tokens each time."""

    def n_guesses(self, lag=0.0):
        return 4


class Counting:
    """A decoding, and how often it was read."""

    def __init__(self, decoding):
        self.decoding, self.n = decoding, 0

    def __getattr__(self, name):
        return getattr(self.decoding, name)

    def read(self, *args, **settings):
        self.n += 1
        return self.decoding.read(*args, **settings)


def speculated(decoding, ours, request, guess, gauge=None):
    decoding.cut(0, 0)
    return list(
        speculation.pieces(decoding, Writer(ours, [1, 2, 1], request), guess, gauge=gauge or Always())
    )


DRAFTS = {
    "lookup": lambda ours: Lookup(),
    "itself": lambda ours: DraftModel(ours, opened(ours, "cpu")),
    "a relative": lambda ours: DraftModel(relative(ours), opened(relative(ours), "cpu")),
    "a stranger": lambda ours: DraftModel(model(seed=2), opened(model(seed=2), "cpu")),
}


def relative(ours):
    return model(seed=3, like=ours.weights, noise=0.3)


@pytest.mark.parametrize("draft", DRAFTS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_text_is_the_same_for_the_same_seed_whatever_is_guessed(draft, temperature):
    ours = model(ends=(0,))
    decoding = opened(ours, "cpu")
    for seed in range(4):  # beyond the context, too
        request = Request.of(
            temperature=temperature, seed=seed, max_tokens=30, log_probabilities=1, frequency_penalty=0.2,
            logit_bias={0: -2.0},
        )  # fmt: skip
        decoding.cut(0, 0)
        alone = list(stream.pieces(decoding, Writer(ours, [1, 2, 1], request)))
        assert speculated(decoding, ours, request, DRAFTS[draft](ours)) == alone


@pytest.mark.parametrize("draft", [Lookup, lambda: "itself"])
def test_a_grammar_and_stop_strings_hold_for_what_was_guessed_too(draft):
    pytest.importorskip("llguidance")
    ours = model(tokenizer=CharacterTokenizer("abcd"))
    decoding = opened(ours, "cpu")
    for settings in ({"grammar": regular_expression("(ab|abc|d){3,5}")}, {"stop": ["ab", "dd"]}):
        request = Request.of(temperature=2.0, max_tokens=40, **settings)
        decoding.cut(0, 0)
        alone = list(stream.pieces(decoding, Writer(ours, [1, 2, 1], request)))
        guess = draft() if draft is Lookup else DRAFTS["itself"](ours)
        assert speculated(decoding, ours, request, guess) == alone
        assert alone[-1].finished == "stop"


def test_the_distribution_of_texts_is_the_models_own():
    ours = model()
    exact = {}
    for text in itertools.product(range(4), repeat=3):
        logits = Transformer(TINY).forward(ours.weights, np.array([[1, 2, 1, *text]]))[0][0, 2:-1]
        probs = np.exp(logits.astype(np.float64))
        exact[text] = np.prod((probs / probs.sum(axis=-1, keepdims=True))[range(3), text])
    decoding, guess, n = opened(ours, "cpu"), DRAFTS["a relative"](ours), 400
    counts = dict.fromkeys(exact, 0)
    for seed in range(n):
        request = Request.of(temperature=1.0, seed=seed, max_tokens=3)
        pieces = speculated(decoding, ours, request, guess)
        counts[tuple(piece.token_id for piece in pieces)] += 1
    chi_square = sum((counts[text] - n * p) ** 2 / (n * p) for text, p in exact.items())
    assert chi_square < 63 + 5 * np.sqrt(2 * 63)  # 63 degrees of freedom: five standard deviations


def test_a_draft_of_one_mind_with_the_model_saves_four_reads_of_five():
    ours = model()
    decoding = Counting(opened(ours, "cpu"))
    request = Request.of(temperature=1.0, seed=3, max_tokens=9)
    assert len(speculated(decoding, ours, request, DRAFTS["itself"](ours))) == 9
    assert decoding.n <= 4  # the prompt, five tokens, and what is left


def test_lookup_proposes_what_followed_the_newest_tokens_last_time():
    writer = Writer(model(TINY.replace(context_length=40)), [1, 2, 3, 0, 1, 2, 0, 0, 3, 1, 2], Request())
    guess = Lookup()
    assert guess.propose(writer, 3) == [0, 0, 3]  # after 1 2, the last time
    writer.take(3, np.zeros(4))
    assert guess.propose(writer, 10) == [0, 1, 2, 0, 0, 3, 1, 2, 3, 0]  # after 1 2 3, and on with itself
    writer.take(3, np.zeros(4))
    assert guess.propose(writer, 9) == []


def time_with(gauge_seconds, kept, n_tokens, share=0.0):
    """The time of a text of which each read of 1 + n tokens takes `gauge_seconds(n)`, `kept` guesses kept.

    Before it guesses, the draft reads the newest of what is new, each token in `share` of a prompt's.
    """
    gauge, total, written, n_behind = Gauge(), 100.0, 0, 400
    gauge.measured(100.0, 0, 1, n_read=400)  # the prompt
    while written < n_tokens:
        n_behind = min(n_behind, speculation.NEWEST)
        n = gauge.n_guesses(share * n_behind)
        found = 1 + min(n, kept(written))
        seconds = gauge_seconds(n) + 0.25 * share * n_behind * (n > 0)
        gauge.measured(seconds, n, found, n_read=1, lag=share * n_behind)
        total, written, n_behind = total + seconds, written + found, found + n_behind * (n == 0)
    return total


@pytest.mark.parametrize("row", [0.02, 0.3, 1.0, 3.0])
def test_guesses_that_are_never_right_cost_three_percent_at_most(row):
    assert time_with(lambda n: 1 + row * n, lambda written: 0, 3000) <= 1.03 * (100 + 3000)


def test_a_draft_with_a_short_context_goes_on_guessing_beyond_it():
    ours, short = model(), model(TINY.replace(context_length=4))
    guess, writer = (
        DraftModel(short, opened(short, "reference")),
        Writer(ours, [1, 2, 1], Request.of(max_tokens=9)),
    )
    for token_id in (3, 2, 0, 1, 2, 3):
        assert 1 <= len(guess.propose(writer, 2)) <= 2
        writer.take(token_id, np.zeros(4))


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("n_tokens", [100, 300, 3000])
def test_what_a_draft_reads_before_it_guesses_counts_among_its_costs(share, n_tokens):
    cost = lambda n: 1 + 0.5 * n  # noqa: E731
    assert time_with(cost, lambda written: 0, n_tokens, share) <= 1.03 * (100 + n_tokens)
    assert time_with(cost, lambda written: 99, 3000, share) < 0.8 * 3100


def test_guesses_that_are_right_are_made_ever_more():
    assert time_with(lambda n: 1 + 0.1 * n, lambda written: 99, 1000) < 100 + 0.2 * 1000


def test_what_was_gained_is_not_lost_again():
    always, half = lambda written: 99, lambda written: 99 * (written < 1000)
    cost = lambda n: 1 + 0.5 * n  # noqa: E731
    gained = time_with(cost, always, 1000)
    assert time_with(cost, half, 3000) <= gained + 1.03 * 2000 + 16


def test_a_draft_with_another_tokenizer_is_refused_and_so_is_a_way_that_there_is_not():
    ours = model(tokenizer=CharacterTokenizer("abcd"))
    other = model(tokenizer=CharacterTokenizer("abce"))
    request = Request(max_tokens=3)
    with pytest.raises(UserError, match="A draft model must have the tokenizer"):
        stream.stream(ours, "ab", request, draft=other)
    with pytest.raises(UserError, match="no draft 'lookdown'"):
        stream.stream(ours, "ab", request, draft="lookdown")
    texts = {stream.generate(ours, "ab", max_tokens=9, engine="cpu", draft=d) for d in (None, "lookup", ours)}
    assert len(texts) == 1
