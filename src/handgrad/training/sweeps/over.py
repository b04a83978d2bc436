"""What a sweep tries: for each option the values it may have, listed or between two ends.

64,128,192          these
1e-3:3e-2           all between
1e-3:3e-2:log       likewise, small ones as often as large ones
64:256:32           whole numbers in steps
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, get_args, get_type_hints

import numpy as np

from handgrad.errors import UserError, require_known, shown
from handgrad.model.config import ModelConfig
from handgrad.training.prepare import MODEL_OPTIONS, RECIPE_OPTIONS
from handgrad.training.recipe import Recipe

SEED = "seed"
MOST_VALUES = 32
"""Of a range of whole numbers that are all looked at beforehand."""
FAR = 8
"""How many times the least number of a list the largest is, where the list is as good as logarithmic."""
NEAR = 0.1
"""The share of what is tried that is its end."""
HINTS = get_type_hints(ModelConfig) | get_type_hints(Recipe)


class Listed(NamedTuple):
    """Values that are named one by one."""

    values: tuple[Any, ...]

    @property
    def probes(self) -> tuple[Any, ...]:
        """Values to look at before a sweep begins."""
        return self.values

    @property
    def middle(self) -> Any:
        return self.values[len(self.values) // 2]

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the largest; None where they are no numbers."""
        numbers = [it for it in self.values if isinstance(it, int | float) and not isinstance(it, bool)]
        return (min(numbers), max(numbers)) if len(numbers) == len(self.values) else None

    @property
    def is_log(self) -> bool:
        """Whether a picture's axis is logarithmic."""
        return self.ends is not None and 0 < FAR * self.ends[0] <= self.ends[1]


class Range(NamedTuple):
    """All values from `low` to `high`."""

    low: float
    high: float
    is_log: bool = False
    step: int | None = None
    """Whole numbers are so far apart; None where any number will do."""

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    def points(self, n: int) -> list[Any]:
        """`n` values from end to end, or as many different whole numbers as there are."""
        spread = np.geomspace if self.is_log else np.linspace
        found = spread(self.low, self.high, n).tolist() if n > 1 else [self.middle]
        return sorted({self.rounded(it) for it in found})

    def rounded(self, value: float) -> Any:
        """The nearest whole number that is meant; any other number with four digits, as one writes it."""
        if self.step is not None:
            return int(self.low) + self.step * round((value - self.low) / self.step)
        return min(max(float(f"{value:.4g}"), self.low), self.high)

    @property
    def probes(self) -> tuple[Any, ...]:
        if self.step is None:
            return self.low, self.high
        whole = range(int(self.low), int(self.high) + 1, self.step)
        return tuple(whole) if len(whole) <= MOST_VALUES else (whole[0], whole[1], whole[-1])

    @property
    def middle(self) -> Any:
        return self.rounded(math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2)


Values = Listed | Range
Over = Mapping[str, Values]


def end(values: Values, value: Any) -> str:
    """Which end of what is tried `value` is at, within a tenth: "smallest", "largest", or neither."""
    if values.ends is None:
        return ""
    scale = math.log if values.is_log else float
    low, high, place = map(scale, (*values.ends, value))
    share = (place - low) / (high - low)
    return "smallest" if share <= NEAR else "largest" if share >= 1 - NEAR else ""


def parse(given: Mapping[str, str | Sequence[Any]]) -> dict[str, Values]:
    """The values of each option; `UserError` for what no run can be told, or means nothing."""
    if not given:
        raise UserError(
            "A sweep tries values of an option; got none. Name one: --over learning_rate=1e-3:3e-2:log."
        )
    for name in given:
        require_known("option to sweep", name, sorted({*MODEL_OPTIONS, *RECIPE_OPTIONS, SEED}))
    return {name: _values(name, it) for name, it in given.items()}


def split(pairs: Sequence[str]) -> dict[str, str]:
    """name=values pairs of the command line."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, values = pair.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or name in found:
            raise UserError(f"--over takes an option once, as in --over d_model=64,128,192; got {pair!r}.")
        found[name] = values
    return found


def combinations(over: Over, most: int) -> list[dict[str, Any]]:
    """All combinations of what is listed and of ranges' probes; none, where they are more than `most`."""
    probes = [values.probes for values in over.values()]
    if math.prod(map(len, probes)) > most:
        return []
    return [dict(zip(over, values, strict=True)) for values in itertools.product(*probes)]


def grid(over: Over, trials: int) -> list[dict[str, Any]]:
    """The trials laid out beforehand: of a range alone, or of no more combinations than trials; else none."""
    if len(over) == 1 and isinstance(values := next(iter(over.values())), Range):
        return [{name: point} for name in over for point in values.points(trials)]
    if any(isinstance(values, Range) for values in over.values()):
        return []
    return combinations(over, trials)


def plain(value: Any) -> Any:
    """A number of NumPy's as Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _values(name: str, given: str | Sequence[Any]) -> Values:
    if isinstance(given, str) and ":" in given:
        return _range(name, given)
    values = tuple(_parsed(given.split(",")) if isinstance(given, str) else map(plain, given))
    if not all(it is None or isinstance(it, bool | int | float | str) for it in values):
        raise UserError(f"{name} is tried with numbers, words, true and false; got {shown(given)}.")
    if len(values) < 2 or len({json.dumps(it) for it in values}) < len(values):
        raise UserError(f"{name} is tried with two different values at least; got {shown(given)}.")
    return Listed(values)


def _parsed(words: Sequence[str]) -> Iterator[Any]:
    for word in words:
        try:
            yield json.loads(word)
        except ValueError:
            yield word.strip()


def _range(name: str, given: str) -> Range:
    parts = given.split(":")
    try:
        low, high = float(parts[0]), float(parts[1])
        kind = parts[2] if len(parts) > 2 else ""
        is_log = kind == "log"
        step = int(kind) if kind and not is_log else 1
    except ValueError as error:
        raise _no_range(name, given) from error
    is_whole = _is_whole(name)
    if len(parts) > 3 or not low < high or not math.isfinite(high - low) or (is_log and low <= 0):
        raise _no_range(name, given)
    if is_whole and not (low.is_integer() and high.is_integer() and 1 <= step <= high - low):
        raise _no_range(name, given)
    if not is_whole and kind and not is_log:
        raise _no_range(name, given)
    return Range(low, high - (high - low) % step, is_log, step) if is_whole else Range(low, high, is_log)


def _no_range(name: str, given: str) -> UserError:
    example = "64:256:32" if _is_whole(name) else "1e-3:3e-2, or 1e-3:3e-2:log"
    return UserError(
        f"A range of {name} has a lower end and a higher one, as in {example}; got {shown(given)}."
    )


def _is_whole(name: str) -> bool:
    """Whether an option is a whole number."""
    hint = int if name == SEED else HINTS[name]
    kinds = {hint, *get_args(hint)}
    if not kinds & {int, float}:
        raise UserError(f"{name} is no number, so it has no range. List its values, with commas.")
    return float not in kinds
