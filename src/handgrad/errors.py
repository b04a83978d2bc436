"""The one error that a user may see: a sentence with the rule, the facts and the remedy."""

import difflib
import reprlib
from collections.abc import Iterable
from typing import Any


class UserError(Exception):
    """An error that the user can correct. The text is the whole message: no traceback is needed.

    It is raised once, where the input enters. The command line prints it and exits with 2.
    """


def require_known(what: str, name: str, choices: Iterable[str]) -> None:
    """Raise `UserError` unless `name` is one of `choices`, and suggest the nearest."""
    known = list(choices)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1) if isinstance(name, str) else []
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"There is no {what} {shown(name)}; choose one of {', '.join(known)}.{hint}")


def require_number(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{name} must be a number; got {shown(value)}.")


def require_whole(name: str, value: Any, least: int = 0) -> None:
    """Raise `UserError` unless `value` is a whole number, at least `least` and below 2^63."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 63:
        raise UserError(f"{name} must be a whole number from {least}, below 2^63; got {shown(value)}.")


def shown(value: Any) -> str:
    """A value as errors show it: on one line, and no longer than one."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no whole number of more than some thousand digits
        return "a number of thousands of digits"
