"""Writing: the cache changes nothing, the seed decides, a context that is full is no end."""

import numpy as np
import pytest

from handgrad import tree
from handgrad.engines.reference import Decoding
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.request import Request
from handgrad.generation.sampling import Sampling
from handgrad.generation.stream import generate, stream, token_ids
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer
from handgrad.tokenizer import ByteTokenizer, CharacterTokenizer

ALPHABET = CharacterTokenizer("\n abcdefgh")


def greedy(**settings):
    return Request.of(temperature=0.0, **settings)


@pytest.fixture
def model(rng):
    config = ModelConfig(
        vocab_size=ALPHABET.vocab_size, context_length=8, n_layers=2, n_heads=2, d_model=8, position="rope"
    )
    weights = tree.map(lambda w: w + 0.5 * rng.normal(size=w.shape).astype(np.float32), init(config))
    return Model(config, weights, ALPHABET)


def test_numbers_of_numpy_are_taken_as_what_they_are(model):
    sampling = Sampling(temperature=np.float32(0.5), top_k=np.int64(3), top_p=np.float64(0.75))
    assert sampling == Sampling(temperature=0.5, top_k=3, top_p=0.75)
    assert [type(value) for value in vars(sampling).values()][:3] == [float, int, float]
    written = generate(model, "abc", max_tokens=np.int64(5), seed=np.uint8(1))
    assert written == generate(model, "abc", max_tokens=5, seed=1)


def test_the_cache_changes_nothing(model, rng):
    ids = rng.integers(model.config.vocab_size, size=8)
    decoding = Decoding(model.config, model.weights)
    pieces = ids[:3], *(ids[i : i + 1] for i in range(3, 8))
    cached = [decoding.read([piece])[0] for piece in pieces]
    uncached, _ = Transformer(model.config).forward(model.weights, ids[None])
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
    def written(prompt, n):
        return token_ids(model, Decoding(model.config, model.weights), prompt, greedy(max_tokens=n))

    seen = [*ALPHABET.encode("abc"), *written(ALPHABET.encode("abc"), 30)]
    assert len(seen) == 33
    # the cache is full at 8 tokens, and the ninth follows from the newer four
    assert seen[9:13] == written(seen[5:9], 4)


def test_of_a_prompt_beyond_the_context_its_end_is_read(model):
    assert generate(model, "abcdefghabcdefgh", temperature=0.0, max_tokens=9) == generate(
        model, "abcdefgh", temperature=0.0, max_tokens=9
    )


def test_the_seed_decides(model):
    one, same, other = (generate(model, "abc", max_tokens=40, temperature=1.0, seed=s) for s in (1, 1, 2))
    assert one == same != other


def test_pieces_make_up_the_text(model):
    pieces = list(stream(model, "abc", Request(max_tokens=12, seed=3)))
    assert "".join(pieces) == generate(model, "abc", max_tokens=12, seed=3)
    assert len(pieces) == 12


def test_greedy_writing_ignores_the_seed(model):
    assert len({generate(model, "a", max_tokens=20, temperature=0.0, seed=seed) for seed in (1, 2)}) == 1


@pytest.mark.parametrize(
    ("prompt", "settings", "words"),
    [
        ("", {}, "cannot be empty"),
        ("abc", {"top": 3}, "no setting 'top'.* Did you mean"),
        ("abc", {"when_full": "wrap"}, "no when_full 'wrap'; choose one of slide, stop"),
        ("abc", {"stop": [""]}, "A stop string has 1 to"),
        ("abc", {"stop": ["a"] * 65}, "There may be 64 stop strings"),
        ("abc", {"logit_bias": {99: 1.0}}, "tokens 0 to 9; got one for 99"),
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
    written = token_ids(silent, Decoding(silent.config, silent.weights), [1], greedy(max_tokens=3))
    assert len(written) == 3


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_logits_that_are_not_finite_are_said(model, value):
    broken = Model(model.config, tree.map(lambda w: np.full_like(w, value), model.weights), ALPHABET)
    with pytest.raises(UserError, match="logits must be finite"):
        generate(broken, "abc")
