"""Texts are read whole, in order, and what is no text is refused with its place."""

import io
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handgrad.data import corpus
from handgrad.errors import UserError


def whole(text):
    return "".join(text.pieces())


def test_the_embedded_corpus_is_a_book_of_english():
    text = whole(corpus.open_corpus())
    assert len(text) > 300_000
    assert "expression" in text


def test_files_are_read_in_the_order_given_each_ended_with_a_line(tmp_path):
    (tmp_path / "b.txt").write_text("first", encoding="utf-8")
    (tmp_path / "a.txt").write_text("second\n", encoding="utf-8")
    assert whole(corpus.open_corpus([tmp_path / "b.txt", tmp_path / "a.txt"])) == "first\nsecond\n"


def test_a_folder_is_its_text_files_in_the_order_of_their_names(tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("b.txt", "a.md", "inner/c.txt", "d.png"):
        (tmp_path / name).write_text(name + "\n", encoding="utf-8")
    assert whole(corpus.open_corpus([tmp_path])) == "a.md\nb.txt\ninner/c.txt\n"


def test_a_byte_order_mark_and_windows_line_ends_are_taken_off(tmp_path):
    path = tmp_path / "windows.txt"
    path.write_bytes("\ufeffone\r\ntwo\r\n".encode())
    assert whole(corpus.open_corpus([path])) == "one\ntwo\n"


@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff"), max_size=200), st.integers(1, 9)
)
def test_text_survives_being_read_in_small_blocks(text, block):
    blocks = io.BytesIO(text.encode("utf-8"))
    assert "".join(corpus._decode(iter(lambda: blocks.read(block), b""), "name")) == text


def test_windows_line_ends_survive_a_cut_between_their_two_bytes():
    assert "".join(corpus._decode(iter([b"one\r", b"\ntwo"]), "name")) == "one\ntwo"


def test_standard_input_is_read_to_its_end(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("Grüße\n".encode())))
    assert whole(corpus.open_corpus(["-"])) == "Grüße\n"


def test_standard_input_that_is_closed_is_said(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UserError, match="is closed"):
        corpus.open_corpus(["-"])


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_what_is_neither_file_nor_folder_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(UserError, match=r"it is a pipe, a socket or a device\. Pipe the text in"):
            corpus.open_corpus([path])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds none"),
        (b" \n\t\n", "holds none"),
        (b"text\0more", "byte 4 is zero"),
        (b"caf\xe9 ol\xe9\n", "near byte 3 stands 0xe9"),
        (b"cut in half \xc3", "near byte 12"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not UTF-8 text|not a text file"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, words):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=words) as caught:
        corpus.open_corpus([path])
    assert "bad.txt" in str(caught.value)


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no file or folder .*nothing\.txt"):
        corpus.open_corpus([tmp_path / "nothing.txt"])
    with pytest.raises(UserError, match="holds no text file"):
        corpus.open_corpus([tmp_path])
    with pytest.raises(UserError, match="read alone"):
        corpus.open_corpus(["-", "a.txt"])
