"""Beam search: with enough beams the likeliest text of all. (Ids of transformers: formats/test_oracle_*.)"""

import itertools

import numpy as np
import pytest

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation.beam import Beam, Settings, beam_search, search
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import Transformer

CONFIG = ModelConfig(vocab_size=5, context_length=8, n_layers=2, n_heads=2, d_model=8, position="rope")


def model(**known):
    rng = np.random.default_rng(5)
    weights = tree.map(lambda w: w + 0.5 * rng.normal(size=w.shape).astype(np.float32), init(CONFIG))
    return Model(CONFIG, weights, **known)


def test_with_enough_beams_the_likeliest_text_of_all_is_found():
    ours, prompt = model(ends=(0,)), [1, 2]

    def log_probability(written):
        logits, _ = Transformer(CONFIG).forward(ours.weights, np.array([[*prompt, *written]]))
        logits = logits[0, 1:-1].astype(np.float64)
        following = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return following[np.arange(len(written)), list(written)].sum()

    texts = [
        text
        for n in (1, 2, 3)
        for text in itertools.product(range(5), repeat=n)
        if 0 not in text[:-1] and (n == 3 or text[-1] == 0)
    ]
    best = max(texts, key=lambda text: log_probability(text) / len(text) ** 0.5)
    found = beam_search(ours, prompt, n_beams=256, max_tokens=3, length_penalty=0.5)
    assert found[0].token_ids == best
    assert found[0].score == pytest.approx(log_probability(best) / len(best) ** 0.5, abs=1e-4)
    assert len(found) == len(texts)
    assert beam_search(ours, prompt, n_beams=4, max_tokens=3, engine="cpu")[0].token_ids in texts


def test_a_context_that_is_full_ends_the_beams_and_of_a_longer_prompt_the_end_is_read():
    assert [len(beam.token_ids) for beam in beam_search(model(), [1] * 6, n_beams=2)] == [3, 3]
    longer = beam_search(model(starts=(4,)), [2] * 9 + [1] * 7, n_beams=2)
    assert longer == beam_search(model(), [4] + [1] * 7, n_beams=2)
    assert len(longer[0].token_ids) == 1


def test_a_beam_that_is_over_leaves_and_the_others_go_on():
    following = np.log([[0.4, 0.35, 0.25]])

    def follow(beams):
        return np.repeat(following, len(beams), axis=0)

    settings = Settings(n_beams=2, max_tokens=3, length_penalty=0.0, early_stopping=False, ends=(0,))
    found = search(follow, settings)
    assert found[0] == Beam((0,), np.log(0.4))
    assert found[1].token_ids == (1, 0)


@pytest.mark.parametrize(("early_stopping", "n_looks"), [(True, 2), (False, 3), ("never", 4)])
def test_early_stopping_says_when_the_search_is_over(early_stopping, n_looks):
    """Each look finishes a text. What goes on scores above it after two; after three only if it were long."""
    ends, looks = [0.6, 0.4, 0.55, 0.9], []

    def follow(beams):
        looks.append(len(beams))
        end = ends[len(looks) - 1]
        return np.log([[end, 0.95 - end + 0.01, 0.04]] * len(beams))

    search(follow, Settings(2, 5, 1.0, early_stopping, ends=(0,)))
    assert len(looks) == n_looks


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_beams": 0}, "n_beams must be a whole number from 1"),
        ({"n_beams": 257}, "at most 256 beams; got 257"),
        ({"length_penalty": float("nan")}, "length_penalty is a power of the length"),
        ({"early_stopping": "always"}, "early_stopping is True, False or \"never\"; got 'always'"),
        ({"max_tokens": 0}, "max_tokens must be a whole number from 1"),
    ],
)
def test_beams_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        beam_search(model(), [1], **settings)
