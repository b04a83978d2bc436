"""How a text is shown as it is written: for a terminal, and for a pipe."""

import sys

import pytest

from handgrad.cli import generated
from handgrad.cli.busy import busy
from handgrad.errors import UserError

PIECES = ["ver on", "ce said\x1b]0;"]


@pytest.fixture
def shown(monkeypatch, capsys):
    """What is written of a text, to a terminal of 12 columns or to a pipe."""

    def write(pieces, *, terminal):
        monkeypatch.setenv("COLUMNS", "12")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        generated.stream("Who ne", iter(pieces))
        return capsys.readouterr().out

    return write


def test_in_a_pipe_it_is_the_text(shown):
    assert shown(PIECES, terminal=False) == "Who never once said\x1b]0;\n"


def test_on_a_terminal_words_stay_whole_and_the_prompt_is_faint(shown):
    assert shown(PIECES, terminal=True) == "\x1b[2mWho ne\x1b[0mver\nonce\nsaid\ufffd]0;\n"


@pytest.mark.parametrize("terminal", [False, True])
def test_an_error_begins_a_line(shown, capsys, terminal):
    def broken():
        yield "ver "
        raise UserError("No.")

    with pytest.raises(UserError):
        shown(broken(), terminal=terminal)
    assert capsys.readouterr().out.endswith("\n")


def test_whoever_waits_for_kernels_is_told_that_it_is_once(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # standard error counts as a terminal
    with busy("writing a [/name]") as compiling:  # which is no markup
        compiling("forward")
    assert "compiling kernels, once on this machine: forward" in capsys.readouterr().err
