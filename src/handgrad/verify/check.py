"""One comparison: what was compared, how far apart both sides may be, and how far they are."""

from typing import NamedTuple


class Check(NamedTuple):
    """The verdict on one property of a model."""

    group: str
    """Who computes, and how: `formulas, float64`, `cpu, bfloat16`."""
    name: str
    """The two sides, as `one token at a time = uncached`."""
    measured: float
    """How far they are apart."""
    bound: float
    """The largest difference that passes."""
    unit: str
    """What a difference of 1 means."""
    reason: str
    """Why the bound is what it is."""
    facts: str = ""
    """How much was compared, or where the difference is largest."""
    left_out: str = ""
    """Why it could not be compared; empty where it was."""

    @property
    def passed(self) -> bool:
        return bool(self.left_out) or self.measured <= self.bound  # False for NaN
