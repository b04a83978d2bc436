r"""Which model and recipe make the most of some minutes: the text's size and this machine's speed decide.

The preset `quick` comes in sizes. A large model learns more from each token and sees fewer of them; one that
is read again teaches less than a new one. What was measured (docs/training.md) says where the balance is: the
largest model whose minutes give it `TOKENS_A_WEIGHT` tokens' worth for each of its weights. A text of $n$
tokens that is read $k$ times is worth

$$n\,\big(1 + r\,(1 - e^{-(k - 1)/r})\big),\qquad r = 15.4$$

tokens (Muennighoff et al., "Scaling data-constrained language models", 2023, arXiv:2305.16264). And a text
that is read often is learned by heart, so that more activations are dropped, the more weights read it, and
the more often.
"""

import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from handgrad import engines
from handgrad.data.corpus import Corpus
from handgrad.engines import lora
from handgrad.engines.engine import State
from handgrad.errors import UserError
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import init
from handgrad.training.recipe import Recipe

TOKENS_A_WEIGHT = 3.0
REPEATED = 15.4
"""How many times a text is worth reading again: the r above."""
DROPOUTS = ((1.5, 0.0), (3.5, 0.05), (10.0, 0.1), (14.0, 0.2), (float("inf"), 0.3))
"""The share of activations to drop, where weights a token of the text, times the logarithm of how often it is
read, are so much at most."""
MOST_CHARACTERS, MOST_DIFFERENT = 4_000_000, 300
"""Of a text whose tokens are characters."""
TRAINING_SHARE = 0.93
"""Of a run's seconds; the rest is for evaluations and checkpoints."""
CONTEXTS = 16
"""How many a text has at least, unless its length is named."""
EVALUATIONS = 8
"""In a run, its last one among them."""
MEASURED_STEPS, MEASURED_SECONDS = 4, 1.0
"""Steps whose fastest says how long one takes: fewer, where they take so long."""

SIZES: tuple[dict[str, int], ...] = tuple(
    {"d_model": 32 * n_heads, "n_heads": n_heads, "n_layers": n_layers, "context_length": context}
    for n_heads, n_layers, context in (
        (1, 3, 64),
        (2, 4, 128),
        (3, 4, 128),
        (4, 4, 128),
        (6, 4, 128),
        (8, 4, 128),
        (10, 5, 256),
        (12, 6, 256),
        (16, 6, 256),
        (16, 8, 256),
    )
)
"""What `quick` can be, from small to large."""


class Candidate(NamedTuple):
    """A model that could be trained, and how."""

    model: ModelConfig
    recipe: Recipe

    @property
    def weights(self) -> int:
        return count(self.model).parameters

    @property
    def tokens_a_step(self) -> int:
        return self.recipe.batch_size * self.model.context_length


class Machine(NamedTuple):
    """What trains."""

    engine: str = "cpu"
    precision: str = "auto"
    mesh: str | None = None


class Measured(NamedTuple):
    """A candidate, and how many steps of it fit."""

    candidate: Candidate
    steps: int
    n_tokens: int
    """Of the text, to train on."""

    @property
    def tokens(self) -> int:
        """That it would be trained on."""
        return self.steps * self.candidate.tokens_a_step

    @property
    def is_worth_its_size(self) -> bool:
        return worth(self.tokens, self.n_tokens) >= TOKENS_A_WEIGHT * self.candidate.weights


class Reason(NamedTuple):
    """One choice, and why."""

    what: str
    choice: str
    why: str


class Plan(NamedTuple):
    """What was chosen for some minutes."""

    chosen: Candidate
    n_tokens: int
    """Of the text, to train on."""
    measured: list[Measured]
    """From small to large; none that is larger than the first not worth its size."""

    @property
    def passes(self) -> float:
        """How many times the text will be read."""
        return self.chosen.recipe.steps * self.chosen.tokens_a_step / self.n_tokens

    @property
    def reasons(self) -> list[Reason]:
        """The choices in words."""
        (model, recipe), tokens = self.chosen, self.chosen.tokens_a_step
        size = f"{model.d_model} wide, {model.n_layers} layers, {self.chosen.weights / 1e6:.2f} M weights"
        largest = f"largest of {len(self.measured)} measured with {TOKENS_A_WEIGHT:g} tokens' worth a weight"
        rates, whose = f"{recipe.learning_rate:g}", "AdamW's"
        if recipe.optimizer == "muon":
            rates, whose = f"{recipe.matrix_learning_rate:g}, {rates}", f"Muon's, for matrices; {whose}"
        return [
            Reason("model", size, largest if len(self.measured) > 1 else "as it was named"),
            Reason("context", f"{model.context_length} tokens", "of a model of this size"),
            Reason("batch", f"{tokens:,} tokens", f"{recipe.batch_size} sequences a step"),
            Reason("steps", f"about {recipe.steps:,}", f"the text is read {self.passes:.1f} times"),
            Reason("dropout", f"{model.dropout:g}", "more, the more weights read a text, and the more often"),
            Reason("learning rate", rates, whose),
        ]


