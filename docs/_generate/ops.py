"""One page an op, all of it from the op's module: formula, derivation, picture, code, proof, cost."""

import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

import handgrad
from _generate import formulas, pages
from _generate.cost import cost
from handgrad import gradcheck, ops
from handgrad.plots import formulas as pictures
from handgrad.plots import style

HEAD = """# The ops, one page each

An op is a formula together with its gradient, in a module of its own. Its page is made from that module:
what it computes, the derivation of its backward, a picture, the code, the proof, and what it costs. All
follow one protocol:

```python
y, saved = op.forward(*inputs, **settings)
gradients = op.backward(dy, saved)  # one per float input, in argument order
```

"""
WIDE_PICTURE = 620
"""Pixels above which a picture keeps a readable size on a phone, and moves sideways."""

KERNELS = Path(handgrad.__path__[0]) / "kernels"
TWIN = "The twin of this op in the CPU engine: kernels that Numba compiles. Tests compare it with the op."
LOOPS = """The CPU engine's loops, which Numba compiles. Forward keeps the derivative too, and backward
multiplies by it. Tests compare them with [`activation`](activation.md), on its cases."""

COST = "Arithmetic, counted while the code runs:"
COST_WITH_TABLES = """Arithmetic, counted while the code runs; its tables of sines and cosines, which depend
on the positions alone, are not counted:"""


def write(folder: Path) -> None:
    """`generated/ops/NAME.md` for every op, and their index."""
    index = HEAD
    for group, members in ops.GROUPS.items():
        names = [op.__name__.rpartition(".")[2] for op in members]
        rows = [[f"[`{name}`](ops/{name}.md)", summary(ops.ALL[name])] for name in names]
        tree = pages.toctree([f"ops/{name}" for name in names], options=f":hidden:\n:caption: {group}")
        index += f"## {group}\n\n{pages.table(['op', 'what it is'], rows)}\n\n{tree}\n\n"
        for name in names:
            pages.write(folder / "ops" / f"{name}.md", page(name, ops.ALL[name], folder))
    pages.write(folder / "ops.md", index)


def summary(module: ModuleType) -> str:
    """The first sentence of a module, without its full stop."""
    return inspect.getdoc(module).split("\n\n")[0].replace("\n", " ").removesuffix(".")


def page(name: str, module: ModuleType, folder: Path) -> str:
    doc = inspect.getdoc(module)
    parts = [f"# `{name}`", pages.folded(doc), lessons(name), *picture(name, folder), "## Code"]
    parts.append(f"`src/handgrad/ops/{name}.py`; what backward needs, forward, backward:")
    parts += [
        listing(name, thing) for thing in (*saved_types(module), "forward", "backward", *others(module))
    ]
    parts += ["## In PyTorch", IN_TORCH, peer(name), *twin(name)]
    parts += ["## Proof", PROOF.format(name=name), proof(module), "## Cost", costs(module)]
    return "\n\n".join(parts) + "\n"


def lessons(name: str) -> str:
    """Where the course derives the op."""
    links = [formulas.lesson_link(f, "../") for f in formulas.every() if name in formulas.ops_of(f)]
    return f"In the lessons: {', '.join(links)}. What the letters mean: [notation](../../notation.md)."


IN_TORCH = """The same, written with PyTorch, whose autograd differentiates it. Tests compare values and
gradients on each of the op's cases."""


def peer(name: str) -> str:
    """The op's peer in PyTorch."""
    return f"```{{literalinclude}} /../tests/ops/torch_peers.py\n:pyobject: {name}\n```"


PROOF = """On each of the op's cases, `backward` is compared with central differences of `forward` along
random directions: [what "proved" means](../../proof.md). `handgrad check {name}` prints this table."""


def picture(name: str, folder: Path) -> Iterator[str]:
    """The op's picture, drawn on light and on dark paper."""
    title, draw = pictures.PICTURES[name]
    yield "## Picture"
    for theme in style.THEMES:
        path = folder / "ops" / f"{name}-{theme}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with style.theme(theme):
            png, size = draw()._repr_png_()
        if not path.exists() or path.read_bytes() != png:
            path.write_bytes(png)
        width = size["width"]
        image = f":::{{image}} {path.name}\n:class: only-{theme}\n:alt: {title}\n:width: {width}px\n:::"
        yield f"::::{{container}} sideways only-{theme}\n{image}\n::::" if width > WIDE_PICTURE else image
    yield f"{title}."


