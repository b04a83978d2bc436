"""A training run: its folder is made, trained in, and resumed as if training had never stopped."""

import contextlib
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handgrad import engines
from handgrad import tokenizer as tokenizers
from handgrad.data import batches, corpus, files, token_file
from handgrad.data.corpus import Corpus
from handgrad.engines import fits
from handgrad.engines.engine import State
from handgrad.engines.processes import ALONE, Processes
from handgrad.errors import UserError, require_known, require_whole
from handgrad.formats import atomic, lock, model_folder
from handgrad.formats.model_folder import CONFIG, LAST, RUNS
from handgrad.model.config import ModelConfig, preset
from handgrad.model.init import init
from handgrad.training import checkpoint, curves, loop, metrics, run_config, validation_text
from handgrad.training.checkpoint import Progress
from handgrad.training.metrics import EvaluationRow
from handgrad.training.recipe import RECIPES, Recipe
from handgrad.training.run_config import RunConfig

TOKENS = "tokens.bin"

MODEL_OPTIONS = {field.name for field in dataclasses.fields(ModelConfig)} - {"vocab_size"}
RECIPE_OPTIONS = {field.name for field in dataclasses.fields(Recipe)}


def print_evaluations(event: loop.Event) -> None:
    """Report every evaluation in a line of text, and that something is being compiled."""
    if isinstance(event, loop.Compiling) and event.n == 1:
        print("compiling ...", flush=True)
    if isinstance(event, loop.Evaluated):
        print(event, flush=True)


def train(
    texts: str | Path | Sequence[str | Path] = (),
    *,
    preset: str = "nano",
    out: str | Path | None = None,
    seed: int = 1337,
    tokenizer: str = "characters",
    vocab_size: int = 1024,
    engine: str = "cpu",
    precision: str = "auto",
    mesh: str | None = None,
    report: Callable[[loop.Event], object] = print_evaluations,
    **options: Any,
) -> Path:
    """Train a transformer on `texts`: files and folders; without any, on Python's own language reference.

    `options` change the preset by name: of the model (`d_model=256`, `dropout=0.1`, see `ModelConfig`) or
    of the recipe (`steps=500`, `learning_rate=3e-4`, see `Recipe`). `vocab_size` is BPE's. `engine` is "cpu",
    "xla" or "reference", `precision` "auto", "float32", "bfloat16" or "int16". `mesh` says on which devices
    "xla" computes, such as "data=8" (see `engines.xla.mesh`); by default on one. `report` is called with
    every step and evaluation, and by default prints a line for each evaluation. Returns the run's folder:
    `out`, or the first free runs/PRESET-N. Raises `UserError` for what cannot work, before anything
    is written, and `KeyboardInterrupt` once a run that was interrupted is saved.
    """
    sources = [texts] if isinstance(texts, str | Path) else list(texts)
    folder = create(
        corpus.open_corpus(sources),
        preset_name=preset,
        out=out,
        seed=seed,
        tokenizer=tokenizer,
        vocab_size=vocab_size,
        engine=engine,
        precision=precision,
        mesh=mesh,
        options=options,
    )
    if not resume(folder, mesh=mesh, report=report):
        raise KeyboardInterrupt(f"stopped and saved; go on with handgrad.resume({str(folder)!r})")
    return folder


def create(
    text: Corpus,
    *,
    preset_name: str,
    out: str | Path | None,
    seed: int,
    tokenizer: str,
    vocab_size: int,
    engine: str = "cpu",
    precision: str = "auto",
    mesh: str | None = None,
    options: dict[str, Any],
) -> Path:
    """Make the folder of a new run, ready for its first step: all of it, or nothing."""
    began = time.perf_counter()
    model, recipe = _configured(preset_name, options)
    engines.get(engine, mesh).require(precision)
    seed = require_whole("seed", seed)
    folder = _new_folder(out, preset_name)
    made = tokenizers.train(tokenizer, text.pieces(), vocab_size=vocab_size)
    model = model.replace(vocab_size=made.vocab_size)
    fits.require_training(model, recipe.batch_size, engine, precision, mesh)
    with atomic.new_folder(folder) as partial:
        n_tokens = token_file.write(partial / TOKENS, text, made)
        tokens = token_file.read(partial / TOKENS, made.vocab_size, n_tokens)
        train, validation = batches.split(tokens, model.context_length)
        config = RunConfig(
            model=model,
            recipe=recipe,
            preset=preset_name,
            seed=seed,
            engine=engine,
            precision=precision,
            text=text.name,
            n_tokens=n_tokens,
            **validation_text.measure(train, validation, made)._asdict(),
        )
        model_folder.write_description(partial, config.to_json(), made)
        progress = Progress(seconds=time.perf_counter() - began)
        checkpoint.save(partial / LAST, State(init(model, seed)), progress)
    return folder


