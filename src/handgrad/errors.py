"""The one error that a user may see: a sentence with the rule, the facts and the remedy."""

import difflib
import operator
import reprlib
from collections.abc import Iterable
from typing import Any

import numpy as np

MOST = (1 << 31) - 1
"""The largest number that a model's description may have; anything larger is taken for a mistake."""


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


def require_number(name: str, value: Any) -> int | float:
    """`value`, a number of Python's or NumPy's, as Python's; `UserError` where it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise UserError(f"{name} must be a number; got {shown(value)}.")
    return int(value) if isinstance(value, int | np.integer) else float(value)


def require_count(name: str, value: Any) -> int:
    """`value`, of any integer type, as an int; `UserError` unless it can be a count of something."""
    whole = as_whole(value)
    if whole is None or not 1 <= whole <= MOST:
        raise UserError(
            f"{name} counts something, so it must be a whole number from 1 to {MOST}; got {shown(value)}."
        )
    return whole


def require_finite(name: str, value: Any) -> float:
    """`value`, of any number's type, as a finite float; `UserError` where it is none."""
    number = require_number(name, value)
    if not abs(number) < MOST:  # False for NaN
        raise UserError(f"{name} must be finite, and below {MOST}; got {shown(value)}.")
    return float(number)


def require_whole(name: str, value: Any, least: int = 0) -> int:
    """`value`, of any integer type, as an int; `UserError` unless it is at least `least` and below 2^63."""
    whole = as_whole(value)
    if whole is None or not least <= whole < 1 << 63:
        raise UserError(f"{name} must be a whole number from {least}, below 2^63; got {shown(value)}.")
    return whole


def as_whole(value: Any) -> int | None:
    """`value`, of any integer type, as an int; None where it is something else, such as a bool."""
    if isinstance(value, bool | np.bool_):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def shown(value: Any) -> str:
    """A value as errors show it: on one line, and no longer than one."""
    try:
        return reprlib.repr(value)
    except ValueError:  # Python writes no whole number of more than some thousand digits
        return "a number of thousands of digits"
