"""Sampling and writing: distributions are what they say, the cache changes nothing, the seed decides."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handgrad import tree
from handgrad.engines.reference import Decoding
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.sampling import Sampling, distribution, draw
from handgrad.generation.stream import generate, stream, tokens
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer
from handgrad.tokenizer import ByteTokenizer, CharacterTokenizer

ALPHABET = CharacterTokenizer("\n abcdefgh")
logits = arrays(np.float32, st.integers(1, 12), elements=st.floats(-50, 50, width=32))


@pytest.fixture
def model(rng):
    config = ModelConfig(
        vocab_size=ALPHABET.vocab_size, context_length=8, n_layers=2, n_heads=2, d_model=8, position="rope"
    )
    weights = tree.map(lambda w: w + 0.5 * rng.normal(size=w.shape).astype(np.float32), init(config))
    return Model(config, weights, ALPHABET)


@given(logits, st.floats(0, 5), st.none() | st.integers(1, 20), st.none() | st.floats(0.01, 1))
def test_a_distribution_is_one(z, temperature, top_k, top_p):
    probs = distribution(z, Sampling(temperature=temperature, top_k=top_k, top_p=top_p))
    assert probs.min() >= 0
    assert abs(probs.sum() - 1) < 1e-12
    assert np.argmax(probs) == np.argmax(z) or np.isclose(probs.max(), probs[np.argmax(z)])
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
        ({"top_p": 0.0}, "top_p is a share"),
        ({"top_p": 1.1}, "top_p is a share"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Sampling(**settings)


def test_numbers_of_numpy_are_taken_as_what_they_are(model):
    sampling = Sampling(temperature=np.float32(0.5), top_k=np.int64(3), top_p=np.float64(0.75))
    assert sampling == Sampling(temperature=0.5, top_k=3, top_p=0.75)
    assert [type(value) for value in vars(sampling).values()] == [float, int, float]
    written = generate(model, "abc", max_tokens=np.int64(5), seed=np.uint8(1))
    assert written == generate(model, "abc", max_tokens=5, seed=1)


def test_the_cache_changes_nothing(model, rng):
    token_ids = rng.integers(model.config.vocab_size, size=8)
    decoding = Decoding(model.config, model.weights)
    pieces = token_ids[:3], *(token_ids[i : i + 1] for i in range(3, 8))
    cached = [decoding.read([piece])[0] for piece in pieces]
    uncached, _ = Transformer(model.config).forward(model.weights, token_ids[None])
    # the same sums, in products of other shapes: a few roundings of float32 apart
    np.testing.assert_allclose(cached, uncached[0, 2:], rtol=1e-4, atol=1e-5)
    assert decoding.lengths[0] == 8


@pytest.mark.parametrize("engine", ["cpu", "xla"])
def test_every_engine_writes_what_the_formulas_write(model, engine):
    if engine == "xla":
        pytest.importorskip("jax")
    settings = {"max_tokens": 20, "temperature": 0.0}  # past the context's end
    assert generate(model, "abc", **settings, engine=engine) == generate(model, "abc", **settings)


def test_writing_goes_on_past_the_context_as_if_its_newer_half_were_the_prompt(model):
    def decoding():
        return Decoding(model.config, model.weights)

    greedy = Sampling(temperature=0.0)
    written = list(
        itertools.islice(tokens(decoding(), ALPHABET.encode("abc"), greedy, np.random.default_rng()), 30)
    )
    assert len(written) == 30
    seen = [*ALPHABET.encode("abc"), *written]
    # the cache is full at 8 tokens, and the ninth follows from the newer four
    again = list(
        itertools.islice(tokens(decoding(), np.array(seen[5:9]), greedy, np.random.default_rng()), 4)
    )
    assert seen[9:13] == again


def test_the_seed_decides(model):
    one, same, other = (generate(model, "abc", max_tokens=40, temperature=1.0, seed=s) for s in (1, 1, 2))
    assert one == same != other


def test_pieces_make_up_the_text(model):
    pieces = list(stream(model, "abc", max_tokens=12, sampling=Sampling(), seed=3))
    assert "".join(pieces) == generate(model, "abc", max_tokens=12, seed=3)
    assert len(pieces) == 12


def test_greedy_writing_ignores_the_seed(model):
    assert len({generate(model, "a", max_tokens=20, temperature=0.0, seed=seed) for seed in (1, 2)}) == 1


@pytest.mark.parametrize(
    ("prompt", "settings", "words"),
    [
        ("", {}, "cannot be empty"),
        ("abcdefgha", {}, "context of 8 tokens; it has 9"),
        ("xyz", {}, "never seen 'x', 'y', 'z'"),
        ("\udcff", {}, "not valid UTF-8"),
        ("abc", {"max_tokens": 0}, "max_tokens must be a whole number from 1"),
        ("abc", {"max_tokens": 10**20}, "max_tokens must be a whole number"),
        ("abc", {"seed": -1}, "seed must be a whole number from 0"),
        ("abc", {"seed": 10**5000}, "seed must be a whole number"),
        ("abc", {"temperature": -1.0}, "temperature"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_explained(model, prompt, settings, words):
    with pytest.raises(UserError, match=words):
        generate(model, prompt, **settings)


def test_bytes_that_are_no_text_yet_are_held_back(rng):
    config = ModelConfig(vocab_size=256, context_length=8, n_layers=1, n_heads=2, d_model=8)
    model = Model(config, init(config), ByteTokenizer())
    text = generate(model, "é", max_tokens=30, temperature=1.0)
    assert text.encode("utf-8").decode("utf-8") == text


def test_a_model_without_a_tokenizer_writes_token_ids_and_says_so_where_text_is_wanted(model):
    silent = Model(model.config, model.weights)
    with pytest.raises(UserError, match="needs a tokenizer; this one has none"):
        generate(silent, "abc")
    written = tokens(
        Decoding(silent.config, silent.weights),
        np.array([1]),
        Sampling(temperature=0.0),
        np.random.default_rng(),
    )
    assert len(list(itertools.islice(written, 3))) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_logits_that_are_not_finite_are_said(model, value):
    broken = Model(model.config, tree.map(lambda w: np.full_like(w, value), model.weights), ALPHABET)
    with pytest.raises(UserError, match="logits must be finite"):
        generate(broken, "abc")
