"""Options as a command line has them: names with values, and which of them were given."""

import json
from typing import Any

import typer

from handgrad.errors import UserError


def settings(pairs: list[str]) -> dict[str, Any]:
    """name=value pairs of --set; values as JSON where they are, else as they stand."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set takes name=value, as in --set activation=silu; got {pair!r}.")
        try:
            options[name.strip().replace("-", "_")] = json.loads(value)
        except (ValueError, RecursionError):
            options[name.strip().replace("-", "_")] = value
    return options


def given(context: typer.Context) -> set[str]:
    """The names of the options that stand on the command line."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return {name for name, source in sources.items() if source and source.name == "COMMANDLINE"}
