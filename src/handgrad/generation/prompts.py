"""Many prompts in a file: one a line, or JSON lines with settings of their own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from handgrad.data import files
from handgrad.errors import UserError, shown
from handgrad.generation.constraint import Grammar, json_schema, regular_expression
from handgrad.generation.request import Request

LARGEST = 1 << 30
"""Bytes of a file of prompts."""


class Asked(NamedTuple):
    """A prompt, and what is asked of its text."""

    prompt: str
    request: Request


def read(path: Path, settings: dict[str, Any]) -> list[Asked]:
    """The prompts in a file. `settings` are those of `request`, for all whose line says nothing else.

    Where the first line is a JSON object, every line is: its "prompt", and any of the settings by name, such
    as {"prompt": "The ", "max_tokens": 20, "seed": 3}. Empty lines are passed over. Raises `UserError` for a
    line that is no prompt, or has settings that mean nothing.
    """
    lines = list(enumerate(files.read_text(path, LARGEST).splitlines(), 1))
    given = [(number, line) for number, line in lines if line.strip()]
    if not given:
        raise UserError(f"There is no prompt in {path}. Write one a line, or JSON lines.")
    if not given[0][1].lstrip().startswith("{"):
        asked = request(settings)
        return [Asked(line, asked) for _, line in given]
    return [_asked(f"{path}, line {number}", line, settings) for number, line in given]


def request(settings: dict[str, Any]) -> Request:
    """A request from settings by name: those of `Request.of`, and "schema" or "regex" for its grammar."""
    settings = dict(settings)
    grammars = list(_grammars(settings.pop("schema", None), settings.pop("regex", None)))
    if len(grammars) > 1:
        raise UserError("A text follows a schema or a regular expression, not both. Leave one out.")
    return Request.of(**settings, **({"grammar": grammars[0]} if grammars else {}))


def _asked(place: str, line: str, settings: dict[str, Any]) -> Asked:
    try:
        own = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{place}: this is no JSON ({error}). Every line is an object, as the first."
        ) from error
    if not isinstance(own, dict) or not isinstance(own.get("prompt"), str):
        raise UserError(f'{place}: a line is an object with a "prompt"; got {shown(line)}.')
    prompt = own.pop("prompt")
    try:
        return Asked(prompt, request({**settings, **own}))
    except UserError as error:
        raise UserError(f"{place}: {error}") from error


def _grammars(schema: Any, regex: Any) -> Iterator[Grammar]:
    if schema is not None:
        yield json_schema(schema)
    if regex is not None:
        yield regular_expression(regex)
