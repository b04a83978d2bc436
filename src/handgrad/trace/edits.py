"""What may be done to a value on its way forward, or to a gradient on its way back.

An edit of a value is an op: it has a backward of its own, so that gradients stay those of the edited model:

    scaled:    y = s x        dx = s dy
    replaced:  y = c          dx = 0
    added:     y = x + c      dx = dy

`where` chooses part of a site by NumPy's indexing, on the site's own axes: `where=3` is the fourth head of
`blocks.0.attention.heads`, `where=np.s_[:, -1]` its last position.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


class Edit(Protocol):
    """A change of a value (B, ...): the same protocol as an op's."""

    def forward(self, value: np.ndarray) -> tuple[np.ndarray, Any]:
        """The value that goes on, and what backward needs."""

    def backward(self, gradient: np.ndarray, saved: Any) -> np.ndarray:
        """From the gradient of what goes on to that of what came."""


@dataclass(frozen=True)
class Scaled:
    """Part of a value, multiplied."""

    factor: Any
    where: Any = ...

    def forward(self, value: np.ndarray) -> tuple[np.ndarray, None]:
        return self._scaled(value), None

    def backward(self, gradient: np.ndarray, saved: None) -> np.ndarray:
        return self._scaled(gradient)

    def _scaled(self, value: np.ndarray) -> np.ndarray:
        scaled = value.copy()
        scaled[_batched(self.where)] *= self.factor
        return scaled


@dataclass(frozen=True)
class Replaced:
    """Something else in place of part of a value."""

    by: Any
    where: Any = ...

    def forward(self, value: np.ndarray) -> tuple[np.ndarray, None]:
        return self._with(value, self.by), None

    def backward(self, gradient: np.ndarray, saved: None) -> np.ndarray:
        return self._with(gradient, 0.0)

    def _with(self, value: np.ndarray, by: Any) -> np.ndarray:
        replaced = value.copy()
        replaced[_batched(self.where)] = by
        return replaced


@dataclass(frozen=True)
class Added:
    """Something added to part of a value."""

    what: Any
    where: Any = ...

    def forward(self, value: np.ndarray) -> tuple[np.ndarray, None]:
        total = value.copy()
        total[_batched(self.where)] += self.what
        return total, None

    def backward(self, gradient: np.ndarray, saved: None) -> np.ndarray:
        return gradient


@dataclass(frozen=True)
class Mixed:
    """Something else in place of a value where `off` says so. Both have a batch axis, or broadcast to it."""

    off: np.ndarray
    instead: np.ndarray

    def forward(self, value: np.ndarray) -> tuple[np.ndarray, None]:
        return np.where(self.off, self.instead, value), None

    def backward(self, gradient: np.ndarray, saved: None) -> np.ndarray:
        return np.where(self.off, 0.0, gradient).astype(gradient.dtype)


@dataclass(frozen=True)
class Called:
    """A function of a value without its batch axis. What it changes is constant: there the gradient ends."""

    function: Callable[[np.ndarray], Any]

    def forward(self, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        changed = value.copy()
        for one in changed:
            given = np.asarray(self.function(one.copy()))
            if given.shape != one.shape:
                raise ValueError(f"it gave the shape {given.shape}")
            one[...] = given
        return changed, changed == value

    def backward(self, gradient: np.ndarray, saved: np.ndarray) -> np.ndarray:
        return gradient * saved


@dataclass(frozen=True)
class Chained:
    """One edit after the other."""

    first: Edit
    then: Edit

    def forward(self, value: np.ndarray) -> tuple[np.ndarray, tuple[Any, Any]]:
        value, first = self.first.forward(value)
        value, then = self.then.forward(value)
        return value, (first, then)

    def backward(self, gradient: np.ndarray, saved: tuple[Any, Any]) -> np.ndarray:
        first, then = saved
        return self.first.backward(self.then.backward(gradient, then), first)


def zero(where: Any = ...) -> Replaced:
    """Zero in place of part of a value, or of a gradient."""
    return Replaced(0.0, where)


def scale(factor: Any, where: Any = ...) -> Scaled:
    """Part of a value, or of a gradient, multiplied."""
    return Scaled(factor, where)


def replace(by: Any, where: Any = ...) -> Replaced:
    """`by` in place of part of a value, or of a gradient."""
    return Replaced(by, where)


def add(what: Any, where: Any = ...) -> Added:
    """`what` added to part of a value, or of a gradient."""
    return Added(what, where)


def of(what: "Edit | Callable[[np.ndarray], Any]") -> Edit:
    """An edit, or one made of a function."""
    return what if hasattr(what, "forward") and hasattr(what, "backward") else Called(what)


def together(standing: Mapping[str, Edit], added: Mapping[str, Edit]) -> dict[str, Edit]:
    """Both, by the names of sites; where both change a site, `added` comes after."""
    after = {name: Chained(standing[name], edit) for name, edit in added.items() if name in standing}
    return {**standing, **added, **after}


def _batched(where: Any) -> tuple[Any, ...]:
    return (slice(None), *(where if isinstance(where, tuple) else (where,)))
