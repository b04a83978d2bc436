"""The one error that a user may see: a sentence with the rule, the facts and the remedy."""

import difflib
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
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise UserError(f"There is no {what} {name!r}; choose one of {', '.join(known)}.{hint}")


def require_number(name: str, value: Any) -> None:
    """Raise `UserError` unless `value` is a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{name} must be a number; got {value!r}.")
