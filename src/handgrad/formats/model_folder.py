"""A model as a folder: config.json, tokenizer.json, and its weights in safetensors.

`save` writes model.safetensors and, of a quantized model, blocks.safetensors. A run has its best and its last
weights instead, earlier ones where it keeps them, and how to train on.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handgrad import parameters as p
from handgrad import tokenizer as tokenizers
from handgrad import tree
from handgrad.data import files
from handgrad.engines import fits, lora
from handgrad.errors import UserError, require_whole, shown
from handgrad.formats import atomic, block_file, tensors
from handgrad.formats.tables import Table
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import blank, require_weights_of
from handgrad.tokenizer import Tokenizer

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
MODEL, BEST, LAST = "model.safetensors", "best.safetensors", "last.safetensors"
BASE = "base.safetensors"
"""Of a run with LoRA: the weights that it began from; its last.safetensors holds only what is added."""
CHECKPOINTS = "checkpoints"
"""Of a run that keeps more than its last checkpoint: the folder of them, each named by its step."""
SAFETENSORS = ".safetensors"
BLOCKS = "blocks.safetensors"
"""Beside model.safetensors: the matrices of a quantized GGUF as they are there."""
MOMENTS = ("adam.mean", "adam.square")
"""What last.safetensors holds besides weights."""

WRITING, RECIPE = "writing", "recipe"
"""Where config.json says how texts start and end; where that of a run says how it is trained."""
BEGUN_FROM = "begun_from"
"""Where that of a run says which model it began from, if any."""

RUNS = Path("runs")
"""Where training puts its runs, unless told otherwise."""
LONGEST_CONFIG = 1 << 20
TOKEN_BYTES = 256
"""Bytes a token may take in tokenizer.json, on average."""


@dataclass(frozen=True)
class Model:
    """All one needs to write with a model; without a tokenizer it reads and writes token ids alone."""

    config: ModelConfig
    weights: p.Transformer
    """float32; of a quantized file the numbers that its blocks stand for."""
    tokenizer: Tokenizer | None = None
    starts: tuple[int, ...] = ()
    """Ids that stand before every text (BOS)."""
    ends: tuple[int, ...] = ()
    """Ids after which a text is over (EOS), its tokenizer's own first."""
    chat_template: str | None = None
    """Source in Jinja2: how a conversation is written as one text."""
    blocks: Mapping[str, p.Blocks] | None = None
    """By the weights' dotted names, the matrices of a quantized GGUF as they are there."""


def load(folder: str | Path, checkpoint: str | None = None) -> Model:
    """The model in `folder`: of a run by default the weights with the best validation loss, else the last.

    `checkpoint` names a file in it, such as last.safetensors or checkpoints/500.safetensors. What LoRA adds
    to the weights is merged into them.

    Raises `UserError` where the folder holds no model, or where what it holds is damaged.
    """
    folder = Path(folder)
    table = read_config(folder)
    config = model_config(table)
    path = folder / (checkpoint or _best(folder))
    adaptation = None if path.name in (BEST, BASE) else _adaptation(table)
    whole = path if adaptation is None else folder / BASE
    fits.require(count(config).weight_bytes, f"The model in {folder}")
    require_parameters(whole, config)
    made_here = RECIPE in table.fields and not table.fields.get(BEGUN_FROM)  # and then for its tokenizer
    tokenizer = None
    if files.exists(folder / TOKENIZER):
        tokenizer = read_tokenizer(folder, config, exactly=made_here)
    weights = blank(config)
    tensors.read_into(tensors.by_name(weights), whole, also=MOMENTS)
    if adaptation is not None:
        _, adapters = tree.pack(lora.shapes(config, adaptation.rank))
        tensors.read_into(tensors.by_name(adapters), path, also=MOMENTS)
        lora.merge(weights, adapters, adaptation)
    has_blocks = path.name == MODEL and files.exists(folder / BLOCKS)
    blocks = block_file.read(folder / BLOCKS, tensors.by_name(weights)) if has_blocks else None
    return Model(config, weights, tokenizer, *read_writing(table, config), blocks)


def save(model: Model, folder: str | Path) -> Path:
    """Write `model` into the new folder `folder`, whole or not at all; `load` reads it. Returns the folder.

    Raises `UserError` where the folder holds something already, and for what `load` would refuse: weights of
    another configuration or that are not finite, a tokenizer with more tokens than the model.
    """
    folder = Path(folder)
    require_weights_of(model.config, model.weights)
    for name, array in tensors.by_name(model.weights).items():
        with np.errstate(over="ignore"):  # infinite then, and refused
            tensors.require_finite(np.asarray(array, np.float32), name)
    require_fitting(model.tokenizer, model.config, "The tokenizer")
    config = {"model": dataclasses.asdict(model.config), WRITING: writing(model)}
    with atomic.new_folder(folder) as partial:
        write_description(partial, config, model.tokenizer)
        tensors.write(partial / MODEL, tensors.by_name(model.weights))
        if model.blocks:
            block_file.write(partial / BLOCKS, model.blocks)
    return folder


