r"""What goes wrong in a run, in one sentence: a pure function of its rows and its configuration.

Its thresholds are few. Losses are measured on the scale of the text: its *span* is what pairs of tokens tell,
the uniform loss minus the bigram loss. Learning rates are measured in first weights: AdamW moves a weight by
about the learning rate a step, so that the sum of the learning rates so far is how far any weight can have
moved, and the deviation of first matrices, $0.02\sqrt{768/d_{model}}$, is how far it is to go. Muon moves
matrices otherwise: of its learning rates only the loss can tell. Of the layers the last diagnosis tells.

`benchmarks/doctor.py` shows on runs, healthy and sick ones, that it is silent and that it speaks.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handgrad.model import init
from handgrad.model.count import count
from handgrad.ops.activation import SILENT
from handgrad.shapes import Float
from handgrad.training.metrics import DiagnosisRow, EvaluationRow, Row, StepRow
from handgrad.training.run_config import RunConfig

REPEATED = 0.25
"""The share of the validation text, found in the training text, from which its loss measures memory."""
WARM = 0.9
"""The share of the largest learning rate at which the warm-up is over."""
STEPS = 100
"""Steps after the warm-up before a learning rate is judged."""
LEAST_WINDOW = 20
"""Steps whose mean loss is looked at, or a tenth of all."""
STILL = 0.1
"""A loss that moves by less than this share of the span stands still; one that rises by more grows."""
NOISE = 4.0
"""Deviations of a mean of batches, beyond which it has risen."""
LITTLE = 0.6
"""First weights' deviations: with less to move, nothing has been learned."""
LARGE_STEP = 0.12
"""First weights' deviations: a step as long throws weights about."""
GOOD_STEP = 0.02
"""The same for a learning rate that is worth a try: 0.001 at a width of 128."""
RISEN = 0.03
"""A validation loss this share above its lowest has risen."""
GAP = 0.1
"""A training loss this share below the validation loss is far from it."""
PARAMETERS_A_TOKEN = 15
"""Parameters for each token of the training text that can hold the text by heart."""
DEAD = 0.5
"""The share of a layer's units that must be dead: of healthy runs, at most a tenth are."""
COLLAPSED = 0.01
"""The share of the largest entropy below which a head looks at one position. Healthy layers have a 0.4."""
VANISHED = 1e-2
"""The gradient's norm in the first block, as a share of that in the last. Healthy runs have 0.6 and more."""
TINY = 1e-9
READ_OFTEN = 4.0
"""How often the training text has been read, from which a gap comes from reading again."""


class Finding(NamedTuple):
    """What is wrong."""

    kind: str
    sentence: str


