"""A conversation as one text, by the chat template that came with a model.

A template is a Jinja2 program by whoever published the model. It runs in Jinja2's sandbox and in a process of
its own (`chat_worker`), which has little memory and is ended where it takes too long; else it stays for the
next text.
"""

import atexit
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from handgrad.errors import UserError

SECONDS = 2.0
"""The time that one text may take."""
STARTING = 20.0
"""And, once, that the process may take to start on a busy machine."""
LONGEST = 4 << 20
"""The most characters of a text, and of what it is made from."""
WORKER = Path(__file__).with_name("chat_worker.py")

Message = Mapping[str, Any]
"""{"role": "user", "content": "..."}; roles are the template's own, usually system, user and assistant."""


def render(
    template: str,
    messages: Sequence[Message],
    starts_text: str = "",
    ends_text: str = "",
    add_generation_prompt: bool = True,
) -> str:
    """The text of a conversation, up to where the assistant's answer begins.

    `starts_text` and `ends_text` are the names of the first and last token, to the template `bos_token` and
    `eos_token`. Raises `UserError` where the template refuses the messages, is wrong, or never ends.
    """
    variables = {
        "messages": [_checked(message) for message in messages],
        "bos_token": starts_text,
        "eos_token": ends_text,
        "add_generation_prompt": add_generation_prompt,
        "tools": None,
        "documents": None,
    }
    try:
        request = json.dumps({"template": template, "variables": variables, "longest": LONGEST})
    except (TypeError, ValueError) as error:
        raise UserError(f"Messages are texts, lists and numbers, as JSON has them: {error}.") from error
    if len(request) > 2 * LONGEST:
        raise UserError(f"A conversation may have {LONGEST:,} characters. Leave out its beginning.")
    answer = _process.ask(request)
    if "text" not in answer:
        raise UserError(
            f"The model's chat template does not write this conversation: {answer['error']}. Check the "
            f"roles and their order, or generate from a plain prompt."
        )
    return answer["text"]


def _checked(message: Message) -> dict[str, Any]:
    if (
        not isinstance(message, Mapping)
        or not isinstance(message.get("role"), str)
        or "content" not in message
    ):
        raise UserError(
            "A message is a dictionary with a role and a content, such as "
            '{"role": "user", "content": "Hello"}.'
        )
    return dict(message)


class _Process:
    """The worker: started when first asked, ended where it answers too late, then started anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: subprocess.Popen[str] | None = None

    def ask(self, request: str) -> dict[str, Any]:
        """What the worker answers; an error in words where it had to be ended."""
        with self._lock:
            if self._running is None:
                self._start()
            return self._ask(request, SECONDS)

    def end(self) -> None:
        """End the worker, if there is one."""
        running, self._running = self._running, None
        if running is not None:
            running.kill()
            running.communicate()

    def _start(self) -> None:
        self._running = subprocess.Popen(
            [sys.executable, "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            start_new_session=True,  # a terminal's Ctrl-C is for us alone
        )
        empty = json.dumps({"template": "", "variables": {}, "longest": 0})
        if "text" not in self._ask(empty, STARTING):
            raise UserError("The process that writes chat templates does not start. Install handgrad again.")

    def _ask(self, request: str, seconds: float) -> dict[str, Any]:
        running = self._running
        assert running is not None
        assert running.stdin is not None
        assert running.stdout is not None
        late = threading.Timer(seconds, running.kill)
        late.start()
        try:
            running.stdin.write(request + "\n")
            running.stdin.flush()
            line = running.stdout.readline()
        except OSError:  # it has ended
            line = ""
        finally:
            late.cancel()
        if not line.endswith("\n"):
            self.end()
            return {"error": f"it takes longer than {seconds:g} seconds, or more memory than it may have"}
        return json.loads(line)


_process = _Process()
atexit.register(_process.end)
