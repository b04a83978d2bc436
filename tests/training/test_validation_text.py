"""What is known of a validation text: its bytes, a loss in bits a byte, how much of it is repeated."""

import math

import numpy as np
import pytest

from handgrad import tokenizer as tokenizers
from handgrad.training import validation_text
from tests.training.conftest import TEXT


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_the_bytes_are_those_of_the_text_whatever_the_tokenizer(kind, monkeypatch):
    monkeypatch.setattr(validation_text, "BLOCK", 100)
    text = TEXT + "é"  # the last token may be half of it
    tokenizer = tokenizers.train(kind, [text], vocab_size=300)
    tokens = tokenizer.encode(text)
    assert validation_text.n_text_bytes(tokens, tokenizer) == len(text.encode())


def test_xz_as_a_loss_is_the_same_text_in_bits_a_byte_whatever_the_tokenizer():
    bits = []
    for kind in tokenizers.KINDS:
        tokenizer = tokenizers.train(kind, [TEXT], vocab_size=300)
        parts = map(tokenizer.encode, (TEXT[:3000], TEXT[3000:]))
        found = validation_text.measure(*parts, tokenizer)
        size = found.validation_tokens, found.validation_bytes
        bits.append(validation_text.bits_per_byte(found.baselines["xz"], *size))
    assert bits == pytest.approx([bits[0]] * 3)


def test_a_blind_guess_among_all_bytes_costs_eight_bits():
    assert validation_text.bits_per_byte(math.log(256), 10, 10) == pytest.approx(8)
    assert validation_text.bits_per_byte(math.log(256), 10, 40) == pytest.approx(2)


def test_the_share_that_is_repeated_is_found_wherever_it_stands(rng, monkeypatch):
    monkeypatch.setattr(validation_text, "BLOCK", 1000)  # windows across blocks are found too
    train, new = rng.integers(50, size=20_000), rng.integers(50, size=10_000)
    assert validation_text.repeated(train, new) == 0.0
    assert validation_text.repeated(train, train[3_333:9_999]) == 1.0
    assert validation_text.repeated(train, np.concatenate([train[5_000:15_000], new])) == pytest.approx(
        0.5, abs=0.05
    )
    assert validation_text.repeated(train, train[: validation_text.WINDOW - 1]) == 0.0  # too short to say
