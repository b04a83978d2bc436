"""One text that is to be written, as the scheduler sees it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from handgrad.generation.writer import Piece, Writer


class Failure(NamedTuple):
    """Why a text ends before its end: out of time, the server stops, or the model cannot go on."""

    kind: Literal["timeout", "shutdown", "model"]
    sentence: str


@dataclass(eq=False)
class Job:
    """A prompt, and what decides how it goes on."""

    token_ids: np.ndarray
    writer: Writer
    report: Callable[[Piece | Failure], object] = lambda event: None
    """Called on the scheduler's thread with every piece, or with the failure that ends the text."""
    seconds: float = math.inf
    """From when it is taken in to its end."""
    left: bool = False
    """Set by whoever waits for it no longer: it ends with the next pass, and nothing is reported."""
    n_cached: int = 0
    """Tokens of the prompt whose keys and values were there already."""
    began: float = 0.0

    def is_late(self, now: float) -> bool:
        return now >= self.began + self.seconds
