"""The same run with other numbers, many times, each in its own folder, until the best ones are known.

One option is laid out as a grid, several are searched: see `search`. A trial that is worse, after as many
evaluations, than half of those before is stopped early. What came of each is in sweep.json; a sweep that was
stopped, or killed, goes on with the trial it was at, as if it had never stopped.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handgrad.data import corpus, files
from handgrad.data.corpus import Corpus
from handgrad.errors import UserError, require_whole
from handgrad.formats import atomic, lock
from handgrad.formats.model_folder import CONFIG
from handgrad.training import events, prepare, run
from handgrad.training.clock import Clock
from handgrad.training.dial import EVALUATIONS, Machine
from handgrad.training.prepare import QUICK, TUNED, VOCAB_SIZE, Asked
from handgrad.training.sweeps import over as asked_values
from handgrad.training.sweeps import pictures, record, search
from handgrad.training.sweeps.events import TrialBegun, TrialDone
from handgrad.training.sweeps.over import SEED, Over, Range
from handgrad.training.sweeps.record import SWEEP, Record, Trial

SWEEPS = Path("sweeps")
"""Where sweeps are, unless told otherwise."""
N_TRIALS, N_POINTS = 12, 8
"""Trials of a search, and points of a range that is tried alone, where no number is named."""
MOST_CHECKED = 1000
"""Combinations that are looked at before a sweep begins."""
HEAD_WIDTH = 32
"""Of `quick` in all its sizes."""
CHOSEN = ("d_model", "n_heads", "n_layers", "context_length")
"""What the dial chooses, once for all trials; and dropout."""

Report = Callable[[events.Event | TrialBegun | TrialDone], object]


def print_trials(event: events.Event | TrialBegun | TrialDone) -> None:
    """Report every trial in a line of text."""
    if isinstance(event, TrialDone):
        print(event, flush=True)


@dataclass(frozen=True)
class Sweep:
    """What a sweep found."""

    folder: Path
    record: Record

    @property
    def trials(self) -> list[Trial]:
        """Best first; each has its options, its losses and its state."""
        return self.record.ranked

    @property
    def best(self) -> Path | None:
        """The run with the lowest validation loss, a folder to load; None where none is finished."""
        best = self.record.best
        return None if best is None else self.folder / best.name


def sweep(
    texts: str | Path | Sequence[str | Path] = (),
    *,
    over: Mapping[str, str | Sequence[Any]],
    trials: int | None = None,
    early_stopping: bool = True,
    begin_from: str | Path | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    seed: int = 1337,
    tokenizer: str | None = None,
    vocab_size: int = VOCAB_SIZE,
    engine: str = "cpu",
    precision: str = "auto",
    report: Report = print_trials,
    **options: Any,
) -> Sweep:
    """Train on `texts` once for each of `trials` choices of the options that `over` names.

    `over` has for each option the values to try: a list, or text as on the command line, "1e-3:3e-2:log"
    (see `sweeps.over`). All else is as in `handgrad.train`, the same for all trials; sizes that it would
    choose for some minutes are chosen once. `report` is called with what each run reports, and when a trial
    begins and ends; by default it prints a line for each trial. Raises `UserError` for what cannot work,
    before anything is written, and `KeyboardInterrupt` once a sweep that was interrupted is saved:
    `resume_sweep` goes on.
    """
    folder = create(
        texts, over=over, trials=trials, early_stopping=early_stopping, begin_from=begin_from, preset=preset,
        out=out, seed=seed, tokenizer=tokenizer, vocab_size=vocab_size, engine=engine, precision=precision,
        report=report, **options,
    )  # fmt: skip
    return resume_sweep(folder, report=report)


def create(
    texts: str | Path | Sequence[str | Path],
    *,
    over: Mapping[str, str | Sequence[Any]],
    trials: int | None,
    early_stopping: bool,
    begin_from: str | Path | None,
    preset: str | None,
    out: str | Path | None,
    seed: int,
    tokenizer: str | None,
    vocab_size: int,
    engine: str,
    precision: str,
    report: Report,
    **options: Any,
) -> Path:
    """Make the folder of a new sweep, before its first trial; arguments and errors as of `sweep`."""
    search.require()
    values = asked_values.parse(over)
    sources = [texts] if isinstance(texts, str | Path) else list(texts)
    if "-" in map(str, sources):
        raise UserError("A sweep reads its text for each trial, so it takes none from a pipe. Name a file.")
    if both := sorted(values.keys() & options.keys()):
        raise UserError(f"{both[0]} is swept, and given as well. Leave one of them out.")
    text = corpus.open_corpus(sources)
    asked = Record(
        texts=tuple(str(Path(it).resolve()) for it in sources),
        over={
            name: it if isinstance(it, str) else [asked_values.plain(value) for value in it]
            for name, it in over.items()
        },
        n_trials=_n_trials(values, trials),
        early_stopping=early_stopping,
        seed=require_whole("seed", seed),
        preset=preset,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        engine=engine,
        precision=precision,
        begin_from=_absolute(begin_from),
        options={name: asked_values.plain(it) for name, it in options.items()},
    )
    _require_trials(asked, values)
    folder = _new_folder(out, TUNED if begin_from else preset or QUICK)
    asked = _planned(asked, values, text, report)
    _require_trials(asked, values)  # in the sizes that were chosen
    with atomic.new_folder(folder) as partial:
        record.write(partial, asked)
    return folder


def resume_sweep(folder: str | Path, *, report: Report = print_trials) -> Sweep:
    """Go on with the sweep in `folder` to its end; errors as of `sweep`."""
    search.require()
    folder = Path(folder)
    there = record.read(folder)
    values = asked_values.parse(there.over)
    text = corpus.open_corpus(there.texts)
    with contextlib.ExitStack() as locked:
        with files.readable(folder, "Check who may read it."):
            locked.enter_context(lock.held(folder))
        try:
            while not there.is_over:
                there = _try_next(folder, there, values, text, report)
        finally:
            pictures.draw(folder, there, values)
    return Sweep(folder, there)


def _try_next(folder: Path, there: Record, values: Over, text: Corpus, report: Report) -> Record:
    """The sweep with its next trial, or the one that was running, done."""
    running = [it for it in there.trials if it.state == "running"]
    done = [it for it in there.trials if it.state != "running"]
    trial = running[0] if running else Trial(len(done) + 1, _options(there, values, done))
    there = there.with_trial(trial)
    record.write(folder, there)
    report(TrialBegun(trial, there.n_trials))

    def is_poor(trial: Trial) -> bool:
        return there.early_stopping and search.is_poor(values, done, trial)

    trial = _run(folder / trial.name, trial, _asked(there, trial.options), text, is_poor, report)
    there = there.with_trial(trial)
    record.write(folder, there)
    best = there.best
    report(TrialDone(trial, there.n_trials, best is not None and best.number == trial.number))
    return there


def _options(there: Record, values: Over, done: Sequence[Trial]) -> dict[str, Any]:
    points = asked_values.grid(values, there.n_trials)
    return points[len(done)] if points else search.propose(values, done, there.n_trials, there.seed)


class _StoppedEarly(Exception):  # noqa: N818
    """Ends a run from within its report."""


def _run(
    folder: Path,
    trial: Trial,
    asked: Asked,
    text: Corpus,
    is_poor: Callable[[Trial], bool],
    report: Report,
) -> Trial:
    """Train a trial to its end, or until it is poor; `KeyboardInterrupt` where it was asked to stop."""
    losses: list[float] = []

    def watch(event: events.Event) -> None:
        report(event)
        if isinstance(event, events.Evaluated):
            losses.append(event.validation_loss)
            if not event.is_whole and is_poor(dataclasses.replace(trial, losses=tuple(losses))):
                raise _StoppedEarly

    state: record.State = "finished"
    try:
        if files.exists(folder / CONFIG):
            about = run.about(folder)
            losses += [it.validation_loss for it in about.evaluations if it.step <= about.steps_done]
            if not about.is_finished and is_poor(dataclasses.replace(trial, losses=tuple(losses))):
                raise _StoppedEarly
        else:
            run.create(text, asked, folder, watch)
        if not run.resume(folder, report=watch):
            raise KeyboardInterrupt
    except _StoppedEarly:
        state = "stopped early"
    except UserError as error:
        is_first = trial.number == 1 and not files.exists(folder / CONFIG)
        if isinstance(error.__cause__, OSError) or is_first:
            raise  # the next one would not fare better
        return dataclasses.replace(trial, state="failed", losses=tuple(losses), why=str(error))
    about = run.about(folder)
    return dataclasses.replace(
        trial,
        state=state,
        losses=tuple(losses),
        bits_per_byte=about.config.bits_per_byte(losses[-1]),
        steps=about.steps_done,
        seconds=round(about.progress.seconds, 3),
    )


def _asked(there: Record, tried: Mapping[str, Any]) -> Asked:
    """The run of a trial."""
    options = {**there.options, **tried}
    seed = options.pop(SEED, there.seed)
    is_quick = there.preset in (None, QUICK) and not there.begin_from
    if is_quick and "d_model" in tried and "n_heads" not in options:
        options["n_heads"] = heads(tried["d_model"])
    machine = Machine(there.engine, there.precision)
    return Asked(there.preset, seed, there.tokenizer, there.vocab_size, machine, options, there.begin_from)


def heads(d_model: int) -> int:
    """How many heads `quick` has at a width: each of 32 numbers, or of more where that is not even."""
    fitting = (n for n in range(max(1, d_model // HEAD_WIDTH), 1, -1) if d_model % (2 * n) == 0)
    return next(fitting, 1)


def _n_trials(values: Over, trials: int | None) -> int:
    """How many trials a sweep has; of a grid, as many as it has points."""
    if trials is not None:
        trials = require_whole("trials", trials, 1)
    is_range = len(values) == 1 and isinstance(next(iter(values.values())), Range)
    most = trials or (N_POINTS if is_range else N_TRIALS)
    if points := asked_values.grid(values, most):
        return len(points)
    if len(values) > 1:
        return most
    ((name, listed),) = values.items()
    n = len(listed.probes)
    if trials is not None:
        raise UserError(
            f"{name} has {n} values, each of them a trial; got trials={trials}. Name fewer values."
        )
    return n


def _require_trials(asked: Record, values: Over) -> None:
    """Raise `UserError` where a trial could not be."""
    tried = asked_values.combinations(values, MOST_CHECKED)
    if not tried:
        middle = {name: it.middle for name, it in values.items()}
        tried = [middle | {name: value} for name, it in values.items() for value in it.probes]
    for options in tried:
        try:
            _asked(asked, options).configured()
        except UserError as error:
            shown = ", ".join(f"{name}={value}" for name, value in options.items())
            raise UserError(f"A trial with {shown} cannot be: {error}") from error


def _planned(asked: Record, values: Over, text: Corpus, report: Report) -> Record:
    """The sweep with the sizes that the dial chooses, and evaluations to compare trials by."""
    options = dict(asked.options)
    middle = _asked(asked, {name: it.middle for name, it in values.items()})
    recipe = middle.configured().recipe
    preset = asked.preset
    if recipe.minutes is not None and not middle.is_named:
        model = prepare.prepare(text, middle, Clock(report)).model
        chosen = {name: getattr(model, name) for name in (*CHOSEN, "dropout")}
        if "d_model" in values:
            del chosen["n_heads"]
        options = {name: it for name, it in chosen.items() if name not in values} | options
        preset = QUICK
    is_rare = recipe.steps < EVALUATIONS * recipe.eval_every
    if recipe.minutes is None and is_rare and "eval_every" not in {*options, *values}:
        options["eval_every"] = -(-recipe.steps // EVALUATIONS)
    return dataclasses.replace(asked, options=options, preset=preset)


def _absolute(source: str | Path | None) -> str | None:
    """A path as it is from any folder; a public name as it stands."""
    if source is None or not files.exists(Path(source)):
        return None if source is None else str(source)
    return str(Path(source).resolve())


def _new_folder(out: str | Path | None, name: str) -> Path:
    if out is None:
        numbered = (SWEEPS / f"{name}-{n}" for n in itertools.count(1))
        return next(folder for folder in numbered if not files.exists(folder))
    folder = Path(out)
    if files.exists(folder / SWEEP):
        raise UserError(
            f"{folder} already holds a sweep. Go on with it: handgrad sweep --resume --out {folder}. Or "
            f"choose another --out."
        )
    return atomic.free(folder)
