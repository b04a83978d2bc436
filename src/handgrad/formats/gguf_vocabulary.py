"""A tokenizer as a GGUF file's metadata, which llama.cpp and `gguf_tokenizer` read.

Characters and bytes are GPT-2's kind of tokenizer without words that grow: every token is written with its
bytes as characters, as GPT-2 writes them, and a character of several bytes has the merges that join them.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from handgrad.errors import UserError, shown
from handgrad.formats import sentencepiece
from handgrad.formats.gguf_tokenizer import (
    BYTE,
    CONTROL,
    ENDLESS,
    ENDS,
    KEY,
    LLAMA3_OWN,
    NONE,
    NORMAL,
    OURS,
    OWN,
    SPLITS,
    TEMPLATE,
    UNKNOWN,
    UNUSED,
    pre_tokenizer,
)  # fmt: skip
from handgrad.formats.model_folder import Model
from handgrad.tokenizer import ByteTokenizer, CharacterTokenizer, Tokenizer
from handgrad.tokenizer.byte_letters import as_letters

NEVER = b"\xff"
"""A byte that no text has."""


class Vocabulary(NamedTuple):
    """Tokens by id, what kind each is, and what else GGUF says of a tokenizer, by its keys."""

    tokens: list[str]
    types: list[int]
    about: dict[str, Any]


def describe(model: Model) -> dict[str, Any]:
    """The metadata of what stands in a `Model` besides weights.

    Raises `UserError` for a tokenizer that llama.cpp has no name for.
    """
    template = {} if model.chat_template is None else {TEMPLATE: model.chat_template}
    if model.tokenizer is None:
        return {KEY + "model": NONE[-1], **template}
    tokens, types, about = _vocabulary(model.tokenizer)
    padding = range(len(tokens), model.config.vocab_size)
    tokens, types = [*tokens, *(f"[PAD{i}]" for i in padding)], [*types, *[UNUSED] * len(padding)]
    listed = {"tokens": tokens, "token_type": np.array(types, np.int32)}
    about |= listed | _around(model, tokens)
    return {key if "." in key else KEY + key: value for key, value in about.items()} | template


def _vocabulary(tokenizer: Tokenizer) -> Vocabulary:
    if isinstance(tokenizer, CharacterTokenizer):
        return _of_bytes("characters", [character.encode() for character in tokenizer.characters])
    if isinstance(tokenizer, ByteTokenizer):
        return _of_bytes("bytes", [bytes([byte]) for byte in range(256)])
    parts = tokenizer.to_json()["tokenizer"]
    if parts["model"]["type"] != "BPE":
        raise UserError(f"A GGUF file holds tokenizers of BPE; this one is {parts['model']['type']}.")
    tokens, types = _by_id(parts)
    merges = [merge if isinstance(merge, list) else merge.split(" ", 1) for merge in parts["model"]["merges"]]
    if parts["model"]["byte_fallback"]:
        return Vocabulary(tokens, types, _pieces(parts, tokens, merges))
    about = {"model": "gpt2", "pre": _split_name(parts), "merges": [" ".join(merge) for merge in merges]}
    return Vocabulary(tokens, types, about)


def _of_bytes(kind: str, tokens: list[bytes]) -> Vocabulary:
    """A vocabulary of ours: GPT-2's kind, without words."""
    written = [as_letters(token) for token in tokens]
    merges = [f"{token[:cut]} {token[cut]}" for token in written for cut in range(1, len(token))]
    about = {"model": "gpt2", "pre": "gpt-2", "merges": list(dict.fromkeys(merges)), OURS: kind}
    return Vocabulary(written, [NORMAL] * len(tokens), about)


def _by_id(parts: dict[str, Any]) -> tuple[list[str], list[int]]:
    """Tokens and their types; ids that no token has are unused."""
    added = {token["id"]: token for token in parts["added_tokens"]}
    by_id = {number: token for token, number in parts["model"]["vocab"].items()}
    by_id |= {number: token["content"] for number, token in added.items()}
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(max(by_id) + 1)]
    types = [NORMAL if number in by_id else UNUSED for number in range(len(tokens))]
    for number, token in enumerate(tokens):
        if parts["model"]["byte_fallback"] and token in sentencepiece.BYTES:
            types[number] = BYTE
        if number in added:
            types[number] = CONTROL if added[number]["special"] else OWN
        if token == parts["model"]["unk_token"]:
            types[number] = UNKNOWN
    return tokens, types


def _pieces(parts: dict[str, Any], tokens: list[str], merges: Sequence[Sequence[str]]) -> dict[str, Any]:
    """SentencePiece's kind: a piece's score says how early it is merged."""
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    scores = np.array([-ranks.get(token, len(merges)) for token in tokens], np.float32)
    scores[[token in sentencepiece.BYTES for token in tokens]] = 0
    starts_with_blank = '"prepend"' in json.dumps(parts["normalizer"]) or _metaspace_prepends(parts)
    unknown = parts["model"]["unk_token"]
    about = {"model": "llama", "scores": scores, "add_space_prefix": starts_with_blank}
    return about if unknown is None else about | {"unknown_token_id": tokens.index(unknown)}


def _metaspace_prepends(parts: dict[str, Any]) -> bool:
    split = parts["pre_tokenizer"] or {}
    return split.get("type") == "Metaspace" and split["prepend_scheme"] != "never"


def _split_name(parts: dict[str, Any]) -> str:
    """llama.cpp's name for how a text is split into words."""
    whole_first = parts["model"].get("ignore_merges", False)
    for name, split in SPLITS.items():
        if whole_first == (name in LLAMA3_OWN) and _bare(
            json.loads(pre_tokenizer(split).__getstate__())
        ) == _bare(parts["pre_tokenizer"]):
            return name
    raise UserError(
        f"A GGUF file only names how a tokenizer splits a text, and llama.cpp has no name for this one's "
        f"way: {shown(parts['pre_tokenizer'])}. Take a tokenizer of {', '.join(SPLITS)}."
    )


def _bare(split: Any) -> Any:
    """A description of a split without what does not change the tokens."""
    if isinstance(split, list):
        return [_bare(part) for part in split]
    if isinstance(split, dict):
        return {key: _bare(value) for key, value in split.items() if key != "trim_offsets"}
    return split


def _around(model: Model, tokens: list[str]) -> dict[str, Any]:
    """How texts begin and end. llama.cpp wants a token for the end in any case: one that no text has."""
    if len(model.starts) > 1 or len(model.ends) > len(ENDS):
        raise UserError(
            f"A GGUF file has room for one token that starts a text and for {len(ENDS)} that end it; this "
            f"model has {len(model.starts)} and {len(model.ends)}. Keep the first ones."
        )
    about: dict[str, Any] = {"add_bos_token": bool(model.starts)}
    about |= dict(zip(("bos_token_id",), model.starts, strict=False))
    about |= dict(zip(ENDS, model.ends, strict=False))
    if not model.ends:
        never = as_letters(NEVER)
        about |= {ENDS[0]: tokens.index(never) if never in tokens else len(tokens) - 1, ENDLESS: True}
    return about
