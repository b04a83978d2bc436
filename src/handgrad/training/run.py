"""A training run: its folder is made, trained in, and resumed as if training had never stopped."""

import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handgrad import engines
from handgrad.data import corpus, files
from handgrad.data.corpus import Corpus
from handgrad.engines import fits, lora
from handgrad.engines.engine import State, Training
from handgrad.engines.processes import ALONE, Processes
from handgrad.errors import UserError, require_whole
from handgrad.formats import atomic, lock, model_folder
from handgrad.formats.model_folder import BASE, CONFIG, LAST, RUNS, WRITING
from handgrad.model.init import init
from handgrad.training import (
    checkpoint,
    curves,
    doctor,
    events,
    kept,
    loop,
    material,
    metrics,
    run_config,
    sinks,
)
from handgrad.training.checkpoint import Progress
from handgrad.training.clock import Clock
from handgrad.training.dial import Machine
from handgrad.training.doctor import Finding
from handgrad.training.material import Layout
from handgrad.training.metrics import EvaluationRow
from handgrad.training.prepare import Asked, Prepared, prepare
from handgrad.training.run_config import RunConfig


def print_evaluations(event: events.Event) -> None:
    """Print a line for each evaluation, skipped step and thing that goes wrong, and that kernels compile."""
    if isinstance(event, events.Compiling) and event.n == 1:
        print("compiling ...", flush=True)
    if isinstance(event, events.Evaluated | events.Advised | events.Skipped):
        print(event, flush=True)


def train(
    texts: str | Path | Sequence[str | Path] = (),
    *,
    begin_from: str | Path | None = None,
    preset: str | None = None,
    out: str | Path | None = None,
    seed: int = 1337,
    tokenizer: str | None = None,
    vocab_size: int = 1024,
    engine: str = "cpu",
    precision: str = "auto",
    mesh: str | None = None,
    keep: int | str = 1,
    log: str | Sequence[str] = (),
    report: Callable[[events.Event], object] = print_evaluations,
    **options: Any,
) -> Path:
    """Train a transformer on `texts`: files and folders; without any, on Python's own language reference.

    `begin_from` is a model to go on from, anything that `handgrad.load` takes: its weights, architecture and
    tokenizer are those of the run, whose first evaluation is the loss before, and the last one that after.
    `options` change the preset by name: of the model (`d_model=256`, `dropout=0.1`, see `ModelConfig`) or
    of the recipe (`steps=500`, `learning_rate=3e-4`, see `Recipe`). `vocab_size` is BPE's. `engine` is "cpu",
    "xla" or "reference", `precision` "auto", "float32", "bfloat16" or "int16". `mesh` says on which devices
    "xla" computes, such as "data=8" (see `engines.xla.mesh`); by default on one. `keep` is how many
    checkpoints to keep, one an evaluation, or "all" (see `kept`). `log` says where losses go besides the
    run's folder: "tensorboard", "wandb" (see `sinks`). `report` is called with every step and evaluation, and
    by default prints a line for each evaluation. Returns the run's folder: `out`, or the first free
    runs/PRESET-N. Raises `UserError` for what cannot work, before anything is written, and
    `KeyboardInterrupt` once a run that was interrupted is saved.
    """
    sources = [texts] if isinstance(texts, str | Path) else list(texts)
    source = None if begin_from is None else str(begin_from)
    machine = Machine(engine, precision, mesh)
    logs = sinks.require(log)
    asked = Asked(preset, seed, tokenizer, vocab_size, machine, options, source, keep, logs)
    folder = create(corpus.open_corpus(sources), asked, out, report)
    if not resume(folder, mesh=mesh, report=report):
        raise KeyboardInterrupt(f"stopped and saved; go on with handgrad.resume({str(folder)!r})")
    return folder


