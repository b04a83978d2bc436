"""Your formulas in the place of ours: what exercises keep, and a transformer that runs on it.

    mine.keep("layer_norm", forward, backward)      # judged first; then kept as mine/layer_norm.py
    mine.progress()                                 # which parts are yours by now
    Transformer(config, ops=mine.ops())             # yours where there is one, ours elsewhere

A part that you wrote is asked for what its exercise asked for. For anything else, such as dropout or a mask,
ours answers. What connects the parts (heads, blocks) is the library's own wiring, run on your parts.
"""

import importlib.util
import inspect
import os
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from handgrad import ops as formulas
from handgrad.errors import UserError, require_known
from handgrad.formats import atomic
from handgrad.lessons import exercise, knobs, slips, terms
from handgrad.lessons.exercise import Verdict

FOLDER = Path("mine")
"""Where kept answers are, below the folder in which the notebook runs."""
PRELUDE = f"""import numpy as np

from handgrad import ops
from handgrad.ops import {", ".join(formulas.ALL)}
from handgrad.shapes import average, merge_heads, split_heads, sum_to
"""


class Part(NamedTuple):
    """One op that an exercise asks for."""

    topic: str
    """Of the lesson: its file is `NN_topic.py`."""
    cases: Callable[[np.random.Generator], list[dict[str, Any]]]
    """What it is judged on: no more than `nano` needs."""
    terms: Callable[..., slips.Terms] | None = None
    """Of a case's arrays, what its gradients are the sums of."""


def _arrays(
    optional: str = "", **shapes: tuple[int, ...]
) -> Callable[[np.random.Generator], list[dict[str, Any]]]:
    """A case of random arrays of these shapes, and one without the array that may be missing."""

    def cases(rng: np.random.Generator) -> list[dict[str, Any]]:
        whole = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        return [whole, {**whole, optional: None}] if optional else [whole]

    return cases


def _with_ids(array: str, ids: str, shape: tuple[int, ...]) -> Callable[[np.random.Generator], list[Any]]:
    """One case, of an array and of integers below 5."""
    return lambda rng: [{array: rng.normal(size=shape), ids: rng.integers(5, size=(2, 3))}]


PARTS: dict[str, Part] = {
    "linear": Part("networks", _arrays("bias", x=(2, 3, 5), weight=(5, 4), bias=(4,)), terms.of_linear),
    "gelu": Part("activations", _arrays(x=(3, 7)), terms.of_gelu),
    "softmax": Part("activations", _arrays(x=(2, 3, 5)), terms.of_softmax),
    "softmax_cross_entropy": Part(
        "losses", _with_ids("logits", "targets", (2, 3, 5)), terms.of_cross_entropy
    ),
    "embedding": Part("embeddings_and_positions", _with_ids("weight", "token_ids", (5, 4))),
    "learned_position": Part("embeddings_and_positions", _arrays(x=(2, 4, 3), weight=(6, 3))),
    "attention": Part("attention", _arrays(q=(2, 2, 4, 3), k=(2, 2, 4, 3), v=(2, 2, 4, 3))),
    "layer_norm": Part(
        "norms_and_residuals", _arrays("beta", x=(2, 3, 5), gamma=(5,), beta=(5,)), terms.of_layer_norm
    ),
    "residual": Part("norms_and_residuals", _arrays(x=(2, 3, 4), h=(2, 3, 4)), terms.of_residual),
    "unembedding": Part("the_transformer", _arrays(x=(2, 3, 4), weight=(6, 4))),
}
"""What makes up `nano`, in the order of the course."""


