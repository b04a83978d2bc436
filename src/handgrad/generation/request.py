"""What is to be written: how much, how it is chosen, and when it is over."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from handgrad.errors import UserError, require_known, require_whole, shown
from handgrad.generation.constraint import Grammar
from handgrad.generation.sampling import Sampling

WHEN_FULL = ("slide", "stop")
MOST_STOPS, LONGEST_STOP = 64, 1000


@dataclass(frozen=True, kw_only=True)
class Request:
    """All that is asked of one text but its prompt. Raises `UserError` for what means nothing."""

    max_tokens: int = 200
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    """The same seed writes the same text."""
    stop: tuple[str, ...] = ()
    """Strings before which the text ends."""
    when_full: str = "slide"
    """A full context: "slide" forgets its older half and goes on, "stop" ends the text."""
    log_probabilities: int | None = None
    """How many alternatives are told with each token and its log-probability; None: nothing of it."""
    grammar: Grammar | None = None
    """What the text has to be: see `constraint`."""

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("seed", 0)):
            object.__setattr__(self, name, require_whole(name, getattr(self, name), least=least))
        if self.log_probabilities is not None:
            told = require_whole("log_probabilities", self.log_probabilities)
            object.__setattr__(self, "log_probabilities", told)
        require_known("when_full", self.when_full, WHEN_FULL)
        object.__setattr__(self, "stop", _stops(self.stop))

    @classmethod
    def of(cls, **settings: Any) -> "Request":
        """From settings of `Request` and `Sampling` by name; `UserError` says what a wrong one may mean."""
        sampling, own = ({f.name for f in dataclasses.fields(kind)} for kind in (Sampling, cls))
        own -= {"sampling"}
        for name in settings:
            require_known("setting", name, sorted(sampling | own))
        chosen = Sampling(**{name: value for name, value in settings.items() if name in sampling})
        return cls(sampling=chosen, **{name: value for name, value in settings.items() if name in own})


def _stops(given: Any) -> tuple[str, ...]:
    stops = (given,) if isinstance(given, str) else tuple(given)
    for stop in stops:
        if not isinstance(stop, str) or not 0 < len(stop) <= LONGEST_STOP:
            raise UserError(f"A stop string has 1 to {LONGEST_STOP} characters; got {shown(stop)}.")
    if len(stops) > MOST_STOPS:
        raise UserError(f"There may be {MOST_STOPS} stop strings; got {len(stops)}.")
    return stops