def create(
    text: Corpus,
    asked: Asked,
    out: str | Path | None = None,
    report: Callable[[events.Event], object] = lambda event: None,
) -> Path:
    """Make the folder of a new run, ready for its first step: all of it, or nothing."""
    clock = Clock(report)
    asked.configured()  # before anything is read
    sinks.require(asked.log)
    asked = asked._replace(seed=require_whole("seed", asked.seed))
    folder = _new_folder(out, asked.preset_name)
    prepared = prepare(text, asked, clock)
    model, recipe, made, begun_from, conversations = prepared
    with atomic.new_folder(folder) as partial:
        n_tokens = material.write(partial, text, made, conversations)
        layout = Layout(n_tokens, recipe.trained(model).context_length, conversations is not None)
        learned = material.read(partial, made, layout)
        config = RunConfig(
            model=model,
            recipe=recipe,
            preset=asked.preset_name,
            seed=asked.seed,
            engine=asked.machine.engine,
            precision=asked.machine.precision,
            text=text.name,
            n_tokens=n_tokens,
            conversations=len(conversations or ()),
            begun_from=asked.begin_from or "",
            keep=kept.require(asked.keep),
            log=asked.log,
            **material.measure(learned, made)._asdict(),
        )
        writing = {WRITING: model_folder.writing(begun_from)} if begun_from else {}
        model_folder.write_description(partial, config.to_json() | writing, made)
        state, progress = _first(prepared, asked.seed), Progress(seconds=clock.seconds)
        checkpoint.save(partial / LAST, state, progress)
        if state.adapters is not None:
            checkpoint.save_weights(partial / BASE, state.weights, progress)
    return folder


def _first(prepared: Prepared, seed: int) -> State:
    """Where training starts."""
    model, adaptation, begun_from = prepared.model, prepared.recipe.adaptation, prepared.begun_from
    if begun_from is None:
        return State(init(model, seed))
    adapters = None if adaptation is None else lora.init(model, adaptation.rank, seed)
    return State(begun_from.weights, adapters=adapters)


def begun(folder: Path, text: Corpus, asked: Asked) -> bool:
    """Whether `folder` holds the run that is asked for; `UserError` where it holds another."""
    if not files.exists(folder / CONFIG):
        return False
    there = run_config.read(folder)
    made = model_folder.read_tokenizer(folder, there.model, exactly=not there.begun_from)
    model, recipe = asked.configured()
    kind = asked.tokenizer or made.kind
    most = asked.vocab_size if kind == "bpe" else made.vocab_size
    asked_and_there = {
        "model": (model if asked.begin_from else model.replace(vocab_size=made.vocab_size), there.model),
        "first model": (asked.begin_from or "", there.begun_from),
        "recipe": (recipe, there.recipe),
        "preset": (asked.preset_name, there.preset),
        "seed": (asked.seed, there.seed),
        "tokenizer": (kind, made.kind),
        "vocabulary": (min(made.vocab_size, most), made.vocab_size),  # a short text has fewer than asked for
        "engine": (asked.machine.engine, there.engine),
        "precision": (asked.machine.precision, there.precision),
        "text": (text.name, there.text),
    }
    for name, (wanted, found) in asked_and_there.items():
        if wanted != found:
            raise UserError(
                f"{folder} holds another run: its {name} is not what this command asks for. Go on with it: "
                f"--resume --out {folder}. Or choose another --out."
            )
    return True


def resume(
    folder: str | Path,
    *,
    mesh: str | None = None,
    processes: Processes = ALONE,
    log: str | Sequence[str] = (),
    report: Callable[[events.Event], object] = print_evaluations,
) -> bool:
    """Go on with the run in `folder` to its end. False if asked to stop (Ctrl-C) before: it is saved.

    `mesh` says on which devices, and `processes` which of several this is: others than before may go on with
    it. All of them read the folder, and the first one writes it. `log` says where losses go besides those
    places where they went before.

    Raises `UserError` where the folder holds no run, where a file of it is damaged, or where another process
    trains it.
    """
    folder = Path(folder)
    config = run_config.read(folder)
    config = dataclasses.replace(config, log=(*config.log, *sinks.require(log)))
    with contextlib.ExitStack() as locked:

        def hold() -> str:
            with files.readable(folder, "Check who may read it."):
                locked.enter_context(lock.held(folder))
            return str(folder)

        processes.agreed(hold)
        with processes.watched(f"Go on from the last checkpoint: --resume --out {folder}."):
            done = _train(folder, config, mesh, processes, report)
        if processes.leads:
            curves.draw_loss(folder, config)
    return done


