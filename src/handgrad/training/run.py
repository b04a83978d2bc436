"""A training run: made whole as a folder, set in motion, taken up again as if it had never stopped."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handgrad import engines
from handgrad import tokenizer as tokenizers
from handgrad.data import batches, corpus, token_file
from handgrad.data.corpus import Corpus
from handgrad.engines.engine import State
from handgrad.errors import UserError, require_known
from handgrad.formats import atomic, model_folder
from handgrad.formats.model_folder import CONFIG, LAST, TOKENIZER
from handgrad.model.config import ModelConfig, preset
from handgrad.model.init import init
from handgrad.training import baselines, checkpoint, loop, metrics
from handgrad.training.recipe import RECIPES, Recipe

TOKENS, PLOT, BASELINES = "tokens.bin", "loss.png", "baselines"
RUNS = Path("runs")

MODEL_OPTIONS = {field.name for field in dataclasses.fields(ModelConfig)} - {"vocab_size"}
RECIPE_OPTIONS = {field.name for field in dataclasses.fields(Recipe)}


def print_evaluations(event: loop.Event) -> None:
    """Report every evaluation in a line of text, and that kernels are being compiled."""
    if isinstance(event, loop.Compiling) and event.n == 1:
        print("compiling the kernels, once for this machine ...", flush=True)
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
    report: Callable[[loop.Event], object] = print_evaluations,
    **options: Any,
) -> Path:
    """Train a transformer on `texts`: files and folders; without any, on Python's own language reference.

    `options` change the preset by name: of the model (`d_model=256`, `dropout=0.1`, see `ModelConfig`) or
    of the recipe (`steps=500`, `learning_rate=3e-4`, see `Recipe`). `vocab_size` is BPE's. `engine` is "cpu"
    or "reference", `precision` "auto", "float32" or "bfloat16". `report` is called with every step and
    evaluation, and by default prints a line for each evaluation. Returns the run's folder: `out`, or the
    first free runs/PRESET-N. Raises `UserError` for what cannot work, before anything is written, and
    `KeyboardInterrupt` once a run that was interrupted is saved.
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
        options=options,
    )
    if not resume(folder, report=report):
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
    options: dict[str, Any],
) -> Path:
    """Make the folder of a new run, ready for its first step: all of it, or nothing."""
    config, recipe = _configured(preset_name, options)
    engines.get(engine).require(precision)
    if not 0 <= seed < 1 << 63:
        raise UserError(f"seed must be a whole number from 0; got {seed}.")
    folder = _new_folder(out, preset_name)
    made = tokenizers.train(tokenizer, text.pieces(), vocab_size=vocab_size)
    config = config.replace(vocab_size=made.vocab_size)
    partial = folder.with_name(f".{folder.name}{atomic.PARTIAL}")
    with atomic.explained(folder):
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            token_file.write(partial / TOKENS, text, made)
            tokens = token_file.read(partial / TOKENS, made.vocab_size)
            about = {
                "recipe": dataclasses.asdict(recipe),
                "preset": preset_name,
                "seed": seed,
                "engine": engine,
                "precision": precision,
                "text": text.name,
                "n_tokens": len(tokens),
                BASELINES: baselines.losses(*batches.split(tokens, config.context_length), made.vocab_size),
            }
            atomic.write_text(partial / CONFIG, model_folder.config_json(config, **about))
            atomic.write_text(partial / TOKENIZER, json.dumps(made.to_json(), ensure_ascii=False))
            checkpoint.save(partial / LAST, State(init(config, seed)), checkpoint.Progress())
            if folder.exists():
                folder.rmdir()  # it is empty: _new_folder looked
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return folder


def resume(folder: str | Path, *, report: Callable[[loop.Event], object] = print_evaluations) -> bool:
    """Go on with the run in `folder` to its end. False if asked to stop (Ctrl-C) before: it is saved."""
    folder = Path(folder)
    data = model_folder.read_config(folder)
    config = model_folder.model_config(data, folder)
    recipe, seed = read_recipe(data, folder)
    done = _train(folder, config, recipe, seed, data, report)
    _draw_curve(folder, data)
    return done