def plan(
    candidates: Sequence[Candidate],
    n_tokens: int,
    seconds: float,
    step_seconds: Callable[[Candidate], float],
    fixed: Collection[str] = (),
) -> Plan:
    """Of candidates from small to large, the largest that suits a training text of `n_tokens` and the time.

    `step_seconds` measures a candidate. Dropout and the time between evaluations are chosen with it, unless
    they are named in `fixed`.
    """
    measured: list[Measured] = []
    for candidate in candidates:
        steps = max(1, int(TRAINING_SHARE * seconds / step_seconds(candidate)))
        measured.append(Measured(candidate, steps, n_tokens))
        if not measured[-1].is_worth_its_size:
            break
    worthy = [it for it in measured if it.is_worth_its_size]
    best = worthy[-1] if worthy else measured[0]
    model, recipe = best.candidate
    if "dropout" not in fixed:
        model = model.replace(dropout=dropout_for(best))
    recipe = recipe.replace(steps=best.steps)
    if "eval_every" not in fixed:
        recipe = recipe.replace(eval_every=-(-best.steps // EVALUATIONS))
    return Plan(Candidate(model, recipe), n_tokens, measured)


def tokenizer_for(text: Corpus) -> str:
    """Characters, but where the text is long, or has many different ones."""
    n_characters, different = 0, set[str]()
    for piece in text.pieces():
        n_characters += len(piece)
        different.update(piece)
        if n_characters > MOST_CHARACTERS or len(different) > MOST_DIFFERENT:
            return "bpe"
    return "characters"


def worth(tokens: float, n_tokens: int) -> float:
    """How many new tokens so many are worth that are read from a text of `n_tokens`: see above."""
    again = max(0.0, tokens / n_tokens - 1)
    return min(tokens, n_tokens) + n_tokens * REPEATED * -math.expm1(-again / REPEATED)


def dropout_for(measured: Measured) -> float:
    """The share of activations to drop."""
    by_heart = (
        measured.candidate.weights
        / measured.n_tokens
        * math.log(max(1.0, measured.tokens / measured.n_tokens))
    )
    return next(share for most, share in DROPOUTS if by_heart <= most)


def candidates(candidate: Candidate, options: Mapping[str, Any], n_tokens: int) -> list[Candidate]:
    """Its sizes, from small to large, for a text of `n_tokens`.

    What `options` name stays as it is; sizes that it does not fit are left out.
    """
    found: dict[Candidate, None] = {}
    for size in SIZES:
        size = size | {"context_length": min(size["context_length"], max(1, n_tokens // CONTEXTS))}
        changes = {name: n for name, n in size.items() if name not in options}
        with contextlib.suppress(UserError):
            found[Candidate(candidate.model.replace(**changes), candidate.recipe)] = None
    return sorted(found or [candidate], key=lambda it: it.weights)


def step_seconds(candidate: Candidate, machine: Machine, compiling: Callable[[str], object]) -> float:
    """How long a step takes here, in seconds: the fastest of a few."""
    model, recipe = candidate
    training = engines.training(
        model, State(init(model)), recipe.optimizer_settings,
        name=machine.engine, precision=machine.precision, mesh=machine.mesh, batch_size=recipe.batch_size,
        compiling=compiling,
    )  # fmt: skip
    if recipe.adaptation is not None:
        state = State(training.state().weights, adapters=lora.init(model, recipe.adaptation.rank, 0))
        training = lora.Training(training, state, recipe.optimizer_settings, recipe.adaptation)
    rng = np.random.default_rng(0)
    token_ids, targets = rng.integers(model.vocab_size, size=(2, recipe.batch_size, model.context_length))
    taken: list[float] = []
    while len(taken) < MEASURED_STEPS and sum(taken) < MEASURED_SECONDS:
        started = time.perf_counter()
        training.step(token_ids, targets, 1e-6, rng)
        taken.append(time.perf_counter() - started)
    return min(taken)
