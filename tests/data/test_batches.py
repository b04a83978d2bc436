"""Batches: targets are one further on, the seed decides, evaluation windows cover the text evenly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.data import batches, corpus, token_file
from handgrad.errors import UserError
from handgrad.tokenizer import ByteTokenizer, CharacterTokenizer

TOKENS = np.arange(1000, dtype=np.uint16)


def test_tinyshakespeares_split_is_nanogpts():
    train, validation = batches.split(np.zeros(1_115_394, np.uint16), 64)
    assert (len(train), len(validation)) == (1_003_854, 111_540)


@given(st.integers(4, 400), st.integers(1, 60))
def test_a_split_loses_nothing_and_each_side_fills_a_context(n, context_length):
    tokens = np.arange(n)
    if n < 2 * (context_length + 1):
        with pytest.raises(UserError, match="--context-length"):
            batches.split(tokens, context_length)
        return
    train, validation = batches.split(tokens, context_length)
    np.testing.assert_array_equal(np.concatenate([train, validation]), tokens)
    assert min(len(train), len(validation)) > context_length


def test_the_context_length_that_a_refusal_suggests_is_accepted():
    with pytest.raises(UserError, match="--context-length 9"):
        batches.split(np.arange(20), 64)
    batches.split(np.arange(20), 9)


def test_targets_are_the_tokens_one_further_on(rng):
    token_ids, targets = batches.draw(TOKENS, 8, 16, rng)
    assert token_ids.shape == targets.shape == (8, 16)
    np.testing.assert_array_equal(targets, token_ids + 1)


def test_windows_may_begin_anywhere_and_end_with_the_text():
    starts = {int(batches.draw(TOKENS[:6], 1, 4, np.random.default_rng(s))[0][0, 0]) for s in range(40)}
    assert starts == {0, 1}


def test_the_same_generator_draws_the_same_batches():
    one, same = (batches.draw(TOKENS, 4, 8, np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_spread_windows_cover_the_whole_text_once():
    seen = np.concatenate([ids.ravel() for ids, _ in batches.spread(TOKENS, 7, 9)])
    np.testing.assert_array_equal(seen, np.arange(999))


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 5))
def test_overlapping_windows_predict_every_token_once_from_half_a_context(n_tokens, length, batch_size):
    length, predicted = min(length, n_tokens - 1), []
    for token_ids, targets in batches.overlapping(np.arange(n_tokens), batch_size, length):
        window, place = np.nonzero(targets >= 0)
        np.testing.assert_array_equal(targets[window, place], token_ids[window, place] + 1)
        predicted += targets[window, place].tolist()
        later = token_ids[window, 0] > 0
        assert (place[later] + 1 >= length / 2).all()
    assert predicted == list(range(1, n_tokens))


@given(st.integers(1, 300), st.integers(1, 50))
def test_fewer_windows_are_spread_evenly(n_windows, batch_size):
    starts = np.concatenate([ids[:, 0] for ids, _ in batches.spread(TOKENS, batch_size, 9, n_windows)])
    assert len(starts) == min(n_windows, 111)
    gaps = np.diff(starts)
    assert not len(gaps) or gaps.max() - gaps.min() <= 9  # as even as whole windows can be


@pytest.mark.parametrize(("vocab_size", "expected"), [(65, "<u2"), (65_536, "<u2"), (65_537, "<u4")])
def test_ids_take_two_bytes_where_they_fit(vocab_size, expected):
    assert token_file.dtype(vocab_size) == np.dtype(expected)


@pytest.mark.parametrize("kind", ["characters", "bytes"])
def test_a_token_file_holds_the_text_and_is_mapped(tmp_path, kind):
    text = corpus.Corpus("text", text="Grüße aus Wien.\n" * 30)
    tokenizer = CharacterTokenizer.train(text.pieces()) if kind == "characters" else ByteTokenizer()
    n_tokens = token_file.write(tmp_path / "tokens.bin", text, tokenizer)
    tokens = token_file.read(tmp_path / "tokens.bin", tokenizer.vocab_size)
    assert isinstance(tokens, np.memmap)
    assert n_tokens == len(tokens)
    assert tokenizer.decode(tokens) == text.text


@pytest.mark.parametrize(
    ("content", "n_tokens", "words"),
    [
        (b"", None, "must have 2 bytes a token; it has 0"),
        (b"\0\0\0", None, "must have 2 bytes a token; it has 3"),
        (b"\0\0\0\0", 3, "2 bytes for each of 3 tokens; it has 4"),
        (b"\0\0\x41\0\xff\xff", 3, "token ids below 66; it has 65535"),
        (b"\0\0\x42\0\0\0", 3, "token ids below 66; it has 66"),
    ],
)
def test_a_token_file_is_checked_when_it_is_opened(tmp_path, monkeypatch, content, n_tokens, words):
    monkeypatch.setattr(token_file, "BLOCK", 2)
    (tmp_path / "tokens.bin").write_bytes(content)
    with pytest.raises(UserError, match=words):
        token_file.read(tmp_path / "tokens.bin", 66, n_tokens)


def test_a_token_file_of_terabytes_is_not_read(tmp_path):
    with (tmp_path / "tokens.bin").open("wb") as file:
        file.truncate(1 << 42)  # takes no room
    with pytest.raises(UserError, match="must have 2 bytes for each of 5 tokens"):
        token_file.read(tmp_path / "tokens.bin", 66, 5)
