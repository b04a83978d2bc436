"""Hugging Face folders: config.json, weights in safetensors (one file or several), tokenizer, chat template.

Their matrices are (out, in) and ours (in, out), except GPT-2's, whose are ours. GPT-2 keeps queries, keys and
values side by side in one matrix. The rotary family turns component i of a head with i + half, and we turn
neighbours: their rows of queries and keys are ours in another order.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.data import files
from handgrad.engines import fits
from handgrad.errors import UserError, require_known, shown
from handgrad.formats import (
    atomic,
    hugging_face_config,
    hugging_face_layouts,
    hugging_face_text,
    names,
    tensors,
)
from handgrad.formats.hugging_face_config import Described
from handgrad.formats.model_folder import CONFIG, MODEL, Model, require_fitting
from handgrad.formats.tables import Table
from handgrad.formats.tensors import Entry
from handgrad.model.config import ModelConfig
from handgrad.model.count import count
from handgrad.model.init import blank, require_weights_of, shapes

WEIGHTS, INDEX = MODEL, "model.safetensors.index.json"
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The types that are written, and torch's names for them."""

LONGEST_CONFIG = 1 << 20
LONGEST_INDEX = 1 << 24
PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]*\.safetensors", re.ASCII)
BUFFERS = re.compile(r"\.attn\.(bias|masked_bias)$|rotary_emb\.inv_freq$")
"""What old files hold besides weights: masks, and frequencies that config.json implies."""


class Place(NamedTuple):
    """How one of our weights stands in their array: `to_ours` of it, `to_theirs` of ours."""

    part: int | None = None
    """Of three side by side; None where the whole array is ours."""
    transposed: bool = False
    order: np.ndarray | None = None
    """Our last axis in theirs."""

    def to_ours(self, array: np.ndarray) -> np.ndarray:
        array = array if self.part is None else np.split(array, 3, axis=-1)[self.part]
        array = array.T if self.transposed else array
        return array if self.order is None else array[..., self.order]

    def to_theirs(self, array: np.ndarray) -> np.ndarray:
        array = array if self.order is None else array[..., np.argsort(self.order)]
        return array.T if self.transposed else array


def load(folder: str | Path) -> Model:
    """The model in a Hugging Face folder.

    Raises `UserError` where something is missing or damaged, and for what handgrad does not compute.
    """
    folder = Path(folder)
    table = read_config(folder)
    described = hugging_face_config.read(table)
    config = described.config
    found = _arrays(folder)
    wanted = _wanted(described)
    _require_arrays(folder, found, wanted, config)
    fits.require(count(config).weight_bytes, f"The model in {folder}")
    text = hugging_face_text.read(folder, table, config)
    return Model(config, _read_weights(found, wanted, described), *text)


def save(model: Model, folder: str | Path, dtype: str = "F32") -> Path:
    """Write `model` as a new Hugging Face folder, which `transformers` and `load` read. Returns the folder.

    `dtype` is F32, F16 or BF16. Raises `UserError` where no layout of theirs is this model's: it names the
    settings in the way.
    """
    folder = Path(folder)
    require_known("type of weights", dtype, DTYPES)
    require_weights_of(model.config, model.weights)
    require_fitting(model.tokenizer, model.config, "The tokenizer")
    config = hugging_face_layouts.describe(model.config)
    arrays = _theirs(model, hugging_face_config.read(Table(CONFIG, config)))
    texts = hugging_face_text.write(model)
    with atomic.new_folder(folder) as partial:
        about = {**config, **texts.config, "torch_dtype": DTYPES[dtype]}
        atomic.write_text(partial / CONFIG, json.dumps(about, indent=2) + "\n")
        for name, content in texts.files.items():
            atomic.write_text(partial / name, content)
        tensors.write(partial / WEIGHTS, arrays, {"format": "pt"}, dtype=dtype)
    return folder


def read_config(folder: Path) -> Table:
    """What config.json in `folder` says."""
    path = folder / CONFIG
    return Table.parse(files.read_text(path, LONGEST_CONFIG), str(path))


def shards(index: Path) -> list[str]:
    """The files that an index of weights names, each a plain name in the same folder."""
    table = Table.parse(files.read_text(index, LONGEST_INDEX), str(index)).table("weight_map")
    found = sorted({table.text(name) for name in table.fields})
    for name in found:
        if not PLAIN_NAME.fullmatch(name):
            raise table.error(f"Weights stand beside it, in .safetensors files; got {shown(name)}.")
    return found


def _arrays(folder: Path) -> dict[str, tuple[Path, Entry]]:
    """Every array by its name: the file it is in, and where."""
    index = folder / INDEX
    if not files.exists(index) and not files.exists(folder / WEIGHTS):
        raise UserError(
            f"There are no weights in {folder}: no {WEIGHTS} or {INDEX}. Weights in other formats, such as "
            f"pytorch_model.bin, are not read: take a copy in safetensors."
        )
    parts = [folder / name for name in shards(index)] if files.exists(index) else [folder / WEIGHTS]
    found: dict[str, tuple[Path, Entry]] = {}
    for path in parts:
        for name, entry in tensors.read_header(path, BUFFERS.search).entries.items():
            if name in found:
                raise UserError(f"{name} is in two files of {folder}: {found[name][0].name} and {path.name}.")
            found[name] = path, entry
    return _with_prefix(found)


