"""Faults of the kinds that happen, each put into handgrad for as long as a `with` lasts."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

from handgrad import parameters as p
from handgrad import tree

Change = Callable[..., Any]


class Fault(NamedTuple):
    """What goes wrong, and in which model it is looked for."""

    model: str
    name: str
    inject: Callable[[], AbstractContextManager[Any]]


def replaced(owner: Any, name: str, make: Callable[[Change], Change]) -> Callable[[], Any]:
    """`owner.name` replaced by what `make` makes of it."""
    return lambda: patch.object(owner, name, make(getattr(owner, name)))


def result(owner: Any, name: str, change: Change) -> Callable[[], Any]:
    """What `owner.name` returns, changed."""

    def make(right: Change) -> Change:
        return lambda *args, **kwargs: change(right(*args, **kwargs))

    return replaced(owner, name, make)


def nth_result(owner: Any, name: str, number: int, of: int, change: Change) -> Callable[[], Any]:
    """The same of one call in every `of`: that of one layer, where every layer calls once."""

    def make(right: Change) -> Change:
        calls = 0

        def wrong(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            found = right(*args, **kwargs)
            return change(found) if (calls - 1) % of == number else found

        return wrong

    return replaced(owner, name, make)


def setting(owner: Any, name: str, **settings: Change) -> Callable[[], Any]:
    """`owner.name` called with these settings changed."""

    def make(right: Change) -> Change:
        def wrong(*args: Any, **kwargs: Any) -> Any:
            changed = {key: change(kwargs[key]) for key, change in settings.items() if key in kwargs}
            return right(*args, **(kwargs | changed))

        return wrong

    return replaced(owner, name, make)


def named(weights: p.Transformer, changes: dict[str, Change]) -> p.Transformer:
    """The weights with some arrays changed, by their names."""
    names = (name for name, _ in tree.named_leaves(weights))
    return tree.map(lambda array: changes.get(next(names), lambda same: same)(array), weights)
