"""The command line, from its own functions: nothing here can differ from what the commands take."""

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo

from _generate import pages
from handgrad.cli import app

HEAD = """# The command line

Every command prints this with `--help`; `handgrad --version` prints the version. An error that you can
correct is one sentence, with exit code 2. Output to a pipe is plain, and `--json` is for programs. An option
without a default here takes that of the preset's recipe: `handgrad info nano`.

"""


class Parameter(NamedTuple):
    """What a command takes."""

    usage: str
    help: str
    default: str
    is_argument: bool
    is_required: bool


def write(folder: Path) -> None:
    """`generated/commands.md`."""
    sections = (
        section(info.name or info.callback.__name__, info.callback) for info in app.registered_commands
    )
    pages.write(folder / "commands.md", HEAD + "\n\n".join(sections) + "\n")


def section(name: str, command: Any) -> str:
    known = list(parameters(command))
    arguments = [p for p in known if p.is_argument]
    words = " ".join(a.usage if a.is_required else f"[{a.usage}]" for a in arguments)
    about, _, example = inspect.getdoc(command).partition("\n\nExample: ")
    usage = " ".join(f"handgrad {name} {words} [options]".split())
    parts = [f"## handgrad {name}", f"```\n{usage}\n```", about]
    if example:
        parts.append(f"```sh\n{example}\n```")
    for kind in (True, False):
        rows = [[f"`{p.usage}`", f"{p.help} {p.default}".strip()] for p in known if p.is_argument is kind]
        if rows:
            parts.append(pages.cards(pages.table(["argument" if kind else "option", "meaning"], rows)))
    return "\n\n".join(parts)


def parameters(command: Any) -> Iterator[Parameter]:
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        if hints[parameter.name] is typer.Context:
            continue
        kind, info = get_args(hints[parameter.name])
        if isinstance(kind, types.UnionType):
            kind = next(part for part in get_args(kind) if part is not type(None))
        is_argument = isinstance(info, ArgumentInfo)
        default = parameter.default
        is_silent = default in (parameter.empty, None, ()) or isinstance(default, bool)
        shown = "" if is_silent else f"Default: `{default}`."
        usage = (info.metavar or parameter.name.upper()) + ("..." if get_origin(kind) is list else "")
        if not is_argument:
            usage = option(parameter.name, kind, info, default)
        yield Parameter(usage, info.help or "", shown, is_argument, default is parameter.empty)


def option(name: str, kind: Any, info: Any, default: Any) -> str:
    flag = "--" + name.replace("_", "-")
    declared = [*([info.default] if isinstance(info.default, str) else []), *(info.param_decls or ())]
    names = ", ".join(declared or ([flag, f"--no-{flag[2:]}"] if default is True else [flag]))
    if kind is bool:
        return names
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    words = {str: "text", int: "integer", float: "number"}
    return f"{names} {info.metavar or words.get(kind, kind.__name__.lower())}"
