"""What a sweep reports, besides what its runs do."""

from typing import Any, NamedTuple

from handgrad.training.sweeps.record import Trial


class TrialBegun(NamedTuple):
    """A trial begins, or goes on."""

    trial: Trial
    n_trials: int


class TrialDone(NamedTuple):
    """A trial is over."""

    trial: Trial
    n_trials: int
    is_best: bool
    """Of all so far."""

    def __str__(self) -> str:
        trial, came = self.trial, outcome(self.trial, self.is_best)
        return f"trial {trial.number} of {self.n_trials}  {listed(trial.options)}  {came}"


def outcome(trial: Trial, is_best: bool) -> str:
    """What came of it, in words."""
    if trial.loss is None:
        return f"failed: {trial.why}" if trial.state == "failed" else trial.state
    if trial.state == "finished":
        return f"validation {trial.loss:.3f}{'  best so far' if is_best else ''}"
    return f"{trial.state} after {trial.steps:,} steps, at {trial.loss:.3f}"


def listed(options: dict[str, Any]) -> str:
    """Names and values on one line."""
    return ", ".join(f"{name} {shown(value)}" for name, value in options.items())


def shown(value: Any) -> str:
    """A value as it stands in a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
