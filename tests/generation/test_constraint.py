"""What a grammar asks for is what is written, whatever the model would rather write."""

import json
import re
import sys

import numpy as np
import pytest

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats.model_folder import Model
from handgrad.generation import constraint
from handgrad.generation.batch import complete
from handgrad.generation.constraint import Grammar, json_schema, regular_expression
from handgrad.generation.request import Request
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import BPETokenizer, ByteTokenizer, CharacterTokenizer

pytest.importorskip("llguidance")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "colours": {"type": "array", "items": {"enum": ["red", "green"]}, "maxItems": 2},
        "of": {"$ref": "#/properties/age"},
    },
    "required": ["name", "age", "colours"],
    "additionalProperties": False,
}
TOKENIZERS = {
    "bytes": ByteTokenizer(),
    "characters": CharacterTokenizer("".join(map(chr, range(32, 127)))),
    "bpe": BPETokenizer.train(
        ['{"name": "red", "age": 12, "colours": ["green", "red"]} 2026-11-26 '] * 3, 300, []
    ),
}


def random_model(tokenizer, **known):
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, context_length=32, n_layers=1, n_heads=1, d_model=4, position="rope"
    )
    rng = np.random.default_rng(1)
    weights = tree.map(lambda w: w + rng.normal(size=w.shape).astype(np.float32), init(config))
    return Model(config, weights, tokenizer, **known)


def answers(model, grammar, n, max_tokens=200):
    requests = [Request.of(temperature=1.5, seed=i, max_tokens=max_tokens, grammar=grammar) for i in range(n)]
    return [each for _, each in complete(model, [model.tokenizer.decode([9])] * n, requests, engine="cpu")]


def assert_person(text):
    person = json.loads(text)
    assert set(person) - {"of"} == {"name", "age", "colours"}
    assert isinstance(person["name"], str)
    assert len(person["name"]) <= 6
    assert 0 <= person["age"] <= 130
    assert all(colour in ("red", "green") for colour in person["colours"])


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("ends", [(), (3, 5)])
def test_a_random_model_writes_json_that_follows_its_schema_and_then_ends(kind, ends):
    found = answers(random_model(TOKENIZERS[kind], ends=ends), json_schema(PERSON), 8)
    for each in found:
        assert each.finished == "stop"
        assert_person(each.text)
    assert len({each.text for each in found}) > 1


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_regular_expression_is_matched_as_a_whole(kind):
    for each in answers(random_model(TOKENIZERS[kind]), regular_expression(r"20[0-9]{2}-(0|1)[0-9]"), 5):
        assert re.fullmatch(r"20[0-9]{2}-(0|1)[0-9]", each.text)
        assert each.finished == "stop"


def test_a_model_that_lacks_the_characters_says_so():
    with pytest.raises(UserError, match="none of its tokens leads on from here"):
        answers(random_model(CharacterTokenizer("abcdefghijklmn")), regular_expression("ab[0-9]"), 1)


@pytest.mark.parametrize(
    ("make", "given", "words"),
    [
        (json_schema, "{", "A JSON schema is a JSON object; this one is not"),
        (json_schema, [1], "A JSON schema is a JSON object; this one is not"),
        (json_schema, {"a": {1, 2}}, "A JSON schema is a JSON object; this one is not"),
        (json_schema, {"type": "objec"}, "This JSON schema cannot be followed: Invalid type: objec"),
        (json_schema, {"not": {"const": 3}}, "cannot be followed: Unimplemented keys"),
        (regular_expression, "(ab", "This regular expression cannot be followed: .*unclosed group"),
        (regular_expression, 3, "A regular expression is a text"),
    ],
)
def test_what_cannot_be_followed_is_refused(make, given, words):
    with pytest.raises(UserError, match=words):
        make(given)


def test_without_the_library_the_way_to_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(UserError, match=r"take llguidance. Install it: pip install \"handgrad\[json\]\""):
        constraint.Matcher(Grammar("regex", "a"), TOKENIZERS["bytes"], ())