def _train(
    folder: Path,
    config: RunConfig,
    mesh: str | None,
    processes: Processes,
    report: Callable[[events.Event], object],
) -> bool:
    """`resume` without the picture; the memory that training takes is free again when this returns."""
    clock, model, recipe = Clock(report), config.model, config.recipe
    rank, adaptation = recipe.lora_rank, recipe.adaptation
    fits.require_training(config.trained, recipe.batch_size, config.engine, config.precision, mesh, rank)
    model_folder.require_parameters(folder / (BASE if adaptation else LAST), model)
    tokenizer = model_folder.read_tokenizer(folder, model, exactly=not config.begun_from)
    starts, ends, _ = model_folder.read_writing(model_folder.read_config(folder), model)
    learned = material.read(folder, tokenizer, config.layout)
    state, progress = checkpoint.read(folder / LAST, model, recipe.steps, adaptation)
    training: Training = engines.training(
        config.trained,
        state._replace(moments=None) if adaptation else state,
        recipe.optimizer_settings,
        name=config.engine,
        precision=config.precision,
        mesh=mesh,
        batch_size=recipe.batch_size,
        compiling=clock.compiling,
    )
    if adaptation is not None:
        training = lora.Training(training, state, recipe.optimizer_settings, adaptation)
    del state  # copied
    return loop.Run(
        folder=folder,
        config=config,
        training=training,
        tokenizer=tokenizer,
        material=learned,
        progress=progress,
        report=report,
        starts=starts,
        ends=ends,
        processes=processes,
        began=clock.beginning(),
    ).go()


@dataclass(frozen=True)
class About:
    """What is known of a run."""

    config: RunConfig
    progress: Progress
    evaluations: list[EvaluationRow]
    """As far as metrics.jsonl tells of them."""
    finding: Finding | None
    """What seems to go wrong."""

    @property
    def steps_done(self) -> int:
        return self.progress.step

    @property
    def expected_steps(self) -> int:
        """How many steps it will have made at its end."""
        return self.progress.expected_steps(self.config.recipe.steps)

    @property
    def is_finished(self) -> bool:
        """Whether it is through its schedule."""
        return self.progress.place == self.config.recipe.steps

    @property
    def losses_before_and_after(self) -> tuple[float, float] | None:
        """Of a run that began from a model and is over: the validation loss of that model, and its own.

        Both are of the whole validation text.
        """
        if not (self.config.begun_from and self.is_finished and len(self.evaluations) > 1):
            return None
        return self.evaluations[0].validation_loss, self.evaluations[-1].validation_loss

    @property
    def best_validation_loss(self) -> float | None:
        """That of the best checkpoint; None before the first evaluation."""
        best = self.progress.best_loss
        return best if math.isfinite(best) else None

    @property
    def best_bits_per_byte(self) -> float | None:
        """The same loss in bits a byte."""
        best = self.best_validation_loss
        return None if best is None else self.config.bits_per_byte(best)


def about(folder: str | Path) -> About:
    """What is known of the run in `folder`; `UserError` where there is none, or where it is damaged."""
    folder = Path(folder)
    config = run_config.read(folder)
    progress, rows = checkpoint.read_progress(folder / LAST, config.recipe.steps), metrics.read(folder)
    evaluations = [row for row in rows if isinstance(row, EvaluationRow)]
    return About(config, progress, evaluations, doctor.examine(rows, config))


def _new_folder(out: str | Path | None, preset_name: str) -> Path:
    if out is None:
        numbered = (RUNS / f"{preset_name}-{n}" for n in itertools.count(1))
        return next(folder for folder in numbered if not files.exists(folder))
    folder = Path(out)
    if files.exists(folder / CONFIG):
        raise UserError(
            f"{folder} already holds a run. Go on with it: handgrad train --resume --out {folder}. Or "
            f"choose another --out."
        )
    atomic.free(folder)
    return folder
