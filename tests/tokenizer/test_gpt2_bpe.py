"""BPE against GPT-2's own vocabulary, and against a second implementation of the algorithm in a few lines."""

import itertools
import json
from pathlib import Path

import pytest

from handgrad.tokenizer import BPETokenizer

SHARED = Path(__file__).parents[3] / "shared" / "data"
FILES = SHARED / "gpt2"
pytestmark = pytest.mark.skipif(not FILES.exists(), reason="needs GPT-2's vocabulary beside the checkout")


@pytest.fixture(scope="module")
def merges():
    lines = (FILES / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    return [tuple(line.split()) for line in lines]


@pytest.fixture(scope="module")
def vocabulary():
    return json.loads((FILES / "encoder.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def gpt2(vocabulary, merges):
    return BPETokenizer.from_merges(vocabulary, merges)


def test_it_has_gpt2s_tokens(gpt2):
    assert gpt2.vocab_size == 50_257


@pytest.mark.parametrize(
    ("text", "token_ids"),
    [
        ("Hello world", [15496, 995]),  # the ids that GPT-2's documentation everywhere shows
        (" the", [262]),
        ("\n", [198]),
    ],
)
def test_known_texts_have_gpt2s_ids(gpt2, text, token_ids):
    assert gpt2.encode(text).tolist() == token_ids


def test_every_piece_of_shakespeare_is_encoded_as_by_the_plain_algorithm(gpt2, vocabulary, merges):
    regex = pytest.importorskip("regex", reason="needs regex, which comes with the oracles")
    # GPT-2's own split into words (Radford et al., 2019, encoder.py)
    words = regex.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
    visible = bytes_as_characters()
    rank = {pair: i for i, pair in enumerate(merges)}
    text = (SHARED / "tinyshakespeare.txt").read_text(encoding="utf-8")[:50_000] + " Ärger 東京 🙂 'tis 1,000"
    expected = []
    for word in words.findall(text):
        parts = [visible[byte] for byte in word.encode("utf-8")]
        while len(parts) > 1:
            best = min(itertools.pairwise(parts), key=lambda pair: rank.get(pair, len(rank)))
            if best not in rank:
                break
            parts = merged(parts, best)
        expected += [vocabulary[part] for part in parts]
    assert gpt2.encode(text).tolist() == expected
    assert gpt2.decode(expected) == text


def merged(parts, pair):
    out = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def bytes_as_characters():
    """GPT-2's alphabet: printable bytes stand for themselves, the others for the code points from 256 on."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