def _with_prefix(found: dict[str, tuple[Path, Entry]]) -> dict[str, tuple[Path, Entry]]:
    """The same arrays; where a file was saved without the head, its names lack the model's."""
    for prefix, sign in (("transformer.", "wte.weight"), ("model.", "embed_tokens.weight")):
        if sign in found:
            return {name if name.startswith("lm_head.") else prefix + name: at for name, at in found.items()}
    return found


def _wanted(described: Described) -> dict[str, list[str]]:
    """Our names for each of theirs that the configuration asks for."""
    ours = (name for name, _ in tree.named_leaves(shapes(described.config)))
    return names.by_theirs((n for n in ours if not n.endswith(described.absent)), described.family)


def _require_arrays(
    folder: Path, found: dict[str, tuple[Path, Entry]], wanted: dict[str, list[str]], config: ModelConfig
) -> None:
    """Raise `UserError` unless there is every array that the model needs, of its shape, and no other."""
    ours = {name: leaf.shape for name, leaf in tree.named_leaves(shapes(config))}
    for name, parts in wanted.items():
        if name not in found:
            raise _another(folder, f"they lack {name}")
        shape = _their_shape([ours[part] for part in parts], _is_transposed(parts[0], name))
        if found[name][1].shape != shape:
            raise _another(folder, f"{name} is {found[name][1].shape}, not {shape}")
    for name in found.keys() - wanted.keys():
        if not BUFFERS.search(name) and not (config.tied and name == "lm_head.weight"):
            raise _another(folder, f"they hold {shown(name)}, which it has not")


def _their_shape(parts: list[tuple[int, ...]], transposed: bool) -> tuple[int, ...]:
    shape = (*parts[0][:-1], sum(part[-1] for part in parts))
    return shape[::-1] if transposed else shape


def _is_transposed(ours: str, theirs: str) -> bool:
    """Whether their matrix is (out, in): all but GPT-2's, whose head is an ordinary one."""
    return ours.endswith(".weight") and not theirs.startswith("transformer.")


def _place(ours: str, theirs: str, parts: list[str], config: ModelConfig) -> Place:
    part = parts.index(ours) if len(parts) > 1 else None
    return Place(part, _is_transposed(ours, theirs), _order(ours, config))


def _order(ours: str, config: ModelConfig) -> np.ndarray | None:
    """Their component for each of ours, of what is turned: i and i + half become neighbours."""
    heads = {"query": config.n_heads, "key": config.kv_heads, "query_norm": 1, "key_norm": 1}
    part = ours.split(".")[3] if ".attention." in ours else ""
    if config.position != "rope" or part not in heads:
        return None
    pairs = np.arange(config.head_width).reshape(2, -1).T.ravel()
    return (np.arange(heads[part])[:, None] * config.head_width + pairs).ravel()


def _read_weights(
    found: dict[str, tuple[Path, Entry]], wanted: dict[str, list[str]], described: Described
) -> p.Transformer:
    """Our weights. What their files do not have, biases, is zero."""
    weights = blank(described.config)
    targets = tensors.by_name(weights)
    for path in sorted({found[name][0] for name in wanted}):
        entries = {name: found[name][1] for name in wanted if found[name][0] == path}
        for name, array in _read(path, entries):
            for ours in wanted[name]:
                place = _place(ours, name, wanted[name], described.config)
                targets[ours][...] = place.to_ours(array)
    return weights


def _read(path: Path, entries: dict[str, Entry]) -> Iterator[tuple[str, np.ndarray]]:
    in_file = dict(sorted(entries.items(), key=lambda item: item[1].start))
    return tensors.read_arrays(path, in_file)


def _theirs(model: Model, described: Described) -> dict[str, np.ndarray]:
    """The arrays that `described` asks for, from the model's weights; biases that we do not have are zero."""
    ours = tensors.by_name(model.weights)
    for name, array in ours.items():
        tensors.require_finite(np.asarray(array, np.float32), name)
        if name.endswith(described.absent) and array.any():
            raise UserError(
                f"Hugging Face's layout for this model has no place for {name}, which is not zero. Train it "
                f"with bias=False."
            )
    shape_of = dict(tree.named_leaves(shapes(described.config)))
    arrays = {}
    for name, parts in _wanted(described).items():
        made = [
            _place(part, name, parts, described.config).to_theirs(ours.get(part, shape_of[part]))
            for part in parts
        ]
        arrays[name] = made[0] if len(made) == 1 else np.concatenate(made, axis=-1)
    return arrays


def _another(folder: Path, why: str) -> UserError:
    return UserError(f"The weights in {folder} are not those of its {CONFIG}: {why}. {files.COPY}")