def begun(
    folder: Path,
    text: Corpus,
    *,
    preset_name: str,
    seed: int,
    tokenizer: str,
    vocab_size: int,
    engine: str,
    precision: str,
    options: dict[str, Any],
) -> bool:
    """Whether `folder` holds the run that these would make; `UserError` where it holds another."""
    if not files.exists(folder / CONFIG):
        return False
    there = run_config.read(folder)
    made = model_folder.read_tokenizer(folder, there.model, exactly=True)
    model, recipe = _configured(preset_name, options)
    most = vocab_size if tokenizer == "bpe" else made.vocab_size
    asked_and_there = {
        "model": (model.replace(vocab_size=made.vocab_size), there.model),
        "recipe": (recipe, there.recipe),
        "preset": (preset_name, there.preset),
        "seed": (seed, there.seed),
        "tokenizer": (tokenizer, made.kind),
        "vocabulary": (min(made.vocab_size, most), made.vocab_size),  # a short text has fewer than asked for
        "engine": (engine, there.engine),
        "precision": (precision, there.precision),
        "text": (text.name, there.text),
    }
    for name, (asked, found) in asked_and_there.items():
        if asked != found:
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
    report: Callable[[loop.Event], object] = print_evaluations,
) -> bool:
    """Go on with the run in `folder` to its end. False if asked to stop (Ctrl-C) before: it is saved.

    `mesh` says on which devices, and `processes` which of several this is: others than before may go on with
    it. All of them read the folder, and the first one writes it.

    Raises `UserError` where the folder holds no run, where a file of it is damaged, or where another process
    trains it.
    """
    folder = Path(folder)
    config = run_config.read(folder)
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
    report: Callable[[loop.Event], object],
) -> bool:
    """`resume` without the picture; the memory that training takes is free again when this returns."""
    began, model, recipe = time.perf_counter(), config.model, config.recipe
    fits.require_training(model, recipe.batch_size, config.engine, config.precision, mesh)
    model_folder.require_parameters(folder / LAST, model)
    tokenizer = model_folder.read_tokenizer(folder, model, exactly=True)
    tokens = token_file.read(folder / TOKENS, model.vocab_size, config.n_tokens)
    train, validation = batches.split(tokens, model.context_length)
    compiled: list[str] = []

    def compiling(kernel: str) -> None:
        compiled.append(kernel)
        report(loop.Compiling(kernel, len(compiled)))

    state, progress = checkpoint.read(folder / LAST, model, recipe.steps)
    training = engines.training(
        model,
        state,
        recipe.optimizer_settings,
        name=config.engine,
        precision=config.precision,
        mesh=mesh,
        batch_size=recipe.batch_size,
        compiling=compiling,
    )
    del state  # copied
    return loop.Run(
        folder=folder,
        recipe=recipe,
        seed=config.seed,
        training=training,
        tokenizer=tokenizer,
        train=train,
        validation=validation,
        bits_per_byte=config.bits_per_byte,
        progress=progress,
        report=report,
        processes=processes,
        began=time.perf_counter() if compiled else began,
    ).go()


@dataclass(frozen=True)
class About:
    """What is known of a run."""

    config: RunConfig
    progress: Progress
    evaluations: list[EvaluationRow]
    """As far as metrics.jsonl tells of them."""

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
    evaluations = [row for row in metrics.read(folder) if isinstance(row, EvaluationRow)]
    return About(config, checkpoint.read_progress(folder / LAST, config.recipe.steps), evaluations)


def _configured(preset_name: str, options: dict[str, Any]) -> tuple[ModelConfig, Recipe]:
    for name in options:
        require_known("option", name, sorted(MODEL_OPTIONS | RECIPE_OPTIONS))
    config = preset(preset_name).replace(**{k: v for k, v in options.items() if k in MODEL_OPTIONS})
    recipe = RECIPES[preset_name].replace(**{k: v for k, v in options.items() if k in RECIPE_OPTIONS})
    return config, recipe


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
