"""Many texts at once are the texts of each alone."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest

from handgrad import tree
from handgrad.engines import cpu, fits
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation import batch
from handgrad.generation.batch import complete
from handgrad.generation.request import Request
from handgrad.generation.stream import generate
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import CharacterTokenizer

ALPHABET = CharacterTokenizer("\n abcdefgh")
PROMPTS = ["a", "abc", "hgfedcba hgfedcba", "b", "aa", "c d"]


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(vocab_size=10, context_length=12, n_layers=2, n_heads=2, d_model=8, position="rope")
    rng = np.random.default_rng(3)
    weights = tree.map(lambda w: w + 0.5 * rng.normal(size=w.shape).astype(np.float32), init(config))
    return Model(config, weights, ALPHABET)


@pytest.mark.parametrize(("engine", "at_once"), [("cpu", 4), ("cpu", 16)])
def test_texts_of_different_lengths_are_answered_together_as_alone(model, engine, at_once):
    settings = [{"max_tokens": 4 + 7 * (i % 3), "seed": i, "stop": ["hh"]} for i in range(len(PROMPTS))]
    requests = [Request.of(**each) for each in settings]
    found = dict(complete(model, PROMPTS, requests, at_once=at_once, engine=engine))
    for i, (prompt, each) in enumerate(zip(PROMPTS, settings, strict=True)):
        assert found[i].text == generate(model, prompt, **each, engine=engine)
        assert found[i].n_prompt == len(prompt)
    assert {each.finished for each in found.values()} <= {"length", "stop"}
    assert found[2].n_forgotten > 0


def test_a_prompt_that_fills_the_context_is_answered_with_nothing_where_that_ends_a_text(model):
    found = dict(complete(model, PROMPTS, Request(when_full="stop", max_tokens=3), at_once=2))
    assert [found[i].finished for i in range(3)] == ["length", "length", "context"]
    assert found[2].text == ""


def test_texts_that_do_not_fit_into_memory_are_refused_before_any_is_begun(model):
    longer = Model(model.config.replace(context_length=10**9, d_model=8), model.weights, ALPHABET)
    with pytest.raises(UserError, match="The KV cache of 16 texts of 1,000,000,000 tokens needs"):
        complete(longer, ["a"] * 20, Request(max_tokens=10**9))
    assert len(list(complete(longer, ["a"] * 2, Request(max_tokens=2)))) == 2  # there is room for these


def test_keys_and_values_in_fewer_bits_fit_into_less_memory(model, monkeypatch):
    needed = cpu.cache_bytes(model.config, model.weights, n_texts=4, cache="int8")
    monkeypatch.setattr(fits, "available", lambda: needed)
    asked = {"at_once": 4, "engine": "cpu"}
    with pytest.raises(UserError, match="The KV cache of 4 texts of 12 tokens needs"):
        complete(model, PROMPTS, Request(max_tokens=12), **asked)
    assert len(list(complete(model, PROMPTS, Request(max_tokens=12), **asked, cache="int8"))) == len(PROMPTS)


def test_prompts_are_looked_at_before_anything_is_written(model):
    with pytest.raises(UserError, match=r"Prompt 2 of 2: .*never seen 'x'"):
        complete(model, ["a", "x"], Request())
    assert list(complete(model, [], Request())) == []


@pytest.mark.parametrize(
    ("precision", "cache", "engine"),
    [
        ("auto", "auto", "reference"),
        ("float32", "float32", "reference"),
        ("int8", "auto", "cpu"),
        ("blocks", "auto", "cpu"),
        ("auto", "int8", "cpu"),
    ],
)
def test_auto_takes_an_engine_that_has_the_precision_and_the_cache(
    model, monkeypatch, precision, cache, engine
):
    asked, right = [], SimpleNamespace(decoding=Mock(), cache_bytes=lambda *what, **how: 1)
    monkeypatch.setattr(batch.engines, "get", lambda name: asked.append(name) or right)
    batch.opened(model, "auto", precision, cache)
    assert right.decoding.call_args.kwargs["cache"] == cache
    assert asked == [engine]