class Course(NamedTuple):
    """A run as far as it is."""

    config: RunConfig
    steps: list[StepRow]
    evaluations: list[EvaluationRow]
    losses: Float[np.ndarray, " N"]
    """Of each step."""
    diagnosis: DiagnosisRow | None = None
    """The last."""

    @property
    def window(self) -> int:
        return max(LEAST_WINDOW, len(self.losses) // 10)

    @property
    def recent(self) -> float:
        """The mean training loss now."""
        return float(self.losses[-self.window :].mean())

    @property
    def noise(self) -> float:
        """The deviation of a batch's loss: 1.05 medians of the differences between neighbours, if normal."""
        return 1.05 * float(np.median(np.abs(np.diff(self.losses))))

    @property
    def span(self) -> float:
        uniform, bigram = (self.config.baselines[name] for name in ("uniform", "bigram"))
        return max(uniform - bigram, STILL * uniform)

    @property
    def reached(self) -> float:
        """The lower one of the training loss and the last validation loss."""
        return min([self.recent, *(row.validation_loss for row in self.evaluations[-1:])])

    @property
    def deviation(self) -> float:
        """Of the first matrices."""
        return init.DEVIATION * math.sqrt(init.WIDTH / self.config.model.d_model)

    @property
    def is_muons(self) -> bool:
        return self.config.recipe.optimizer == "muon"

    @property
    def is_warm(self) -> bool:
        """So many steps were made since the learning rate was nearly at its largest."""
        largest = self.config.recipe.learning_rate
        warm_at = next((i for i, row in enumerate(self.steps) if row.learning_rate >= WARM * largest), None)
        return warm_at is not None and len(self.steps) - warm_at > STEPS

    @property
    def learning_rate(self) -> str:
        """The largest of the schedule, as a user knows it."""
        recipe = self.config.recipe
        if self.is_muons:
            return f"Muon's learning rate {recipe.matrix_learning_rate:g}"
        return f"The learning rate {recipe.learning_rate:g}"

    @property
    def times_read(self) -> float:
        """How often the training text has been read on average."""
        return self.steps[-1].tokens / self.training_tokens

    @property
    def training_tokens(self) -> int:
        return self.config.n_tokens - self.config.validation_tokens

    @property
    def advice(self) -> str:
        """A learning rate to try: one digit."""
        if self.config.begun_from:
            return f"try --learning-rate {self.config.recipe.learning_rate / 4:.1g}"
        if self.is_muons:
            return f"try --set matrix_learning_rate={self.config.recipe.matrix_learning_rate / 4:.1g}"
        return f"try --learning-rate {float(f'{GOOD_STEP * self.deviation:.0e}'):g}"


def examine(rows: Sequence[Row], config: RunConfig) -> Finding | None:
    """What is wrong with a run that measured `rows`; None where nothing seems to be."""
    steps = [row for row in rows if isinstance(row, StepRow)]
    evaluations = [row for row in rows if isinstance(row, EvaluationRow)]
    diagnosis = next((row for row in reversed(rows) if isinstance(row, DiagnosisRow)), None)
    course = Course(config, steps, evaluations, np.array([row.loss for row in steps]), diagnosis)
    for kind, found in FINDINGS.items():
        if config.begun_from and kind in OF_FIRST_WEIGHTS:
            continue
        if sentence := found(course):
            return Finding(kind, sentence)
    return None


def _grows(run: Course) -> str | None:
    """The training loss has risen by more than noise, and is not yet down again."""
    n = len(run.losses) // run.window
    if n < 2:
        return None
    means = run.losses[-n * run.window :].reshape(n, run.window).mean(axis=1)
    rises = means - np.minimum.accumulate(means) - NOISE * run.noise / math.sqrt(run.window)
    worst = int(rises.argmax())
    is_over = worst < n - 1 and run.reached < run.config.baselines["bigram"]
    if rises[worst] <= STILL * run.span or is_over:
        return None
    return (
        f"{run.learning_rate} is too high: the training loss has grown from "
        f"{means[:worst].min():.2f} to {means[worst]:.2f}; {run.advice}."
    )


def _stands_still(run: Course) -> str | None:
    """No better than pairs of tokens, hardly better than after half as many steps, and with long steps."""
    is_long = run.config.recipe.learning_rate >= LARGE_STEP * run.deviation
    if run.is_muons or not is_long or not run.is_warm or run.reached <= run.config.baselines["bigram"]:
        return None
    half = len(run.losses) // 2
    before = float(run.losses[half - run.window // 2 : half + run.window // 2].mean())
    if before - run.recent > STILL * run.span:
        return None
    return (
        f"{run.learning_rate} is too high: the loss hardly falls any more, and at {run.reached:.2f} "
        f"is still above what pairs of tokens tell, {run.config.baselines['bigram']:.2f}; {run.advice}."
    )


def _has_hardly_moved(run: Course) -> str | None:
    """No better than pairs of tokens, and the weights cannot be far from where they began."""
    moved = sum(row.learning_rate for row in run.steps) / run.deviation
    if run.is_muons or moved >= LITTLE or not run.is_warm or run.reached <= run.config.baselines["bigram"]:
        return None
    return (
        f"{run.learning_rate} is too low: {len(run.losses):,} steps moved "
        f"weights by {100 * moved:.2g}% of their size at most, and the loss, {run.reached:.2f}, is above "
        f"what pairs of tokens tell, {run.config.baselines['bigram']:.2f}; {run.advice}."
    )


def _repeats(run: Course) -> str | None:
    if run.config.repeated < REPEATED:
        return None
    return (
        f"The text repeats itself: {run.config.repeated:.0%} of the validation text stands word for word in "
        f"the training text, so that the validation loss measures memory; give each text once."
    )


def _overfits(run: Course) -> str | None:
    """The validation loss has risen from its lowest, and the training loss has fallen since."""
    if not run.evaluations:
        return None
    best, last = min(run.evaluations, key=lambda row: row.validation_loss), run.evaluations[-1]
    if best.train_loss is None or last.train_loss is None or last.train_loss >= best.train_loss:
        return None
    if last.validation_loss <= (1.0 + RISEN) * best.validation_loss or _behind(last) < GAP:
        return None
    return (
        f"It overfits: since step {best.step:,} the validation loss has risen from "
        f"{best.validation_loss:.2f} to {last.validation_loss:.2f} while the training loss fell to "
        f"{last.train_loss:.2f}; the best weights are kept: take more text, --dropout 0.2, or fewer steps."
    )


def _is_too_large(run: Course) -> str | None:
    """Many parameters have read few tokens often, and the training loss leaves the validation loss behind."""
    last = run.evaluations[-1] if run.evaluations else None
    if last is None or last.train_loss is None:
        return None
    parameters, behind = count(run.config.model).parameters, _behind(last)
    is_large = parameters >= PARAMETERS_A_TOKEN * run.training_tokens
    if not is_large or run.times_read < READ_OFTEN or behind < GAP:
        return None
    return (
        f"The model is too large for this text: {parameters:,} parameters have read its "
        f"{run.training_tokens:,} tokens {run.times_read:.0f} times, and the training loss is {behind:.0%} "
        f"below the validation loss; take more text, a smaller model, or --dropout 0.2."
    )


def _has_dead_units(run: Course) -> str | None:
    """Of the last diagnosis, the layer with the most."""
    if run.diagnosis is None:
        return None
    share, layer = max((share, layer) for layer, share in enumerate(run.diagnosis.dead_units, start=1))
    if share <= DEAD:
        return None
    smooth = ", or --set activation=gelu" if run.config.model.activation in SILENT else ""
    return (
        f"{share:.0%} of the units of layer {layer}'s feed-forward are dead: no token activates them, and "
        f"they learn nothing; take a lower learning rate{smooth}."
    )


def _has_collapsed(run: Course) -> str | None:
    """All heads of a layer look at one position each, and the model is no better than pairs of tokens."""
    if run.diagnosis is None or run.reached <= run.config.baselines["bigram"]:
        return None
    collapsed = [n for n, heads in enumerate(run.diagnosis.entropies, start=1) if max(heads) < COLLAPSED]
    if not collapsed:
        return None
    return (
        f"Attention has collapsed: every head of layer {collapsed[0]} looks at a single position, and the "
        f"loss, {run.reached:.2f}, is above what pairs of tokens tell, "
        f"{run.config.baselines['bigram']:.2f}; take a lower learning rate, or --set qk_norm=true."
    )


def _vanishes(run: Course) -> str | None:
    """Hardly any gradient reaches the first block, and the model is no better than pairs of tokens."""
    if run.diagnosis is None or run.reached <= run.config.baselines["bigram"]:
        return None
    norms, n_layers = run.diagnosis.gradient_norms, len(run.diagnosis.dead_units)
    first, last = (
        math.hypot(*(norm for part, norm in norms.items() if part.startswith(f"blocks.{layer}.")))
        for layer in (0, n_layers - 1)
    )
    if first >= VANISHED * last:
        return None
    before = ", or --set norm_placement=pre" if run.config.model.norm_placement == "post" else ""
    return (
        f"Gradients vanish: their norm is {last:.2g} in the last layer and {first:.2g} in the first, which "
        f"hardly learns; take fewer layers{before}."
    )


def _behind(row: EvaluationRow) -> float:
    """The training loss, as a share below the validation loss."""
    return 0.0 if row.train_loss is None else 1.0 - row.train_loss / max(row.validation_loss, TINY)


FINDINGS = {
    "diverging": _grows,
    "learning rate too high": _stands_still,
    "learning rate too low": _has_hardly_moved,
    "repeated text": _repeats,
    "overfitting": _overfits,
    "model too large": _is_too_large,
    "dead units": _has_dead_units,
    "attention collapsed": _has_collapsed,
    "gradients vanishing": _vanishes,
}
"""Whatever may be wrong, the worst first."""

OF_FIRST_WEIGHTS = (
    "learning rate too high", "learning rate too low", "model too large", "dead units", "attention collapsed",
    "gradients vanishing",
)  # fmt: skip
"""What says nothing of a run that began from a model: it began near its end, and with text read elsewhere."""
