"""Text in pieces, wrapped at words."""

import textwrap
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from handgrad.cli.word_wrap import WordWrap

TEXT = "The sky is blue because the air scatters short waves of light more than long ones."


def wrapped(pieces, width):
    lines = WordWrap(width)
    return "".join([*map(lines.add, pieces), lines.rest()])


def test_lines_end_between_words():
    assert wrapped([TEXT], 20) == textwrap.fill(TEXT, 20)


@given(st.text(alphabet="ab \n\t", max_size=60), st.lists(st.integers(0, 60)), st.integers(1, 12))
def test_pieces_change_nothing_and_no_word_is_lost(text, cuts, width):
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    assert wrapped(pieces, width) == wrapped([text], width)
    assert wrapped(pieces, width).split() == text.split()
    assert wrapped(pieces, 1000) == text


def test_what_is_whole_is_shown_at_once():
    lines = WordWrap(80)
    assert [lines.add(piece) for piece in ("one tw", "o thr", "ee\n")] == ["one", " two", " three\n"]


def test_a_text_does_not_command_the_terminal():
    assert wrapped(["a\x1b]0;", "\x9b2J\tb\n"], 80) == "a\ufffd]0;\ufffd2J\tb\n"


def test_code_keeps_its_indentation_and_long_words_their_line():
    assert wrapped(["if x:\n    return yes\n"], 20) == "if x:\n    return yes\n"
    assert wrapped(["a " + "b" * 30 + " c"], 10) == "a\n" + "b" * 30 + "\nc"