def write_description(folder: Path, config: dict[str, Any], tokenizer: Tokenizer | None) -> None:
    """Write config.json, and tokenizer.json where there is a tokenizer."""
    atomic.write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    if tokenizer is not None:
        atomic.write_text(folder / TOKENIZER, json.dumps(tokenizer.to_json(), ensure_ascii=False))


def read_config(folder: Path) -> Table:
    """What config.json says."""
    path = folder / CONFIG
    if not files.exists(path):
        raise UserError(
            f"There is no run or model in {folder}: it has no {CONFIG}. A run is the folder that training "
            f"wrote, as runs/quick-1; runs are in: {_runs_nearby(folder)}."
        )
    return Table.parse(files.read_text(path, LONGEST_CONFIG), str(path))


def model_config(config: Table) -> ModelConfig:
    """The architecture in what config.json says."""
    return config.table("model").make(ModelConfig)


def read_tokenizer(folder: Path, config: ModelConfig, *, exactly: bool = False) -> Tokenizer:
    """The tokenizer in `folder`, with at most as many tokens as the model, or `exactly` as many."""
    path = folder / TOKENIZER
    text = files.read_text(path, LONGEST_CONFIG + TOKEN_BYTES * config.vocab_size)
    try:
        tokenizer = tokenizers.from_json(text)
    except UserError as error:
        raise UserError(f"{path}: {error} {files.COPY}") from error
    require_fitting(tokenizer, config, str(path), exactly=exactly)
    return tokenizer


def require_fitting(
    tokenizer: Tokenizer | None, config: ModelConfig, name: str, *, exactly: bool = False
) -> None:
    """Raise `UserError` where the tokenizer has more tokens than the model or, with `exactly`, fewer.

    Published models have fewer: their embeddings are padded to a round number of rows.
    """
    n = config.vocab_size if tokenizer is None else tokenizer.vocab_size
    if n > config.vocab_size or (exactly and n < config.vocab_size):
        raise UserError(
            f"{name} must have {'' if exactly else 'at most '}as many tokens as the model; it has {n}, the "
            f"model {config.vocab_size}. Take the tokenizer that the model was trained with."
        )


def require_ids(name: str, ids: Sequence[int], config: ModelConfig) -> tuple[int, ...]:
    """`ids` as whole numbers; `UserError` unless the model has each of them."""
    if not isinstance(ids, list | tuple):
        raise UserError(f"{name} lists token ids; got {shown(ids)}. Give a list, such as [0].")
    whole = tuple(require_whole(f"An id of {name}", token_id) for token_id in ids)
    if beyond := [token_id for token_id in whole if token_id >= config.vocab_size]:
        raise UserError(
            f"{name} lists ids of the model, below {config.vocab_size}; got {beyond[0]}. Take the tokenizer "
            f"that the model was trained with."
        )
    return whole


def writing(model: Model) -> dict[str, Any]:
    """What config.json says of texts: how they start and end, and how a conversation is one."""
    return {
        "starts": require_ids("starts", model.starts, model.config),
        "ends": require_ids("ends", model.ends, model.config),
        "chat_template": model.chat_template,
    }


def read_writing(config: Table, model: ModelConfig) -> tuple[tuple[int, ...], tuple[int, ...], str | None]:
    """Starts, ends and chat template; a run that began from no model has none."""
    if WRITING not in config.fields:
        return (), (), None
    table = config.table(WRITING)
    try:
        starts, ends = (require_ids(name, table.fields.get(name, ()), model) for name in ("starts", "ends"))
    except UserError as error:
        raise table.error(str(error)) from error
    return (
        starts,
        ends,
        table.text("chat_template") if table.fields.get("chat_template") is not None else None,
    )


def require_parameters(path: Path, config: ModelConfig) -> None:
    """Raise `UserError` unless `path` has as many weights as `config` asks for, before any is allocated."""
    found, wanted = tensors.read_header(path).n_numbers(leaving_out=MOMENTS), count(config).parameters
    if found != wanted:
        raise UserError(
            f"{path} belongs to another model: it has {found:,} weights, and {CONFIG} describes one of "
            f"{wanted:,}. Take this run's checkpoint."
        )


def _adaptation(config: Table) -> lora.Settings | None:
    """LoRA's settings, of a run that learns its matrices."""
    if RECIPE not in config.fields:
        return None
    recipe = config.table(RECIPE)
    if recipe.fields.get("lora_rank") is None:
        return None
    return lora.Settings(recipe.whole("lora_rank", least=1), recipe.number("lora_alpha"))


def _best(folder: Path) -> str:
    for name in (MODEL, BEST, BASE, LAST):
        if files.exists(folder / name):
            return name
    raise UserError(f"There are no weights in {folder}: no {MODEL}, {BEST} or {LAST}. {files.COPY}")


def _runs_nearby(folder: Path) -> str:
    try:
        runs = sorted(path.parent for path in folder.parent.glob(f"*/{CONFIG}"))
    except OSError:
        runs = []
    return ", ".join(map(str, runs[:6])) or "no folder near it"
