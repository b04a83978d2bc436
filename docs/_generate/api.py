"""The public functions and types, from their signatures and docstrings, which are Markdown already."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import textwrap
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from _generate import pages

MODULES = {
    "handgrad": "What `import handgrad` gives.",
    "handgrad.trace": "A model [taken apart](../how-to/take-apart.md): what stands on `handgrad.trace`.",
    "handgrad.gradcheck": "The [proof](../proof.md), for an op of your own too.",
    "handgrad.parameters": "The types of weights, and of their gradients.",
    "handgrad.model.transformer": "The model as a function of its weights, and its backward.",
    "handgrad.foundations.descent": "Walking downhill.",
    "handgrad.foundations.perceptron": "The first learning rule.",
    "handgrad.foundations.mlp": "Networks of neurons in layers.",
    "handgrad.optim.adamw": "The optimizer of every preset.",
    "handgrad.optim.muon": "The other one, for matrices.",
    "handgrad.generation.sampling": "From logits to the next token.",
    "handgrad.generation.penalties": "What changes the logits before the draw.",
    "handgrad.generation.request": "What is asked of a text.",
    "handgrad.generation.stream": "A text, piece by piece.",
    "handgrad.generation.batch": "Many texts at once.",
    "handgrad.generation.beam": "The likeliest text.",
    "handgrad.generation.constraint": "JSON that follows a schema, and regular expressions.",
    "handgrad.generation.speculation": "Guessing ahead.",
    "handgrad.tree": "Trees of arrays: parameters, gradients, what is saved.",
    "handgrad.lessons.exercise": "Exercises that judge themselves.",
}
HEAD = """# The library

`train`, `generate` and `check` do what the [commands](commands.md) of these names do. Two things are
elsewhere: each op has [a page of its own](ops.md), and the [lessons](lessons.md) show the pictures
(`handgrad.plots`, `handgrad.lessons.pictures`) with the calls that draw them.

"""


def write(folder: Path) -> None:
    """`generated/api.md`."""
    parts, listed = [HEAD], set()
    for name, about in MODULES.items():
        module = importlib.import_module(name)
        parts.append(f"## `{name}`\n\n{about}")
        new = [thing for thing in public(module) if id(getattr(module, thing)) not in listed]
        parts += [entry(name, thing, getattr(module, thing)) for thing in new]
        listed |= {id(getattr(module, thing)) for thing in new}
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
    if inspect.ismodule(thing):
        rows = [[f"`{name}.{part}`", first_paragraph(getattr(thing, part))] for part in public(thing)]
        table = pages.cards(pages.table(["what it defines", "what that is"], rows))
        return f"### {name}\n\n{inspect.getdoc(thing)}\n\n{table}"
    if not callable(thing):
        kind = type(next(iter(thing.values()))).__name__
        return f"### {name}\n\nA `{kind}` by name: " + ", ".join(f"`{key}`" for key in thing) + "."
    doc = inspect.getdoc(thing) or ""
    if doc.startswith(f"{name}("):  # what dataclasses and NamedTuples write by themselves
        doc = ""
    return "\n\n".join(
        filter(
            None,
            [f"### {name}", f"```python\n{signature(name, thing)}\n```", doc, fields(thing), methods(thing)],
        )
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
    """A class's fields: what each is, and its default, where any has one."""
    if dataclasses.is_dataclass(thing):
        defaults = {f.name: f.default for f in dataclasses.fields(thing)}
    elif hasattr(thing, "_fields"):
        defaults = {name: thing._field_defaults.get(name, dataclasses.MISSING) for name in thing._fields}
    else:
        return ""
    about = texts(thing)
    rows = [
        [f"`{name}`", f"{about.get(name, '')} {default_text(value)}".strip()]
        for name, value in defaults.items()
        if not name.startswith("_")
    ]
    if not any(meaning for _, meaning in rows):
        return "Fields: " + ", ".join(name for name, _ in rows) + "."
    return pages.cards(pages.table(["field", "meaning"], rows))


def default_text(value: Any) -> str:
    if value is dataclasses.MISSING:
        return ""
    return f"Default: `{value.__name__ if inspect.ismodule(value) else repr(value)}`."


def texts(thing: type) -> dict[str, str]:
    """The text below each field of a class; for a choice without one, what there is to choose from."""
    body = ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0].body
    found = {
        name: "one of " + ", ".join(f"`{choice!r}`" for choice in get_args(hint)) + "."
        for name, hint in get_type_hints(thing).items()
        if get_origin(hint) is Literal
    }
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
            found[field.target.id] = " ".join(text.value.value.split())
    return {name: text[:1].upper() + text[1:] for name, text in found.items()}


def methods(thing: Any) -> str:
    """What a class's public functions are called with and do, by their first paragraph."""
    if not inspect.isclass(thing):
        return ""
    rows = [
        [f"`{signature(name, f).replace('self, ', '').replace('(self)', '()')}`", first_paragraph(f)]
        for name, f in vars(thing).items()
        if inspect.isfunction(f) and not name.startswith("_")
    ]
    return pages.cards(pages.table(["method", "what it does"], rows)) if rows else ""


def first_paragraph(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())
