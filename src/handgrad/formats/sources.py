"""Where a model may come from: every command and `handgrad.load` take any of these.

- a run, one of its checkpoints, or a model folder that `save` wrote;
- a Hugging Face folder: config.json, safetensors, tokenizer.json;
- a .gguf file, as llama.cpp reads it;
- a .bin file of llama2.c, with its tokenizer beside it;
- the name of a public model, as in "HuggingFaceTB/SmolLM2-135M", or a revision of it, as in "owner/name@main"
  (extra `hub`, and a network or its cache).

What a source is, is told by what stands in it. Nothing in it is executed: weights in pickle are refused.
"""

import re
from pathlib import Path

from handgrad.data import files
from handgrad.errors import UserError
from handgrad.formats import gguf, hub, hugging_face, hugging_face_config, llama2c, model_folder
from handgrad.formats.model_folder import CHECKPOINTS, CONFIG, RECIPE, RUNS, SAFETENSORS, Model
from handgrad.formats.tables import Table
from handgrad.model.config import ModelConfig

GGUF, ZIP, PICKLE = b"GGUF", b"PK\x03\x04", b"\x80"
"""What such files begin with."""
PUBLIC_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?", re.ASCII)


def load(source: str | Path, checkpoint: str | None = None, tokenizer: str | Path | None = None) -> Model:
    """The model at `source`; of a run by default its best weights, else the file named by `checkpoint`.

    `tokenizer` is the file of a llama2.c model's tokenizer, by default the one beside it.

    Raises `UserError` where there is no model, where it is damaged, and where it asks for what handgrad does
    not compute.
    """
    path = hub.fetch(str(source)) if is_public_name(source) else Path(source)
    if found := checkpoint_of(path):
        path, checkpoint = found
    if _is_file(path):
        return _load_file(path, tokenizer)
    if tokenizer is not None:
        raise _has_its_own(path)
    return hugging_face.load(path) if _is_hugging_face(path) else model_folder.load(path, checkpoint)


def read_config(source: str | Path) -> ModelConfig:
    """The architecture of the model at `source`; its weights are not read where that can be helped."""
    path = hub.fetch_config(str(source)) if is_public_name(source) else Path(source)
    path, _ = checkpoint_of(path) or (path, None)
    if _is_file(path):
        return gguf.read_config(path) if _is_gguf(path) else llama2c.load(path).config
    table = model_folder.read_config(path)
    if is_hugging_face_config(table):
        return hugging_face_config.read(table).config
    return model_folder.model_config(table)


def checkpoint_of(source: str | Path) -> tuple[Path, str] | None:
    """The folder that a file of weights belongs to, and its name there; None where `source` is no such file.

    Raises `UserError` where there is no such file, or no folder of ours around it.
    """
    path = Path(source)
    if path.suffix != SAFETENSORS or is_public_name(source) or path.is_dir():
        return None
    folder = path.parent.parent if path.parent.name == CHECKPOINTS else path.parent
    if not files.exists(path):
        raise UserError(f"There is no file {path}. {_kept(folder)}")
    if not files.exists(folder / CONFIG) or _is_hugging_face(folder):
        raise UserError(
            f"{path} holds weights alone, and belongs to no run or model of handgrad's. Name the folder that "
            f"has its {CONFIG}."
        )
    return folder, str(path.relative_to(folder))


def _kept(folder: Path) -> str:
    """Which checkpoints there are instead."""
    with files.readable(folder):
        found = [
            int(path.stem) for path in folder.glob(f"{CHECKPOINTS}/*{SAFETENSORS}") if path.stem.isdigit()
        ]
    steps = ", ".join(map(str, sorted(found)[-6:]))
    return f"This run's checkpoints are of step {steps}." if steps else "Check the path."


def _is_file(path: Path) -> bool:
    is_there = files.exists(path)
    if not is_there and path.suffix in (".gguf", ".bin"):
        raise UserError(f"There is no file {path}. Check the path.")
    return is_there and not path.is_dir()


def is_run(source: str | Path) -> bool:
    """Whether `source` is a run: a folder that also says how its model is trained."""
    path = Path(source)
    is_folder = not is_public_name(source) and not checkpoint_of(source) and not _is_file(path)
    return is_folder and RECIPE in model_folder.read_config(path).fields


def is_public_name(source: str | Path) -> bool:
    """Whether `source` is a public name, and neither a path that exists nor one into a folder that does."""
    if not isinstance(source, str) or PUBLIC_NAME.fullmatch(source) is None:
        return False
    path, folder = Path(source), Path(source.split("/")[0])
    return folder != RUNS and not files.exists(path) and not files.exists(folder)


def _is_hugging_face(folder: Path) -> bool:
    """Whether config.json in `folder` is Hugging Face's: ours has a table "model"."""
    return files.exists(folder / CONFIG) and is_hugging_face_config(model_folder.read_config(folder))


def is_hugging_face_config(config: Table) -> bool:
    """Whether this config.json is Hugging Face's."""
    return "model" not in config.fields and not config.fields.keys().isdisjoint(
        {"model_type", "architectures"}
    )


def _load_file(path: Path, tokenizer: str | Path | None) -> Model:
    if not _is_gguf(path):
        return llama2c.load(path, tokenizer)
    if tokenizer is not None:
        raise _has_its_own(path)
    return gguf.load(path)


def _is_gguf(path: Path) -> bool:
    """Whether a file is GGUF; else it is llama2.c's. `UserError` where it is neither."""
    files.length(path)
    with files.readable(path), path.open("rb") as file:
        first = file.read(4)
    if first == GGUF or path.suffix == ".gguf":
        return True
    if first == ZIP or (
        first[:1] == PICKLE and first[2:3] != b"\0"
    ):  # llama2.c's width may begin with this byte
        raise UserError(
            f"{path} holds weights in Python's pickle format, which can execute anything as it is read; "
            f"handgrad never does. Take the model as safetensors or GGUF."
        )
    if path.suffix == ".bin":
        return False
    raise UserError(
        f"{path} is no model that handgrad reads. Name a run, a folder with {CONFIG}, a .gguf file, a .bin "
        f"file of llama2.c, or a public model as owner/name."
    )


def _has_its_own(path: Path) -> UserError:
    return UserError(f"Only a model of llama2.c has its tokenizer apart; {path} is none. Name no tokenizer.")
