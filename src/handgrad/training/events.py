"""What a run reports while it is made and trained."""

from typing import NamedTuple

from handgrad.training.dial import Plan, Reason


class StepDone(NamedTuple):
    """A training step is done."""

    step: int
    expected_steps: int
    """How many there will be."""
    loss: float
    tokens_per_second: float


class Evaluated(NamedTuple):
    """The model is evaluated and saved."""

    step: int
    train_loss: float | None
    """The mean over the steps since the last evaluation; None before the first step."""
    validation_loss: float
    """In nats a token."""
    bits_per_byte: float
    is_best: bool
    is_whole: bool
    """The whole validation text was read, in windows that do not overlap."""
    seconds: float
    sample: str
    """What the model writes now."""

    def __str__(self) -> str:
        train = f"train {self.train_loss:.3f}  " if self.train_loss is not None else ""
        best = ("  best" if self.is_whole else "  best so far") if self.is_best and self.step else ""
        which = ", whole text" if self.is_whole else ""
        validation = f"validation {self.validation_loss:.3f} ({self.bits_per_byte:.3f} bits a byte{which})"
        return f"step {self.step:,}  {train}{validation}{best}"


class Skipped(NamedTuple):
    """A step was not applied, for its loss or its gradient stood out: see `spikes`."""

    step: int
    loss: float
    """Of its batch."""
    gradient_norm: float
    largest_loss: float
    """With which it would have been applied,"""
    largest_gradient_norm: float
    """and likewise."""

    def __str__(self) -> str:
        found = [
            f"{name} {value:.3g} is above {largest:.3g}"
            for name, value, largest in (
                ("loss", self.loss, self.largest_loss),
                ("gradient norm", self.gradient_norm, self.largest_gradient_norm),
            )
            if value > largest
        ]
        return f"step {self.step:,}  skipped: its {' and its '.join(found)}; the weights stay as they were"


class Compiling(NamedTuple):
    """A kernel, or another function, is being compiled: kernels once for this machine."""

    kernel: str
    n: int
    """Its number, from 1."""


class Planned(NamedTuple):
    """A run of given minutes was planned."""

    plan: Plan
    tokenizer: str

    @property
    def reasons(self) -> list[Reason]:
        """The choices in words."""
        plan = self.plan
        tokens = f"{plan.n_tokens:,} tokens to train on, {plan.chosen.model.vocab_size:,} different"
        return [Reason("tokenizer", self.tokenizer, tokens), *plan.reasons]


class Preparing(NamedTuple):
    """Something is done before training begins, in words."""

    doing: str


class Advised(NamedTuple):
    """Something seems to go wrong: see `doctor`. Each kind of it is reported once."""

    step: int
    kind: str
    sentence: str

    def __str__(self) -> str:
        return f"step {self.step:,}  {self.sentence}"


Event = Preparing | Compiling | Planned | StepDone | Skipped | Evaluated | Advised
