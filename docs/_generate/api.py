"""The public functions and types, from their signatures and docstrings, which are Markdown already."""

import dataclasses
import importlib
import inspect
from pathlib import Path
from typing import Any

from _generate import pages

MODULES = {
    "handgrad": "What `import handgrad` gives.",
    "handgrad.gradcheck": "The proof, for an op of your own too.",
    "handgrad.foundations.descent": "Walking downhill.",
    "handgrad.foundations.perceptron": "The first learning rule.",
    "handgrad.foundations.mlp": "Networks of neurons in layers.",
    "handgrad.optim.adamw": "The optimizer of every recipe.",
    "handgrad.generation.sampling": "From logits to the next token.",
    "handgrad.tree": "Trees of arrays: parameters, gradients, what is saved.",
    "handgrad.lessons.exercise": "Exercises that judge themselves.",
}
HEAD = """# The library

Ops are not here: each has [a page of its own](ops.md). What a command does, one of these functions does, with
the same names for its arguments.

"""


def write(folder: Path) -> None:
    """`generated/api.md`."""
    parts = [HEAD]
    for name, about in MODULES.items():
        module = importlib.import_module(name)
        parts.append(f"## `{name}`\n\n{about}")
        parts += [entry(name, thing, getattr(module, thing)) for thing in public(module)]
    pages.write(folder / "api.md", "\n\n".join(parts) + "\n")


def public(module: Any) -> list[str]:
    """The names that a module means to be used: those it lists, or the functions and classes it defines."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(thing) or inspect.isclass(thing))
        and thing.__module__ == module.__name__
    ]


def entry(module: str, name: str, thing: Any) -> str:
    if not callable(thing):
        return f"### {name}\n\nOne of: " + ", ".join(f"`{key}`" for key in thing) + "."
    doc = inspect.getdoc(thing) or ""
    if doc.startswith(f"{name}("):  # what dataclasses and NamedTuples write by themselves
        doc = ""
    return "\n\n".join(
        filter(None, [f"### {name}", f"```python\n{signature(name, thing)}\n```", doc, fields(thing)])
    )


def signature(name: str, thing: Any) -> str:
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return f"class {name}({thing.__base__.__name__})"
    if dataclasses.is_dataclass(thing) or hasattr(thing, "_fields"):
        return f"class {name}"
    words = []
    star = False
    for parameter in inspect.signature(thing).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        words.append(str(parameter).split(":")[0].split("=")[0] + default(parameter))
    line = f"{name}({', '.join(words)})"
    return line if len(line) < 88 else f"{name}(\n    " + ",\n    ".join(words) + ",\n)"


def default(parameter: Any) -> str:
    if parameter.default is parameter.empty:
        return ""
    value = parameter.default
    return f"={value.__name__}" if callable(value) else f"={value!r}"


def fields(thing: Any) -> str:
    if dataclasses.is_dataclass(thing):
        rows = [
            [f"`{f.name}`", "" if f.default is dataclasses.MISSING else f"`{f.default!r}`"]
            for f in dataclasses.fields(thing)
        ]
        return pages.table(["field", "default"], rows)
    if hasattr(thing, "_fields"):
        return "Fields: " + ", ".join(f"`{name}`" for name in thing._fields) + "."
    return ""
