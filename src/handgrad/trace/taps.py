"""Taps: where values and gradients are kept and changed on their way."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from handgrad.errors import UserError
from handgrad.trace.edits import Edit


@dataclass
class Taps:
    """Where values are kept and changed, by the names of their sites."""

    kept: frozenset[str] = frozenset()
    edits: Mapping[str, Edit] = field(default_factory=dict)
    """Of values,"""
    gradient_edits: Mapping[str, Edit] = field(default_factory=dict)
    """and of gradients."""
    values: dict[str, np.ndarray] = field(default_factory=dict)
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    _saved: dict[str, Any] = field(default_factory=dict)

    def forward(self, name: str, value: np.ndarray) -> np.ndarray:
        """The value that goes on from the site."""
        if name in self.edits:
            value, self._saved[name] = _edited(name, value, self.edits[name])
        if name in self.kept:
            self.values[name] = value
        return value

    def backward(self, name: str, gradient: np.ndarray) -> np.ndarray:
        """From the gradient of what went on from the site to that of what came there."""
        if name in self.gradient_edits:
            gradient, _ = _edited(name, gradient, self.gradient_edits[name])
        if name in self.kept:
            self.gradients[name] = gradient
        if name in self.edits:
            gradient = self.edits[name].backward(gradient, self._saved[name])
        return gradient


def _edited(name: str, value: np.ndarray, edit: Edit) -> tuple[np.ndarray, Any]:
    try:
        return edit.forward(value)
    except (IndexError, ValueError, TypeError) as error:
        raise UserError(
            f"{name} has the shape {value.shape[1:]}, and the edit of it does not fit: {error}."
        ) from error
