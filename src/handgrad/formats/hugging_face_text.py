"""How a Hugging Face folder keeps what belongs to text: tokenizer, first and last ids, chat template.

In: tokenizer.json, tokenizer_config.json, generation_config.json, chat_template.jinja. Out: the first three;
our own tokenizers become ones of the `tokenizers` library (see `tokenizer.library`).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from handgrad.data import files
from handgrad.errors import UserError, as_whole, shown
from handgrad.formats.model_folder import LONGEST_CONFIG, TOKEN_BYTES, TOKENIZER, Model
from handgrad.formats.tables import Table
from handgrad.model.config import ModelConfig
from handgrad.tokenizer import PretrainedTokenizer, library

GENERATION, TOKENIZER_CONFIG, TEMPLATE = (
    "generation_config.json", "tokenizer_config.json", "chat_template.jinja",
)  # fmt: skip
DEFAULT_TEMPLATE = "default"


class Text(NamedTuple):
    """The fields of a `Model` that stand after its weights."""

    tokenizer: PretrainedTokenizer | None
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    chat_template: str | None


class Written(NamedTuple):
    """What is written of a model's text."""

    config: dict[str, Any]
    """Fields of config.json."""
    files: dict[str, str]
    """Contents by the files' names."""


def read(folder: Path, config: Table, model: ModelConfig) -> Text:
    """Tokenizer, first and last ids and chat template, as far as `folder` has them."""
    tokenizer = _read_tokenizer(folder, model) if files.exists(folder / TOKENIZER) else None
    about = _optional(folder / TOKENIZER_CONFIG)
    generation = _optional(folder / GENERATION)
    ends = _ids(generation if "eos_token_id" in generation.fields else config, "eos_token_id")
    if tokenizer is not None and (name := _token(about, "eos_token")) is not None:
        own = tokenizer.token_id(name)
        ends = [*([] if own is None else [own]), *ends]
    known = tuple(dict.fromkeys(i for i in ends if i < model.vocab_size))  # the others never occur
    return Text(tokenizer, () if tokenizer is None else tokenizer.starts, known, _template(folder, about))


def write(model: Model) -> Written:
    """The files of a model's text, and the fields of config.json that repeat what they say."""
    ends = model.ends[0] if len(model.ends) == 1 else list(model.ends) or None
    ids = {"bos_token_id": next(iter(model.starts), None), "eos_token_id": ends, "pad_token_id": None}
    contents = {GENERATION: json.dumps(ids, indent=2) + "\n"}
    if model.tokenizer is not None:
        made = library.tokenizer(model.tokenizer, model.starts)
        contents[TOKENIZER] = made.to_str()
        about: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
        about |= {"model_max_length": model.config.context_length, "clean_up_tokenization_spaces": False}
        for name, token_ids in (("bos_token", model.starts), ("eos_token", model.ends)):
            if token_ids and (token := made.id_to_token(token_ids[0])) is not None:
                about[name] = token
        if model.chat_template is not None:
            about["chat_template"] = model.chat_template
        contents[TOKENIZER_CONFIG] = json.dumps(about, indent=2, ensure_ascii=False) + "\n"
    return Written(ids, contents)


def _read_tokenizer(folder: Path, model: ModelConfig) -> PretrainedTokenizer:
    path = folder / TOKENIZER
    content = files.read_text(path, LONGEST_CONFIG + TOKEN_BYTES * model.vocab_size)
    try:
        tokenizer = PretrainedTokenizer.from_string(content)
    except ValueError as error:
        raise UserError(f"{path} is no tokenizer: {str(error)[:200]}. {files.COPY}") from error
    if tokenizer.vocab_size > model.vocab_size:
        raise UserError(
            f"{path} has {tokenizer.vocab_size} tokens, and the model {model.vocab_size}. {files.COPY}"
        )
    return tokenizer


def _optional(path: Path) -> Table:
    """The JSON object in `path`; an empty one where there is no such file."""
    if not files.exists(path):
        return Table(str(path), {})
    return Table.parse(files.read_text(path, 4 * LONGEST_CONFIG), str(path))


def _ids(table: Table, name: str) -> list[int]:
    """The ids under `name`: one, a list of them, or none."""
    value = table.fields.get(name)
    ids = value if isinstance(value, list) else [] if value is None else [value]
    if any((whole := as_whole(token_id)) is None or whole < 0 for token_id in ids):
        raise table.error(f"{name} must be a token's id, or a list of them; got {shown(value)}.")
    return ids


def _token(table: Table, name: str) -> str | None:
    """A token's name, which stands there as it is or in an object."""
    value = table.fields.get(name)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else None


def _template(folder: Path, about: Table) -> str | None:
    """The chat template: a file of its own, or a field; of several the one for ordinary conversations."""
    if files.exists(folder / TEMPLATE):
        return files.read_text(folder / TEMPLATE, LONGEST_CONFIG)
    value = about.fields.get("chat_template")
    if isinstance(value, list):
        named = {t.get("name"): t.get("template") for t in value if isinstance(t, dict)}
        value = named.get(DEFAULT_TEMPLATE)
    if value is not None and not isinstance(value, str):
        raise about.error(f"chat_template must be text; got {shown(value)}.")
    return value