def keep(name: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> Verdict:
    """Judge your op; if it is right, keep it, from now on in the place of ours.

    `forward` takes the op's arrays and returns its result and what `backward` needs; `backward` takes the
    gradient of the result, and that, and returns a gradient for each array of numbers. Where a lesson is
    only run, for a page, nothing is kept.
    """
    require_known("part", name, PARTS)
    verdict = _judged(name, forward, backward)
    if not verdict or os.environ.get(knobs.ON_A_PAGE):
        return verdict
    try:
        text = f'"""{name}, by hand."""\n\n{PRELUDE}\n\n{_source(forward)}\n\n{_source(backward)}\n'
    except OSError:
        return Verdict("right", f"{verdict.message} Its text is not to be had here, so it is not kept.")
    text += f"\n\nforward, backward = {forward.__name__}, {backward.__name__}\n"
    FOLDER.mkdir(exist_ok=True)
    atomic.write_text(FOLDER / f"{name}.py", text)
    n = len(kept())
    said = f"{verdict.message} Kept as {FOLDER / name}.py: {n} of {len(PARTS)} parts are yours."
    return Verdict("right", said)


def forget(name: str | None = None) -> None:
    """Ours again in the place of yours: of one part, or of all."""
    for path in kept().values() if name is None else [FOLDER / f"{name}.py"]:
        path.unlink(missing_ok=True)


def kept() -> dict[str, Path]:
    """The files of the parts that are yours."""
    paths = {name: FOLDER / f"{name}.py" for name in PARTS}
    return {name: path for name, path in paths.items() if path.is_file()}


class Progress:
    """Which parts are yours, and in which lesson the others are asked for."""

    def __init__(self, yours: Mapping[str, Path]):
        self.yours = yours

    def rows(self) -> list[tuple[str, str]]:
        return [(name, "yours" if name in self.yours else "ours") for name in PARTS]

    def __repr__(self) -> str:
        return "\n".join(f"{name:24}{whose}" for name, whose in self.rows())

    def _repr_html_(self) -> str:
        from handgrad.lessons import catalog

        numbers = {lesson.name.partition("_")[2]: lesson.number for lesson in catalog.lessons()}
        rows = "".join(
            f"<tr><td><code>{name}</code></td><td>lesson {numbers.get(PARTS[name].topic, '')}</td>"
            f"<td>{exercise.SIGNS['right'] if whose == 'yours' else ''} {whose}</td></tr>"
            for name, whose in self.rows()
        )
        return f"<table><tr><th>part</th><th>exercise in</th><th>whose</th></tr>{rows}</table>"


def progress() -> Progress:
    """A table of all parts."""
    return Progress(kept())


def ops() -> Any:
    """All ops of a transformer: yours where one is kept, ours elsewhere, wired as the library wires them."""
    yours = {name: _loaded(name, path) for name, path in kept().items()}
    parts: dict[str, Any] = {**formulas.ALL, **yours}
    if "attention" not in yours:
        parts["attention"] = _rewired(formulas.attention, softmax=parts["softmax"])
    parts["activation"] = _activation(parts)
    for name, inner in WIRING.items():
        parts[name] = _rewired(formulas.ALL[name], **{by: parts[op] for by, op in inner.items()})
    return SimpleNamespace(**parts)


WIRING = {
    "feed_forward": {"linear": "linear", "activation_op": "activation"},
    "multi_head_attention": {"linear": "linear", "attention": "attention"},
    "next_token_loss": {
        "linear": "linear", "unembedding": "unembedding", "softmax_cross_entropy": "softmax_cross_entropy",
    },
}  # fmt: skip
"""Ops that are made of others, and the names under which they know these."""


@dataclass(frozen=True)
class Kept:
    """What your forward saved, and what went in."""

    saved: Any
    inputs: tuple[Any, ...]

    @property
    def q(self) -> Any:
        """Queries: whoever wires heads looks at their shape."""
        return self.inputs[0]


class Yours:
    """Your op, and ours for what its exercise did not ask for."""

    def __init__(self, name: str, written: ModuleType):
        self.written, self.ours = written, formulas.ALL[name]
        self.kept: type[Kept] = type(f"Kept_{name}", (Kept,), {})
        self._settings = frozenset(inspect.signature(written.forward).parameters)
        self._usual = inspect.signature(self.ours.forward).parameters

    @property
    def Saved(self) -> tuple[type, ...]:  # noqa: N802
        """What `isinstance` takes for what it saved."""
        return (self.kept, self.ours.Saved)

    def forward(self, *inputs: Any, **settings: Any) -> tuple[Any, Any]:
        """Yours, unless more is asked than its exercise did."""
        given = {name: value for name, value in settings.items() if name in self._settings}
        if all(name in given or self._is_usual(name, settings) for name in settings):
            y, saved = self.written.forward(*inputs, **given)
            return y, self.kept(saved, inputs)
        return self.ours.forward(*inputs, **settings)

    def backward(self, dy: Any, saved: Any) -> tuple[Any, ...]:
        """By whom it was computed."""
        written = self.written.backward if isinstance(saved, Kept) else self.ours.backward
        return tuple(written(dy, saved.saved if isinstance(saved, Kept) else saved))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ours, name)

    def _is_usual(self, name: str, settings: Mapping[str, Any]) -> bool:
        """Whether a setting changes nothing: it is the default, or draws for no dropout."""
        value, usual = settings[name], self._usual[name].default
        if name == "rng":
            return value is None or not settings.get("dropout", settings.get("rate"))
        return value is usual or (isinstance(value, int | float | str) and value == usual)


def _judged(name: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> Verdict:
    """Is it the op: the same results, and gradients that pass the proof?"""
    ours, part = formulas.ALL[name], PARTS[name]
    for case in part.cases(np.random.default_rng(0)):

        def result(*inputs: Any) -> Any:
            found = forward(*inputs)
            return found if exercise.is_unsolved(found) else found[0]

        result.__name__ = forward.__name__
        same = exercise.function(result, lambda *inputs: ours.forward(*inputs)[0], tuple(case.values()))
        if not same:
            return same
        sums = None if part.terms is None else part.terms(**case)
        verdict = exercise.gradient(forward, backward, terms=sums, **case)
        if not verdict:
            return verdict
    return verdict


def _source(function: Callable[..., Any]) -> str:
    return textwrap.dedent(inspect.getsource(function)).rstrip()


def _loaded(name: str, path: Path) -> Yours:
    return Yours(name, _module(f"handgrad mine {name}", path))


def _rewired(module: ModuleType, **parts: Any) -> ModuleType:
    """A copy of an op's module that calls other parts."""
    assert module.__file__ is not None
    copy = _module(f"{module.__name__} rewired", Path(module.__file__))
    for name, part in parts.items():
        setattr(copy, name, part)
    return copy


def _activation(parts: Mapping[str, Any]) -> ModuleType:
    named = {name: parts[name] for name in formulas.activation.ACTIVATIONS}
    chosen = {}
    for op in named.values():
        for saved in op.Saved if isinstance(op.Saved, tuple) else (op.Saved,):
            chosen[saved] = op
    return _rewired(formulas.activation, ACTIVATIONS=named, CHOSEN=chosen)


def _module(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"{path} cannot be read: {said}. mine.forget() it.") from error
    return module
