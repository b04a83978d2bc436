"""Renders chat templates in a process of its own: a template is a program from elsewhere.

Jinja2's sandbox keeps it from everything but its variables; this process has little memory, and its parent
ends it where it takes too long. Run as a script: each line it reads is a JSON object, and so is its answer.
It imports nothing of handgrad, so it starts quickly.
"""

import contextlib
import functools
import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY = 256 << 20
"""Bytes beyond those of the process when it has started."""
SECONDS = 10
"""Longer than the parent waits: for a process whose parent was killed."""


class Generation(Extension):
    """`{% generation %}`: marks what the assistant says, for training; it is written as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def environment() -> ImmutableSandboxedEnvironment:
    """The names and rules that templates are written for, those of `transformers`."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    made.filters["tojson"] = _to_json
    made.globals.update(raise_exception=_refuse, strftime_now=lambda form: datetime.now().strftime(form))
    return made


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON as it is: Jinja2's own filter writes it for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _refuse(message: str) -> None:
    raise TemplateError(message)


@functools.lru_cache(maxsize=4)
def compiled(made: ImmutableSandboxedEnvironment, template: str) -> Template:
    return made.from_string(template)


def answer(request: dict[str, Any], made: ImmutableSandboxedEnvironment) -> dict[str, Any]:
    """The text of a request's template, or what is wrong with it."""
    try:
        text = ""
        for piece in compiled(made, request["template"]).generate(**request["variables"]):
            text += piece
            if len(text) > request["longest"]:
                return {"error": f"it writes more than {request['longest']:,} characters"}
    except MemoryError:
        return {"error": f"it takes more than {MEMORY >> 20} MB of memory"}
    except RecursionError:
        return {"error": "it calls itself without end"}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}
    return {"text": text}


def _limit_memory() -> None:
    with contextlib.suppress(
        ImportError, OSError, ValueError, AttributeError
    ):  # elsewhere time alone is limited
        import resource

        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def _alarm() -> Callable[[int], object]:
    """Ends this process after so many seconds, where the system has that; 0 takes it back."""
    import signal

    return getattr(signal, "alarm", lambda seconds: None)


def main() -> None:
    """Answer line by line until the parent closes its end."""
    made, alarm = environment(), _alarm()
    _limit_memory()
    for line in sys.stdin:
        alarm(SECONDS)
        print(json.dumps(answer(json.loads(line), made)), flush=True)
        alarm(0)


if __name__ == "__main__":
    main()
