"""A conversation on the command line: in a pipe, and as in a terminal."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

import handgrad
from handgrad import cli
from handgrad.cli import chat_terminal
from handgrad.formats.model_folder import Model
from handgrad.generation.conversation import Conversation
from handgrad.generation.request import Request
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import ByteTokenizer

CONFIG = ModelConfig(vocab_size=256, context_length=64, n_layers=1, n_heads=2, d_model=16)


@pytest.fixture(scope="module")
def model():
    return Model(CONFIG, init(CONFIG, 1), ByteTokenizer())


@pytest.fixture
def talk(model):
    return Conversation(model, Request.of(max_tokens=4), engine="reference")


@pytest.fixture
def typing(talk, monkeypatch, capsys):
    """Type lines into a conversation; return what is answered, and what is said beside it."""

    def type_(*lines):
        coming = iter(lines)

        def typed(prompt):
            line = next(coming, EOFError)
            if isinstance(line, str):
                return line
            raise line

        monkeypatch.setattr("builtins.input", typed)
        chat_terminal.talk(talk)
        return capsys.readouterr()

    return type_


def test_questions_are_answered_until_the_end(typing, talk):
    said = typing("Hello", "", KeyboardInterrupt, "Bye")
    questions = [message["content"] for message in talk.messages if message["role"] == "user"]
    assert questions == ["Hello", "Bye"]
    assert "no chat template" in " ".join(said.err.split())
    assert "/help lists commands" in " ".join(said.err.split())


def test_commands_do_what_help_says(typing, talk, tmp_path):
    saved = tmp_path / "talk.json"
    said = typing(
        "/help", "/system Be brief.", "/system", "Hi", "/retry", f"/save {saved}", "/new", "/quit", "unread"
    )
    for command in chat_terminal.COMMANDS:
        assert command in said.err
    assert said.err.count("Instruction: Be brief.") == 2
    kept = json.loads(saved.read_text())["messages"]
    assert [message["role"] for message in kept] == ["system", "user", "assistant"]
    assert talk.messages == []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("/sav x", "no command /sav; there are /retry"),
        ("/save", "Say a file"),
        ("/retry", "no question yet"),
        ("x" * 100, "Ask a shorter one"),
    ],
)
def test_what_cannot_be_done_is_said_and_the_conversation_goes_on(typing, talk, line, says):
    said = typing(line, "Hi")
    assert says in " ".join(said.err.split())
    assert len(talk.messages) == 2


def test_a_file_that_is_there_is_not_written_over(typing, tmp_path):
    there = tmp_path / "talk.json"
    there.write_text("precious")
    assert "is there already" in " ".join(typing("Hi", f"/save {there}").err.split())
    assert there.read_text() == "precious"


def test_an_answer_does_not_command_the_terminal(typing, talk, monkeypatch):
    monkeypatch.setattr(talk, "ask", lambda question: (piece for piece in ("a\x1b]0;", "\x9b2J\tb\n")))
    assert typing("Hi").out.startswith("a\ufffd]0;\ufffd2J\tb\n")


def test_in_a_pipe_every_line_has_its_answer(model, tmp_path, monkeypatch, capsys):
    folder = handgrad.save(model, tmp_path / "model")
    command = ["handgrad", "chat", str(folder), "--engine", "reference", "--max-tokens", "4"]
    answers = {}
    for flags in ([], ["--json"]):
        with (tmp_path / "lines").open("w+", encoding="utf-8") as lines:
            lines.write("Hello\n\n/quit\n")
            lines.seek(0)
            monkeypatch.setattr(sys, "stdin", lines)
            monkeypatch.setattr(sys, "argv", [*command, *flags])
            with pytest.raises(SystemExit, match="0"):
                cli.main()
        answers[bool(flags)] = capsys.readouterr().out
    rows = [json.loads(line) for line in answers[True].splitlines()]
    assert [row["question"] for row in rows] == ["Hello", "/quit"]  # a command only where somebody types
    assert answers[False].split() == "\n".join(row["answer"] for row in rows).split()


def test_ctrl_c_stops_the_answer_and_not_the_program(model, tmp_path):
    folder = handgrad.save(
        Model(slow := CONFIG.replace(context_length=4096), init(slow, 1), model.tokenizer), tmp_path / "model"
    )
    command = [
        sys.executable,
        "-m",
        "handgrad",
        "chat",
        folder,
        "--engine",
        "reference",
        "--max-tokens",
        "3000",
    ]
    ours, theirs = pty.openpty()
    # a terminal of its own; no preexec_fn, which forks, and JAX, if it is imported here, warns against that
    login = f"import os, sys; os.login_tty({theirs}); os.execv(sys.executable, {[*map(str, command)]})"
    process = subprocess.Popen([sys.executable, "-c", login], pass_fds=[theirs])
    os.close(theirs)
    screen = Screen(ours)
    try:
        screen.until(r"> ")
        screen.type(b"Hello\n")
        screen.until(r"Hello\r\n.{400}")
        screen.type(b"\x03")
        screen.until(r"Stopped\.\S*\r\n\r\n\S*> ")
        screen.type(b"/quit\n")
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


class Screen:
    """What a terminal shows, and its keyboard."""

    def __init__(self, descriptor):
        self.descriptor, self.shown = descriptor, ""

    def type(self, keys):
        self.shown = ""
        os.write(self.descriptor, keys)

    def until(self, pattern, seconds=20):
        ends = time.monotonic() + seconds
        while not re.search(pattern, self.shown, re.DOTALL):
            assert time.monotonic() < ends, repr(self.shown[-500:])
            if select.select([self.descriptor], [], [], 0.2)[0]:
                self.shown += os.read(self.descriptor, 4096).decode(errors="replace")
