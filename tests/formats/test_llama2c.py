"""llama2.c's published model writes its published text, and damaged files are named."""

import itertools
import struct
from pathlib import Path

import numpy as np
import pytest

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats import gguf, llama2c
from handgrad.model.transformer import Transformer

STORIES = Path(__file__).parents[3] / "shared" / "data" / "stories260K" / "stories260K.bin"

PUBLISHED = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she \
saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. She said, "I want to \
play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she"""
"""What llama2.c's own test expects of 200 tokens, greedy, from the beginning of a text (test_all.py, MIT)."""


@pytest.fixture(scope="module")
def stories():
    if not STORIES.exists():
        pytest.skip("the model is not among the package's files")
    return llama2c.load(STORIES)


def test_the_most_probable_tokens_are_the_published_text(stories):
    token_ids = stories.tokenizer.encode(PUBLISHED)
    assert len(token_ids) == 200
    before = np.concatenate([stories.starts, token_ids[:-1]])  # each prediction sees the text before it
    logits, _ = Transformer(stories.config).forward(stories.weights, before[None])
    chosen = logits[0].argmax(axis=-1)
    assert stories.tokenizer.decode(chosen).encode() == PUBLISHED.encode()


def test_texts_are_cut_into_pieces_as_sentencepiece_does(stories, rng):
    """Against its definition: join the neighbours whose union has the highest score, the first of equals."""
    pieces, scores = pieces_of(STORIES.with_name("stories260K_tok512.bin"))
    words = PUBLISHED.replace("\n", " ").split(" ")
    for text in [" ".join(rng.choice(words, size=8)) for _ in range(20)] + [
        "",
        " ",
        "  a",
        "Zürich ™ ¿qué? 🙂",
    ]:
        expected = joined(text, pieces, scores)
        assert stories.tokenizer.encode(text).tolist() == expected, text
        assert stories.tokenizer.decode(expected) == text


def test_it_leaves_as_gguf_and_comes_back(stories, tmp_path):
    again = gguf.load(gguf.save(stories, tmp_path / "stories.gguf", "F32"))
    assert (again.starts, again.ends) == (stories.starts, stories.ends)
    for one, other in zip(tree.leaves(stories.weights), tree.leaves(again.weights), strict=True):
        np.testing.assert_array_equal(one, other)
    for text in (PUBLISHED, " a\n<s>Zürich 🙂"):
        token_ids = stories.tokenizer.encode(text)
        np.testing.assert_array_equal(again.tokenizer.encode(text), token_ids)
        assert again.tokenizer.decode(token_ids) == stories.tokenizer.decode(token_ids)


def pieces_of(path):
    data, place, pieces, scores = path.read_bytes(), 4, {}, []
    while place < len(data):
        score, n = struct.unpack_from("<fi", data, place)
        pieces.setdefault(data[place + 8 : place + 8 + n], len(scores))
        scores.append(score)
        place += 8 + n
    return pieces, scores


def joined(text, pieces, scores):
    """SentencePiece's encoding, as llama2.c has it."""
    ids = [pieces[b" "]] if text else []
    for character in text:
        known = pieces.get(character.encode())
        ids += [known] if known is not None else [3 + byte for byte in character.encode()]
    texts = {number: piece for piece, number in pieces.items()}
    while True:
        unions = [pieces.get(texts[a] + texts[b]) for a, b in itertools.pairwise(ids)]
        found = [(scores[union], -i) for i, union in enumerate(unions) if union is not None]
        if not found:
            return ids
        i = -max(found)[1]
        ids[i : i + 2] = [unions[i]]


def small(path, header=(8, 12, 1, 2, 1, 6, 4), extra=0):
    """A tiny model's file, or one with another header or length."""
    d, f, n_layers, heads, kv, vocab, context = (8, 12, 1, 2, 1, 6, 4)
    n = (
        vocab * d
        + n_layers * (2 * d + 2 * d * d + 2 * d * d * kv // heads + 3 * d * f)
        + d
        + context * d // heads
    )
    path.write_bytes(struct.pack("<7i", *header) + np.zeros(n + extra, np.float32).tobytes())
    return path


def test_a_file_is_read_by_its_own_numbers(tmp_path):
    assert llama2c.load(small(tmp_path / "a.bin")).config.n_kv_heads == 1


@pytest.mark.parametrize(
    ("header", "extra", "words"),
    [
        ((8, 12, 1, 2, 1, 6, 4), 1, "its header describes"),
        ((8, 12, 2**31 - 1, 2, 1, 6, 4), 0, "its header describes"),
        ((8, 12, 1, 3, 1, 6, 4), 0, "multiple of n_heads"),
        ((8, -12, 1, 2, 1, 6, 4), 0, "d_ff counts something"),
        ((8, 12, 1, 2, 1, -6, 4), 0, "its header describes"),
    ],
)
def test_damaged_files_are_named(header, extra, words, tmp_path):
    with pytest.raises(UserError, match=words):
        llama2c.load(small(tmp_path / "a.bin", header, extra))


def test_damaged_tokenizers_are_named(tmp_path):
    model, path = small(tmp_path / "a.bin"), tmp_path / "tok6.bin"
    names = [b"<unk>", b"<s>", b"</s>", b"a", b"b", b"ab"]
    good = struct.pack("<i", 5) + b"".join(struct.pack("<fi", -i, len(n)) + n for i, n in enumerate(names))
    path.write_bytes(good)
    assert llama2c.load(model).tokenizer.encode("ab").tolist()[-1] == 5
    for bad in (
        good[:-1],
        good + b"x",
        good[:4] + struct.pack("<fi", 0, -1) + good[12:],
        good.replace(b"ab", b"\xffb"),
    ):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"tok6\.bin is no whole file"):
            llama2c.load(model)
    with pytest.raises(UserError, match="There is no tokenizer"):
        llama2c.load(model, tmp_path / "nowhere.bin")