def saved_types(module: ModuleType) -> list[str]:
    """`Saved`, and before it the types of its parts that the module defines."""
    return [
        name
        for name, thing in vars(module).items()
        if inspect.isclass(thing) and thing.__module__ == module.__name__
    ]


def others(module: ModuleType) -> list[str]:
    """Public functions of an op beside its protocol, such as the Jacobian of softmax."""
    protocol = ("forward", "backward", "cases")
    functions = (
        f for f in vars(module).values() if inspect.isfunction(f) and f.__module__ == module.__name__
    )
    return [f.__name__ for f in functions if not f.__name__.startswith("_") and f.__name__ not in protocol]


def listing(name: str, thing: str) -> str:
    options = f":pyobject: {thing}\n:linenos:\n:lineno-match:\n:name: {name}-{thing}"
    return f"```{{literalinclude}} /../src/handgrad/ops/{name}.py\n{options}\n```"


def twin(name: str) -> Iterator[str]:
    """The code by which the CPU engine computes the op, where it has any."""
    if (KERNELS / "twins" / f"{name}.py").exists():
        yield from ("## On the CPU", TWIN, f"`src/handgrad/kernels/twins/{name}.py`:")
        yield f"```{{literalinclude}} /../src/handgrad/kernels/twins/{name}.py\n:linenos:\n```"
    elif name in get_args(ops.activation.Elementwise):
        yield from ("## On the CPU", LOOPS, "`src/handgrad/kernels/activations.py`:")
        for thing in (name, "prelu_backward" if name == "prelu" else "backward"):
            options = f":pyobject: {thing}\n:linenos:\n:lineno-match:"
            yield f"```{{literalinclude}} /../src/handgrad/kernels/activations.py\n{options}\n```"


def proof(module: ModuleType) -> str:
    """A verdict on each input, over all cases."""
    proofs: dict[str, list[gradcheck.Proof]] = {}
    n_cases = 0
    for case in module.cases(np.random.default_rng(0)):
        n_cases += 1
        for new in gradcheck.check(module, case, np.random.default_rng(0)):
            proofs.setdefault(new.input, []).append(new)
    rows = [
        [
            f"`{name}`",
            f"{max(proof.relative_error for proof in found):.1e}",
            "proved" if all(proof.passed for proof in found) else "**wrong**",
        ]
        for name, found in proofs.items()
    ]
    head = [
        "input",
        f"relative error, worst of {n_cases} cases" if n_cases > 1 else "relative error",
        "verdict",
    ]
    return pages.table(head, rows)


def costs(module: ModuleType) -> str:
    """What is kept for backward, by shape; and the arithmetic of the op's first case, counted."""
    case = next(iter(module.cases(np.random.default_rng(0))))
    saved = [
        [f"`{name}`", f"`{shape(hint)}`".replace(" | ", "` | `")]
        for name, hint in get_type_hints(module.Saved).items()
    ]
    kept = "Backward needs nothing." if not saved else pages.table(["kept for backward", "shape"], saved)
    forward, backward = cost(module, case)
    shapes = ", ".join(
        f"`{key}` {value.shape}".replace(",)", ")") for key, value in case.items() if hasattr(value, "shape")
    )
    names = {
        "multiply_adds": "multiply-adds of products",
        "elements": "element operations",
        "curves": "exponentials, roots and the like",
    }
    rows = [
        [text, f"{getattr(forward, name):,}", f"{getattr(backward, name):,}"] for name, text in names.items()
    ]
    head = [f"counted for {shapes}" if shapes else "counted", "forward", "backward"]
    about = COST_WITH_TABLES if "np.sin" in inspect.getsource(module) else COST
    return "\n\n".join([kept, about, pages.table(head, rows, numbers=("forward", "backward"))])


def shape(hint: Any) -> str:
    """`*B D` of Float[Array, "*B D"]; the name of any other type."""
    if isinstance(hint, types.UnionType) or get_origin(hint) is Union:
        return " | ".join(map(shape, get_args(hint)))
    if hint is type(None):
        return "None"
    if hasattr(hint, "dim_str"):
        return hint.dim_str.strip() or "scalar"
    if hasattr(hint, "_fields"):
        return f"{hint.__module__.rpartition('.')[2]}.{hint.__name__}"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("handgrad.ops.", "")
