"""A conversation in a terminal: questions are typed, answers come as they are written, / begins a command."""

import contextlib
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Generator
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from handgrad.cli.word_wrap import WordWrap
from handgrad.data import files
from handgrad.errors import UserError
from handgrad.formats import atomic
from handgrad.generation.conversation import Conversation
from handgrad.training.interrupt import deferred

COMMANDS = {
    "/retry": "answer the last question again",
    "/system TEXT": "instruct the model for all answers from here on; without TEXT, show the instruction",
    "/new": "forget the conversation, and begin another",
    "/save FILE": "write the conversation into a new file, as JSON",
    "/help": "show this list",
    "/quit": "end the program, as Ctrl-D",
}
PLAIN = (
    "This model has no chat template, so it was hardly trained to answer: it goes on with lines of "
    '"User:" and "Assistant:" as well as it can.'
)
NOTES = {
    "length": "It ends here for --max-tokens.",
    "context": "It ends here: the model's context is full.",
    None: "Stopped.",
}
"""What is said of an answer's end; of its natural one nothing."""

PROMPT = "\n> " if os.environ.get("NO_COLOR") else "\n\001\033[1m\002> \001\033[0m\002"
"""Bold; the marks around it tell readline that it has no width."""


def talk(conversation: Conversation) -> None:
    """Questions and answers, until the end is asked for."""
    notes = Console(stderr=True, highlight=False, markup=False)
    _welcome(conversation, notes)
    while (line := _typed()) is not None:
        try:
            if line.startswith("/"):
                name, _, rest = line.partition(" ")
                if name == "/quit":
                    return
                _command(conversation, notes, name, rest.strip())
            elif line:
                _show(conversation, notes, conversation.ask(line))
        except UserError as error:  # the conversation goes on
            notes.print(str(error), style="red")


def _welcome(conversation: Conversation, notes: Console) -> None:
    context = conversation.model.config.context_length
    notes.print(
        f"A context of {context:,} tokens. Ctrl-C stops an answer, Ctrl-D ends; /help lists commands."
    )
    if conversation.model.chat_template is None:
        notes.print(PLAIN)


def _typed() -> str | None:
    """A line that was typed; None at the end. The first Ctrl-C throws away what stands there."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 (lines are edited, and earlier ones come back)
    try:
        return input(PROMPT).strip()
    except KeyboardInterrupt:
        return ""
    except EOFError:
        print()
        return None


def _command(conversation: Conversation, notes: Console, name: str, rest: str) -> None:
    match name:
        case "/retry":
            _show(conversation, notes, conversation.retry())
        case "/system":
            conversation.system = rest or conversation.system
            notes.print(f"Instruction: {conversation.system}" if conversation.system else "There is none.")
        case "/new":
            conversation.restart()
            notes.print("A new conversation.")
        case "/save":
            notes.print(f"Written to {save(conversation, rest)}.")
        case "/help":
            _help(notes)
        case _:
            raise UserError(f"There is no command {name}; there are {', '.join(COMMANDS)}.")


def _help(notes: Console) -> None:
    table = Table.grid(Column(no_wrap=True), Column(), padding=(0, 2, 0, 0))
    for command, meaning in COMMANDS.items():
        table.add_row(command, meaning)
    notes.print(table)


def _show(conversation: Conversation, notes: Console, pieces: Generator[str, None, None]) -> None:
    """Print an answer as it comes; Ctrl-C ends it. Then what is to be known of it."""
    with deferred([signal.SIGINT]) as stopped, contextlib.closing(_until(stopped, pieces)) as coming:
        with notes.status("reading"):
            first = next((piece for piece in coming if piece), "")
        lines = WordWrap(shutil.get_terminal_size().columns)
        for piece in itertools.chain([first], coming):
            print(lines.add(piece), end="", flush=True)
    print(lines.rest())
    if note := NOTES.get(conversation.finished):
        notes.print(note, style="dim")
    if conversation.n_forgotten:
        notes.print(f"The first {conversation.n_forgotten} messages have no room any more.", style="dim")


def _until(stopped: Callable[[], bool], pieces: Generator[str, None, None]) -> Generator[str]:
    with contextlib.closing(pieces):
        for piece in pieces:
            yield piece
            if stopped():
                return


def save(conversation: Conversation, name: str) -> Path:
    """Write instruction and messages, as OpenAI's interface has them, into a new file."""
    if not name:
        raise UserError("Where to? Say a file: /save talk.json")
    path = Path(name).expanduser()
    if files.exists(path):
        raise UserError(f"{path} is there already. Choose another name.")
    instruction = [{"role": "system", "content": conversation.system}] if conversation.system else []
    messages = [*instruction, *conversation.messages]
    atomic.write_text(path, json.dumps({"messages": messages}, indent=2, ensure_ascii=False) + "\n")
    return path
