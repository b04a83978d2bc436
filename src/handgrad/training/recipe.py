"""How a model is trained: steps, batches, learning rate, and the rest; and the presets' recipes."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from handgrad.engines import lora
from handgrad.engines.engine import OPTIMIZERS, Optimizer, OptimizerSettings
from handgrad.errors import UserError, require_known, require_number, require_whole, shown
from handgrad.model.config import ModelConfig
from handgrad.optim.schedule import SCHEDULES, Schedule, share

LARGEST = float(np.finfo(np.float32).max)

Rule = tuple[str, Callable[[float], bool]]
POSITIVE: Rule = (f"above zero, and at most {LARGEST:.2g}", lambda value: 0.0 < value <= LARGEST)
NOT_NEGATIVE: Rule = (f"zero or above, and at most {LARGEST:.2g}", lambda value: 0.0 <= value <= LARGEST)
BELOW_ONE: Rule = ("at least 0 and below 1", lambda value: 0.0 <= value < 1.0)
SHARE: Rule = ("from 0 to 1", lambda value: 0.0 <= value <= 1.0)
ABOVE_ZERO: Rule = ("above 0, and at most 1", lambda value: 0.0 < value <= 1.0)

COUNTS = {
    "steps": 1, "batch_size": 1, "window": 1, "lora_rank": 1, "warmup_steps": 0, "eval_every": 1,
    "eval_batches": 1,
}  # fmt: skip
"""The whole numbers of a recipe, and the least that each can be."""
RULES: dict[str, Rule] = {
    "minutes": POSITIVE,
    "lora_alpha": POSITIVE,
    "learning_rate": POSITIVE,
    "matrix_learning_rate": POSITIVE,
    "final_share": SHARE,
    "decay_share": ABOVE_ZERO,
    "beta1": BELOW_ONE,
    "beta2": BELOW_ONE,
    "momentum": BELOW_ONE,
    "weight_decay": NOT_NEGATIVE,
    "max_gradient_norm": POSITIVE,
    "skip_spikes": POSITIVE,
}
"""What each other number must be."""
OPTIONAL = ("minutes", "window", "lora_rank", "skip_spikes")
"""Numbers that may be None."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to train. Raises `UserError` where a number means nothing."""

    steps: int = 2000
    """Batches to train on, an update of the weights each; with `minutes`, as many as are expected to fit."""
    minutes: float | None = None
    """Time after which the run is to be over; by default it takes as long as its steps do."""
    batch_size: int = 12
    """Sequences a step."""
    window: int | None = None
    """Tokens of a sequence that is trained on; by default the model's whole context."""
    learning_rate: float = 1e-3
    """The largest of the schedule: AdamW's."""
    lora_rank: int | None = None
    """The width of LoRA's matrices, which alone are learned then; by default all weights are."""
    lora_alpha: float = 16.0
    """LoRA's: what its matrices add is multiplied with lora_alpha / lora_rank."""
    schedule: Schedule = "cosine"
    """How the learning rate falls after the warm-up."""
    warmup_steps: int = 100
    """Steps in which it rises from zero; a tenth of all steps at most."""
    final_share: float = 0.1
    """The learning rate at the end, as a share of the largest."""
    decay_share: float = 0.2
    """The share of the steps, after the warm-up, over which warmup_stable_decay falls."""
    optimizer: Optimizer = "adamw"
    """What changes the weights. With muon, Muon changes the blocks' matrices, and AdamW all others."""
    matrix_learning_rate: float = 1e-2
    """Muon's largest learning rate; it follows the same schedule."""
    momentum: float = 0.9
    """Muon's: the share of its velocity that a step keeps."""
    beta1: float = 0.9
    """AdamW's decay of the running mean of gradients."""
    beta2: float = 0.99
    """AdamW's decay of the running mean of squared gradients."""
    weight_decay: float = 0.1
    """Each step takes away this share of a matrix, times the learning rate."""
    max_gradient_norm: float = 1.0
    """Longer gradients are scaled down to this norm."""
    skip_spikes: float | None = None
    """A step whose loss or gradient is so many standard deviations above the mean of those before is not
    applied: see `spikes`. By default all are."""
    eval_every: int = 250
    """Steps between two evaluations; each is followed by a checkpoint."""
    eval_batches: int = 20
    """Batches of the validation text an evaluation reads; the last evaluation reads all of it."""

    def __post_init__(self) -> None:
        require_known("schedule", self.schedule, SCHEDULES)
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        for name, least in COUNTS.items():
            if self._has(name):
                object.__setattr__(self, name, require_whole(name, getattr(self, name), least))
        for name, (rule, holds) in RULES.items():
            if not self._has(name):
                continue
            value = require_number(name, getattr(self, name))
            if not holds(value):
                raise UserError(f"{name} must be {rule}; got {shown(value)}.")
            object.__setattr__(self, name, value)

    @property
    def adaptation(self) -> lora.Settings | None:
        """LoRA's settings; None where all weights are learned."""
        return None if self.lora_rank is None else lora.Settings(self.lora_rank, self.lora_alpha)

    def _has(self, name: str) -> bool:
        return name not in OPTIONAL or getattr(self, name) is not None

    @property
    def duration(self) -> str:
        """How long it takes, where that is given, in words."""
        return "1 minute" if self.minutes == 1.0 else f"{self.minutes:g} minutes"

    @property
    def eval_windows(self) -> int:
        """Windows of the validation text that an evaluation reads, but for the last one."""
        return self.eval_batches * self.batch_size

    def trained(self, model: ModelConfig) -> ModelConfig:
        """The model as it is in training: its context is the recipe's window, its weights are the same.

        Raises `UserError` where that cannot be.
        """
        if self.window is None:
            return model
        if self.window > model.context_length:
            raise UserError(
                f"The model attends to {model.context_length:,} tokens; got context_length={self.window:,}. "
                f"Leave it out, or name a smaller one."
            )
        if model.position == "learned" and self.window < model.context_length:
            raise UserError(
                f"The model has learned a position for each of its {model.context_length:,} tokens, and is "
                f"trained on as many at a time; got context_length={self.window:,}. Leave it out."
            )
        return model.replace(context_length=self.window)

    def learning_rate_at(self, place: float) -> float:
        """The learning rate of the step at `place`, counted from 0: see `pace`."""
        return self.learning_rate * share(
            place,
            schedule=self.schedule,
            steps=self.steps,
            warmup_steps=min(self.warmup_steps, self.steps // 10),
            final_share=self.final_share,
            decay_share=self.decay_share,
        )

    @property
    def optimizer_settings(self) -> OptimizerSettings:
        return OptimizerSettings(
            optimizer=self.optimizer,
            momentum=self.momentum,
            matrix_rate=self.matrix_learning_rate / self.learning_rate,
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            max_gradient_norm=self.max_gradient_norm,
        )

    def replace(self, **changes: Any) -> Self:
        """The same recipe with some numbers changed, checked anew."""
        for name in changes:
            require_known("recipe option", name, (field.name for field in dataclasses.fields(self)))
        return dataclasses.replace(self, **changes)


RECIPES: dict[str, Recipe] = {
    "paper": Recipe(),
    # nanoGPT's README, CPU: --max_iters=2000 --lr_decay_iters=2000 --eval_iters=20 --batch_size=12
    "nano": Recipe(),
    # nanoGPT's config/train_shakespeare_char.py
    "baby": Recipe(steps=5000, batch_size=64, eval_batches=200),
    "quick": Recipe(
        steps=1000,
        batch_size=16,
        optimizer="muon",
        learning_rate=1e-2,
        matrix_learning_rate=1e-2,
        momentum=0.8,
        beta2=0.95,
        schedule="warmup_stable_decay",
        warmup_steps=50,
        final_share=0.0,
        decay_share=0.67,
        eval_every=125,
        eval_batches=20,
    ),
    # GPT-2's size on one computer: nanoGPT's settings for it, with batches a CPU can carry
    "gpt2": Recipe(
        steps=5000, batch_size=4, learning_rate=6e-4, beta2=0.95, warmup_steps=500, eval_batches=10
    ),
    "llama": Recipe(steps=5000, batch_size=32, eval_batches=50),
}

FINE_TUNING = Recipe(
    steps=1000,
    batch_size=8,
    # a tenth of the presets': the weights are where a long training left them, and large steps forget that
    learning_rate=1e-4,
    # Adam's first steps have the full length in every weight, whatever the gradient: they had better be short
    warmup_steps=20,
    # decay draws weights to zero, and not to where they began
    weight_decay=0.0,
)
"""How training goes on from a model."""

LORA_LEARNING_RATE = 1e-3
"""LoRA's matrices begin with nothing to forget; a product of two narrow ones needs longer steps."""
