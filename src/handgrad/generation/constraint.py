"""Text that follows a JSON schema or a regular expression: tokens that lead out of it cannot be drawn.

    request = Request(grammar=json_schema({"type": "object", "properties": {"age": {"type": "integer"}}}))

What may come next is computed by llguidance (github.com/guidance-ai/llguidance, MIT), an extra: it walks the
grammar beside the vocabulary while the text is written. (The other candidate, outlines-core, turns a schema
into a regular expression, which no recursive schema is, and visits the whole vocabulary in every state of
its automaton beforehand.) JSON is written without line breaks, so a model cannot go on with blanks for ever.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from handgrad.errors import UserError, shown
from handgrad.shapes import Bool
from handgrad.tokenizer import Tokenizer

INSTALL = 'Install it: pip install "handgrad[json]".'


class Grammar(NamedTuple):
    """What a text has to be: `json_schema` and `regular_expression` make it."""

    kind: str
    source: str


def json_schema(schema: str | Mapping[str, Any]) -> Grammar:
    """JSON that follows `schema`; `UserError` where it is no schema."""
    try:
        read = json.loads(schema) if isinstance(schema, str) else schema
        if not isinstance(read, Mapping):
            raise ValueError(f"it is {shown(read)}")
        return _checked(Grammar("json", json.dumps(read)))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f'A JSON schema is a JSON object; this one is not ({_line(error)}). Try {{"type": "object"}}.'
        ) from error


def regular_expression(pattern: str) -> Grammar:
    """Text that `pattern` matches as a whole; `UserError` where it is no regular expression."""
    if not isinstance(pattern, str):
        raise UserError(f"A regular expression is a text; got {shown(pattern)}.")
    return _checked(Grammar("regex", pattern))


class Matcher:
    """A text in progress, and what its grammar lets follow."""

    def __init__(self, grammar: Grammar, tokenizer: Tokenizer, ends: Sequence[int]):
        """`ends` are the tokens that may follow a text that is whole."""
        guide = _library()
        self._matcher = guide.LLMatcher(
            _vocabulary(tokenizer, tuple(ends)),  # type: ignore[arg-type]
            _compiled(grammar),
            log_level=0,
        )
        self._n = tokenizer.vocab_size
        self._ends = [i for i in ends if i < self._n]
        self._look()

    def take(self, token_id: int) -> None:
        """The text goes on with a token that is `allowed`."""
        self._matcher.consume_token(token_id)
        self._look()

    def _look(self) -> None:
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self.allowed: Bool[np.ndarray, " N"] = np.unpackbits(mask, bitorder="little")[: self._n].astype(bool)
        """The tokens that may come next, by id."""
        going_on = self.allowed.copy()
        going_on[self._ends] = False
        self.is_over = not going_on.any()
        """Nothing can follow but the end."""
        if self.is_over and not self._matcher.is_accepting():
            raise UserError(
                "This model cannot write what is asked of the text: none of its tokens leads on from here. "
                "Take a model whose tokenizer knows every character."
            )


def _library() -> Any:
    try:
        import llguidance
    except ModuleNotFoundError as error:
        raise UserError(f"JSON schemas and regular expressions take llguidance. {INSTALL}") from error
    return llguidance


def _compiled(grammar: Grammar) -> str:
    matcher = _library().LLMatcher
    if grammar.kind == "regex":
        return matcher.grammar_from_regex(grammar.source)
    return matcher.grammar_from_json_schema(grammar.source, defaults={"whitespace_flexible": False})


def _checked(grammar: Grammar) -> Grammar:
    """`grammar`; `UserError` says what of it cannot be followed."""
    trouble = _library().LLMatcher.validate_grammar(_compiled(grammar))
    if trouble and not trouble.startswith("WARNING"):
        name = "JSON schema" if grammar.kind == "json" else "regular expression"
        raise UserError(f"This {name} cannot be followed: {_line(trouble)}. Say it without that.")
    return grammar


def _line(trouble: object) -> str:
    return " ".join(str(trouble).split())[:200].rstrip(".")


class _Bytes:
    """A tokenizer of single characters or bytes, as llguidance wants it."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, end: int):
        n = tokenizer.vocab_size
        texts = [bytes([i]) for i in range(n)] if tokenizer.kind == "bytes" else _characters(tokenizer)
        self.tokens = [*texts, *([b"<end>"] if end == n else [])]
        self.eos_token_id, self.special_token_ids = end, [end]
        self._ids = {text: i for i, text in enumerate(texts)}
        self._kind = tokenizer.kind

    def __call__(self, text: bytes | str) -> list[int]:
        """Characters that have no token are left out: then no token leads on."""
        text = text if isinstance(text, str) else text.decode()
        units = map(str.encode, text) if self._kind == "characters" else (bytes([b]) for b in text.encode())
        return [self._ids[unit] for unit in units if unit in self._ids]


def _characters(tokenizer: Tokenizer) -> list[bytes]:
    return [tokenizer.decode([i]).encode() for i in range(tokenizer.vocab_size)]


@functools.lru_cache(maxsize=4)
def _vocabulary(tokenizer: Tokenizer, ends: tuple[int, ...]) -> Any:
    """The tokens as llguidance reads them; a model that has no end has one there, which is never drawn."""
    guide, n = _library(), tokenizer.vocab_size
    described = tokenizer.to_json().get("tokenizer")
    if described is None:
        return guide.LLTokenizer(guide.TokenizerWrapper(_Bytes(tokenizer, ends[0] if ends else n)))
    if not ends:
        described = {**described, "added_tokens": [*described["added_tokens"], _end(described, n)]}
    return guide.LLTokenizer(json.dumps(described), n_vocab=n + (not ends), eos_token=list(ends) or n)


def _end(described: dict[str, Any], token_id: int) -> dict[str, Any]:
    """An end for a vocabulary that has none."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": "<|no text has this end|>", "special": True, **flags}
