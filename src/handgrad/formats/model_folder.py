"""A trained model as a folder: config.json, tokenizer.json, best.safetensors, last.safetensors."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handgrad import parameters as p
from handgrad import tokenizer as tokenizers
from handgrad.errors import UserError
from handgrad.formats import tensors
from handgrad.model.config import ModelConfig
from handgrad.model.init import blank
from handgrad.tokenizer import Tokenizer

CONFIG, TOKENIZER, BEST, LAST = "config.json", "tokenizer.json", "best.safetensors", "last.safetensors"


@dataclass(frozen=True)
class Model:
    """All one needs to write with a model."""

    config: ModelConfig
    weights: p.Transformer
    tokenizer: Tokenizer


def load(folder: str | Path, checkpoint: str | None = None) -> Model:
    """The model in `folder`: by default the checkpoint with the best validation loss, else the last.

    Raises `UserError` where the folder holds no run, or what it holds is damaged.
    """
    folder = Path(folder)
    config = model_config(read_config(folder), folder)
    tokenizer = read_tokenizer(folder)
    if checkpoint is None:
        checkpoint = BEST if (folder / BEST).exists() else LAST
    weights = blank(config)
    tensors.read_into(tensors.by_name(weights), folder / checkpoint)
    return Model(config, weights, tokenizer)


def read_config(folder: Path) -> dict[str, Any]:
    """What config.json says."""
    path = folder / CONFIG
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError("it holds no table")
        return data
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"There is no run in {folder}: it has no {CONFIG}. A run is the folder that training wrote, "
            f"as runs/nano-1; runs are in: {_runs_nearby(folder)}."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read {path}: {error}. Take another copy of the run.") from error


def model_config(data: dict[str, Any], folder: Path) -> ModelConfig:
    """The architecture in what config.json says."""
    try:
        return ModelConfig(**data["model"])
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder / CONFIG} describes no model of this version of handgrad ({error})."
        ) from error


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a run."""
    path = folder / TOKENIZER
    try:
        return tokenizers.from_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"Cannot read {path}: {error}. Take another copy of the run.") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def config_json(model: ModelConfig, **more: Any) -> str:
    """The text of config.json: the architecture, and what else the run wants to remember."""
    return json.dumps({"model": dataclasses.asdict(model), **more}, indent=2) + "\n"


def _runs_nearby(folder: Path) -> str:
    runs = sorted(path.parent for path in folder.parent.glob(f"*/{CONFIG}")) if folder.parent.is_dir() else []
    return ", ".join(map(str, runs[:6])) or "no folder near it"