def _train(
    folder: Path,
    config: ModelConfig,
    recipe: Recipe,
    seed: int,
    data: dict[str, Any],
    report: Callable[[loop.Event], object],
) -> bool:
    """All of it but the picture; what training needs memory for is free again when this returns."""
    n_compiling = itertools.count(1)
    state, progress = checkpoint.read(folder / LAST, config)
    training = engines.training(
        config,
        state,
        recipe.optimizer,
        name=data.get("engine", "cpu"),
        precision=data.get("precision", "auto"),
        batch_size=recipe.batch_size,
        compiling=lambda kernel: report(loop.Compiling(kernel, next(n_compiling))),
    )
    del state  # copied
    train, validation = batches.split(_tokens(folder, config, data), config.context_length)
    tokenizer = model_folder.read_tokenizer(folder)
    return loop.Run(folder, recipe, seed, training, tokenizer, train, validation, progress, report).go()


def read_recipe(data: dict[str, Any], folder: Path) -> tuple[Recipe, int]:
    """The recipe and the seed in what config.json says."""
    try:
        return Recipe(**data["recipe"]), int(data["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder / CONFIG} describes a model but no training to go on with ({error})."
        ) from error


def about(folder: str | Path) -> dict[str, Any]:
    """What is known of a run: its configuration, how far it is, and its validation losses."""
    folder = Path(folder)
    data = model_folder.read_config(folder)
    recipe, seed = read_recipe(data, folder)
    curve = [row for row in metrics.read(folder) if "validation_loss" in row]
    return {
        "preset": data.get("preset", "-"),
        "text": data.get("text", "-"),
        "n_tokens": data.get("n_tokens", 0),
        "seed": seed,
        "engine": data.get("engine", "cpu"),
        "precision": data.get("precision", "auto"),
        "model": dataclasses.asdict(model_folder.model_config(data, folder)),
        "recipe": dataclasses.asdict(recipe),
        BASELINES: data.get(BASELINES, {}),
        "steps_done": checkpoint.about(folder / LAST).get("step", 0),
        "best_validation_loss": min((row["validation_loss"] for row in curve), default=None),
        "validation_curve": curve,
    }


def _configured(preset_name: str, options: dict[str, Any]) -> tuple[ModelConfig, Recipe]:
    for name in options:
        require_known("option", name, sorted(MODEL_OPTIONS | RECIPE_OPTIONS))
    config = preset(preset_name).replace(**{k: v for k, v in options.items() if k in MODEL_OPTIONS})
    recipe = RECIPES[preset_name].replace(**{k: v for k, v in options.items() if k in RECIPE_OPTIONS})
    return config, recipe


def _new_folder(out: str | Path | None, preset_name: str) -> Path:
    if out is None:
        return next(
            folder for n in itertools.count(1) if not (folder := RUNS / f"{preset_name}-{n}").exists()
        )
    folder = Path(out)
    with atomic.explained(folder):
        if (folder / CONFIG).exists():
            raise UserError(
                f"{folder} already holds a run. Go on with it: handgrad train --resume --out {folder}. Or "
                f"choose another --out."
            )
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(
                f"{folder} exists and is not empty; a run makes its own folder. Choose another --out."
            )
    return folder


def _tokens(folder: Path, config: ModelConfig, data: dict[str, Any]) -> np.ndarray:
    path = folder / TOKENS
    try:
        tokens = token_file.read(path, config.vocab_size)
    except (OSError, ValueError) as error:
        raise UserError(
            f"Cannot read {path}, the run's text: {error}. Take another copy of the run."
        ) from error
    if len(tokens) != data.get("n_tokens"):
        raise UserError(
            f"{path}, the run's text, was cut short: {len(tokens)} of {data.get('n_tokens')} tokens. Take "
            f"another copy of the run."
        )
    return tokens


def _draw_curve(folder: Path, data: dict[str, Any]) -> None:
    """loss.png: matplotlib is imported here, when there is something to draw."""
    from handgrad.plots import loss_curve

    figure = loss_curve.draw(metrics.read(folder), data.get(BASELINES, {}))
    atomic.write(folder / PLOT, lambda partial: figure.savefig(partial, format="png"))
