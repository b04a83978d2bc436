"""The training loop: draw a batch, make a step, now and then evaluate and save."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handgrad import engines, tree
from handgrad import parameters as p
from handgrad.data.examples import Conversations
from handgrad.engines.engine import Limits, State, Step, Training
from handgrad.engines.processes import ALONE, Processes
from handgrad.errors import UserError
from handgrad.formats.model_folder import BEST, LAST, Model
from handgrad.generation import stream
from handgrad.generation.request import Request
from handgrad.tokenizer import Tokenizer
from handgrad.training import (
    checkpoint,
    diagnosis,
    doctor,
    evaluate,
    interrupt,
    kept,
    metrics,
    not_finite,
    spikes,
)
from handgrad.training.checkpoint import Progress
from handgrad.training.diagnosis import Before
from handgrad.training.events import Advised, Evaluated, Event, Skipped, StepDone
from handgrad.training.material import Material
from handgrad.training.metrics import EvaluationRow, SkippedRow, StepRow
from handgrad.training.pace import Pace
from handgrad.training.recipe import Recipe
from handgrad.training.run_config import RunConfig
from handgrad.training.sinks import Sinks

SAVE_SECONDS = 300.0
"""The most time between two checkpoints where evaluations are further apart."""

EXAMINE_SECONDS = 10.0
"""The most time between two looks at what may go wrong."""

SAMPLE_TOKENS, LEAST_SAMPLE = 160, 16
SAMPLE_WORK = 4_000_000_000
"""Weights read for a sample, which bounds its seconds: a large model writes fewer tokens."""

GO_ON, SAVE, STOP = range(3)
"""What a process wants after a step; of several, the most is done."""

BATCH, DROPOUT, SAMPLE = range(3)
"""What random numbers are drawn for."""


class Begun(NamedTuple):
    """A step that the engine may still compute."""

    step: int
    token_ids: np.ndarray
    targets: np.ndarray
    learning_rate: float
    limits: Limits
    result: Callable[[], Step]


@dataclass
class Run:
    """A run that is training: its folder, configuration, model, texts and progress."""

    folder: Path
    config: RunConfig
    training: Training
    tokenizer: Tokenizer
    material: Material
    progress: Progress
    report: Callable[[Event], object]
    starts: tuple[int, ...] = ()
    """What stands before every text,"""
    ends: tuple[int, ...] = ()
    """and what ends one, as the model has it that the run began from."""
    processes: Processes = ALONE
    began: float = field(default_factory=time.perf_counter)
    """When the time of this part of the run began to count."""
    _begun: deque[Begun] = field(default_factory=deque)
    _clock: float = 0.0  # when the last step was finished
    _examined_at: float = 0.0
    _advised: set[str] = field(default_factory=set)

    @property
    def recipe(self) -> Recipe:
        return self.config.recipe

    def __post_init__(self) -> None:
        self.began -= self.progress.seconds
        self._pace = Pace(self.recipe, self.progress)
        self._windows = self.material.validation.n_sequences

    def go(self) -> bool:
        """Train to the end of the recipe. False if asked to stop before: the run is saved and can go on."""
        saved_at = time.monotonic()
        if self.processes.leads:
            kept.prune(self.folder, self.progress.step, self.config.keep)
        with self._log() as log, self._sinks(log) as sinks, interrupt.deferred() as asked_to_stop:
            log.tell = sinks.write
            if self.progress.step == 0:
                self._evaluate(log)
            while not self._pace.is_over:
                evaluates = self._step(log)
                late = time.monotonic() - saved_at > SAVE_SECONDS
                wish = STOP if asked_to_stop() else SAVE if late else GO_ON
                wish = self.processes.largest(wish)  # a signal after this is heard one step later
                if evaluates:
                    self._evaluate(log)
                    saved_at = time.monotonic()
                elif wish != GO_ON:
                    self._finish(log)
                    self._save(log, self.training.state(), keep=1)
                    saved_at = time.monotonic()
                if wish == STOP and not self._pace.is_over:
                    return False
        return True

    def _step(self, log: metrics.Writer) -> bool:
        """Whether an evaluation follows."""
        is_diagnosed = self._pace.is_diagnosed
        before = self._before() if is_diagnosed else None
        evaluates = self._begin(log)
        self._finish(log, 0 if is_diagnosed else self.training.steps_ahead)
        if is_diagnosed:
            self._diagnose(log, before)
        self._pace.renew(self._windows)
        if self.progress.seconds - self._examined_at > EXAMINE_SECONDS:
            self._examine(log)
        return evaluates

    def _begin(self, log: metrics.Writer) -> bool:
        """Have the engine make a step, which it may still compute when this returns."""
        if not self._begun:
            self._clock = time.perf_counter()
        n = self.recipe.batch_size
        token_ids, targets = self.material.train.draw(n, self._rng(BATCH), self.training.own(n))
        learning_rate = self.recipe.learning_rate_at(self.progress.place)
        known = self.progress.step - self.training.steps_ahead  # always, however fast the device is
        limits = spikes.limits(log.rows, known, self.recipe.skip_spikes)
        result = self.training.begin(token_ids, targets, learning_rate, self._rng(DROPOUT), limits)
        evaluates = self._pace.step_begun()
        self._begun.append(Begun(self.progress.step, token_ids, targets, learning_rate, limits, result))
        return evaluates

    def _finish(self, log: metrics.Writer, ahead: int = 0) -> None:
        """Wait for the steps that were begun, but for the last `ahead`, and report what they measured."""
        while len(self._begun) > ahead:
            begun = self._begun.popleft()
            step = begun.result()
            if not step.is_finite:
                self._explain_not_finite(begun, step)
            now = time.perf_counter()
            seconds, self._clock = now - self._clock, now
            n_tokens, progress = begun.token_ids.size, self.progress
            progress.tokens += n_tokens
            progress.seconds = now - self.began
            self._pace.step_done(seconds)
            measured = step.loss, begun.learning_rate, step.gradient_norm
            log.write(StepRow(begun.step, *measured, progress.tokens, progress.seconds))
            if not begun.limits.allow(step):
                progress.skipped += 1
                log.write(SkippedRow(begun.step, *begun.limits, progress.tokens, progress.seconds))
                self.report(Skipped(begun.step, *step, *begun.limits))
            expected = progress.expected_steps(self.recipe.steps)
            self.report(StepDone(begun.step, expected, step.loss, n_tokens / seconds))

    def _before(self) -> Before | None:
        """What a diagnosis of the next step is to know; None in a process that does not lead."""
        state = self.training.state()  # of several processes, all
        return diagnosis.before(state) if self.processes.leads else None

    def _diagnose(self, log: metrics.Writer, before: Before | None) -> None:
        """Write down what the step just done did to each part of the model, and what its layers do now."""
        started = time.perf_counter()
        state, step = self.training.state(), log.rows[-1]
        if before is not None and isinstance(step, StepRow):
            config, recipe = self.training.config, self.recipe
            n = diagnosis.n_sequences(tree.size(state.weights), recipe.batch_size, config.context_length)
            sample = diagnosis.shortened(next(iter(self.material.validation.spread(n, n))))
            row = diagnosis.measure(config, recipe.optimizer_settings, before, state, step, sample)
            self.progress.seconds = time.perf_counter() - self.began
            if row:
                log.write(row._replace(seconds=self.progress.seconds))
        self._pace.diagnosed(time.perf_counter() - started)

    def _rng(self, purpose: int) -> np.random.Generator:
        """Random numbers for this step: they follow from seed and step, so there is no state to keep."""
        return np.random.default_rng((self.config.seed, self.progress.step, purpose))

    def _evaluate(self, log: metrics.Writer) -> None:
        self._finish(log)
        recipe, progress = self.recipe, self.progress
        started = time.perf_counter()
        is_whole = self._pace.is_over or bool(self.config.begun_from and not progress.step)
        n_windows = self._windows if is_whole else min(recipe.eval_windows, self._windows)
        windows = self.material.validation.spread(recipe.batch_size, n_windows)
        loss = evaluate.mean(self.training, windows)
        if not math.isfinite(loss):
            raise UserError(f"The validation loss is {loss} after step {progress.step}. {self._kept()}")
        evaluated = time.perf_counter()
        progress.seconds = evaluated - self.began
        state = self.training.state()
        is_best = loss < progress.best_loss
        if is_best:
            progress.best_loss = loss
            if self.processes.leads:
                checkpoint.save_weights(self.folder / BEST, state.weights, progress)
        train_loss, bits = log.loss_since_evaluation(), self.config.bits_per_byte(loss)
        sample = self._sample(state.weights) if self.processes.leads else ""
        so_far = progress.tokens, progress.seconds
        log.write(EvaluationRow(progress.step, loss, bits, train_loss, *so_far, sample))
        self._save(log, state, self.config.keep)
        step, seconds = progress.step, progress.seconds
        self._pace.evaluated(n_windows, evaluated - started, time.perf_counter() - evaluated)
        self.report(Evaluated(step, train_loss, loss, bits, is_best, is_whole, seconds, sample))
        self._examine(log)

    def _examine(self, log: metrics.Writer) -> None:
        """Report what seems to go wrong, if that is new."""
        self._examined_at = self.progress.seconds
        finding = doctor.examine(log.rows, self.config)
        if finding and finding.kind not in self._advised:
            self._advised.add(finding.kind)
            self.report(Advised(self.progress.step, *finding))

    def _sample(self, weights: p.Transformer) -> str:
        """What the model answers in the first conversation to judge by; else what it writes after a line
        break or, knowing none, after the first validation token.

        By the formulas: for so little they are quick enough, and the kernels that write take longer to
        compile than those that train.
        """
        config = self.config.model
        decoding = engines.get("reference").decoding(config, weights)
        start = self._opening()
        n_tokens = min(SAMPLE_TOKENS, max(LEAST_SAMPLE, SAMPLE_WORK // tree.size(weights)))
        request = Request(max_tokens=n_tokens, seed=int(self._rng(SAMPLE).integers(1 << 62)))
        model = Model(config, weights, self.tokenizer, ends=self.ends)
        return self.tokenizer.decode(stream.token_ids(model, decoding, start, request))

    def _opening(self) -> np.ndarray:
        if isinstance(self.material.validation, Conversations):
            return self.material.validation.opening()
        try:
            return np.append(np.array(self.starts, np.int64), self.tokenizer.encode("\n"))
        except UserError:
            return self.material.validation.tokens[:1]

    def _save(self, log: metrics.Writer, state: State, keep: int | str) -> None:
        """Only what was evaluated is kept: where a run is stopped leaves no trace in its folder."""
        log.flush()
        if self.processes.leads:
            kept.save(self.folder, state, self.progress, keep)

    def _log(self) -> metrics.Writer:
        writer = metrics.Writer if self.processes.leads else metrics.Nowhere
        return writer(self.folder, self.progress.step)

    def _sinks(self, log: metrics.Writer) -> Sinks:
        names = dict.fromkeys(self.config.log) if self.processes.leads else ()
        return Sinks(names, self.folder, self.config, log.rows, self._given_up)

    def _given_up(self, name: str, sentence: str) -> None:
        self.report(Advised(self.progress.step, f"log {name}", sentence))

    def _explain_not_finite(self, begun: Begun, step: Step) -> None:
        where = not_finite.first(
            self.training.config, self.training.state().weights, begun.token_ids, begun.targets
        )
        raise UserError(
            f"Training stopped at step {begun.step}: the loss is {step.loss:.4g}, its gradient's norm "
            f"{step.gradient_norm:.4g}; the first number that is not finite came up in {where}. "
            f"{self._kept()}"
        )

    def _kept(self) -> str:
        saved = checkpoint.read_progress(self.folder / LAST, self.recipe.steps).step
        return (
            f"The last good checkpoint, after step {saved}, is kept in {self.folder / LAST}. Start again "
            f"with a lower learning rate than {self.recipe.learning_rate:g}."
        )
