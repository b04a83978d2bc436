"""Tokenizers lose nothing: what they encode they decode, and what they cannot encode they refuse."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.errors import UserError
from handgrad.tokenizer import KINDS, BPETokenizer, ByteTokenizer, CharacterTokenizer, from_json, train

TEXT = "To be, or not to be: that is the question. Ärger über 3 Öfen, naïve café, 東京 🙂\n" * 4
texts = st.text(st.characters(codec="utf-8"), max_size=60)


@pytest.fixture(params=KINDS)
def tokenizer(request):
    return train(request.param, [TEXT], vocab_size=300)


def test_what_is_encoded_is_decoded(tokenizer):
    token_ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(token_ids) == TEXT
    assert token_ids.min() >= 0
    assert token_ids.max() < tokenizer.vocab_size


@given(texts)
def test_bytes_know_every_text(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text


BPE = train("bpe", [TEXT], vocab_size=300)


@given(texts)
def test_bpe_knows_every_text(text):
    assert BPE.decode(BPE.encode(text)) == text


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60))
def test_characters_know_the_text_they_were_made_from(text):
    tokenizer = CharacterTokenizer.train([text])
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.vocab_size == len(set(text))


def test_a_character_never_seen_is_named():
    tokenizer = CharacterTokenizer.train([TEXT])
    with pytest.raises(UserError, match="never seen '#', 'ß'"):
        tokenizer.encode("#groß")


def test_streaming_gives_the_same_text_and_never_half_a_character(tokenizer):
    step = tokenizer.stream()
    pieces = [step(int(i)) for i in tokenizer.encode(TEXT)]
    assert "".join(pieces) == TEXT
    assert "�" not in "".join(pieces)


def test_what_is_kept_as_json_comes_back(tokenizer):
    again = from_json(json.dumps(tokenizer.to_json()))
    np.testing.assert_array_equal(again.encode(TEXT), tokenizer.encode(TEXT))
    assert again.vocab_size == tokenizer.vocab_size


def test_bpe_merges_frequent_pairs_and_is_shorter_than_bytes():
    assert len(BPE.encode(TEXT)) < len(ByteTokenizer().encode(TEXT)) / 2
    assert BPE.vocab_size <= 300


def test_bpe_needs_room_for_all_bytes():
    with pytest.raises(UserError, match="256 bytes"):
        BPETokenizer.train([TEXT], 255)


def test_an_unknown_kind_is_refused():
    with pytest.raises(UserError, match="choose one of characters, bytes, bpe"):
        train("words", [TEXT])


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"kind": "words"}', '{"kind": "characters", "characters": "ba"}',
     '{"kind": "characters", "characters": ""}', '{"kind": "bpe", "tokenizer": {"version": "9"}}'],
)  # fmt: skip
def test_what_is_no_tokenizer_is_refused(content):
    with pytest.raises(UserError):
        from_json(content)
