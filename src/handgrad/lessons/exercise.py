"""Exercises that judge themselves: an answer is right, wrong with the place where it fails, or not there yet.

    exercise.value(answer, lambda: 3 * 7)
    exercise.function(my_softmax, softmax, x, -x)
    exercise.gradient(forward, backward, x=x, weight=weight)
    exercise.backward(my_backward, ops.sigmoid)
    exercise.claim(learning_rate, lambda rate: descend(rate).outcome == "diverged", "the walk diverges")

A judge knows no solution as text: it computes, measures, or checks gradients. A judge returns a verdict,
which the cell shows, and never raises: a notebook runs to its end with its exercises unsolved. An unsolved
answer is `...`. Of a function that is right it says how long it takes. `%again` in an answer's cell brings
back what stood there at first.
"""

import html
import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np

from handgrad import gradcheck, tree
from handgrad.lessons import again, slips

State = Literal["right", "wrong", "unsolved"]
SIGNS = {"right": "✓", "wrong": "✗", "unsolved": "…"}
COLOURS = {"right": "#009E73", "wrong": "#D55E00", "unsolved": "#888888"}


class Verdict(NamedTuple):
    """What a judge found; true only if the answer is right."""

    state: State
    message: str

    def __bool__(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        return f"{SIGNS[self.state]} {self.message}"

    def _repr_html_(self) -> str:
        style = f"border-left: 4px solid {COLOURS[self.state]}; padding: 0.4em 0.8em"
        return f'<div style="{style}">{html.escape(repr(self))}</div>'


def value(answer: Any, expected: Callable[[], Any], *, tolerance: float = 1e-6) -> Verdict:
    """Is `answer` what `expected()` computes? Numbers, arrays, texts, and tuples or lists of these."""

    def judge() -> str | None:
        return _difference(answer, expected(), tolerance)

    return _judged(answer, judge)


def function(
    answer: Callable[..., Any], expected: Callable[..., Any], *inputs: Any, tolerance: float = 1e-6
) -> Verdict:
    """Does `answer` return what `expected` returns, on each of `inputs`? A tuple is several arguments."""

    clocked = Clocked(answer)

    def judge() -> Any:
        for arguments in (item if isinstance(item, tuple) else (item,) for item in inputs):
            result = clocked(*arguments)
            if is_unsolved(result):
                return result
            difference = _difference(result, expected(*arguments), tolerance)
            if difference:
                return f"for the input {', '.join(_shown(a) for a in arguments)}, {difference}"
        return None

    return _judged(answer, judge, clocked)


def gradient(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    *,
    seed: int = 0,
    terms: slips.Terms | None = None,
    without: slips.Without | None = None,
    **inputs: Any,
) -> Verdict:
    """Is `backward` the gradient of `forward` on `inputs`, by the proof that `handgrad check` runs?

    Both follow the protocol of `handgrad.ops`: y, saved = forward(*inputs); gradients = backward(dy, saved).
    `terms` are what the gradient of an input is the sum of: a verdict then says which of them is wrong.
    `without` says what it would be without a step of its derivation: a verdict then says which is forgotten.
    """

    clocked = Clocked(backward)

    def judge() -> Any:
        output = forward(**inputs)
        if is_unsolved(output):
            return ...
        y, saved = output
        dy = np.ones_like(y)
        if is_unsolved(clocked(dy, saved)):
            return ...
        op = SimpleNamespace(forward=forward, backward=backward)
        proofs = gradcheck.check(op, inputs, np.random.default_rng(seed))
        for proof in proofs:
            if not proof.passed:
                why = slips.explain(forward, backward, inputs, terms, without, seed)
                return (
                    f"the gradient of {proof.input} fails the proof: along a random direction the output "
                    f"moves by {proof.measured:.10g}, and your backward says {proof.derived:.10g}"
                    + (f"; {why}" if why else "")
                )
        return None

    return _judged(backward, judge, clocked)


def backward(
    answer: Callable[..., Any], op: ModuleType, *, seed: int = 0, terms: slips.Terms | None = None
) -> Verdict:
    """Is `answer` a backward of `op`, by the proof on every case of the op?"""
    verdict = Verdict("right", _praise(answer))
    for inputs in op.cases(np.random.default_rng(seed)):
        verdict = gradient(op.forward, answer, seed=seed, terms=terms, **inputs)
        if not verdict:
            break
    return verdict


def claim(answer: Any, holds: Callable[[Any], Any], claim: str) -> Verdict:
    """Is `holds(answer)` true? For questions with many right answers; `claim` says what was asked for."""

    def judge() -> Any:
        held = holds(answer)
        if is_unsolved(held):
            return held
        return None if held else f"not with {_shown(answer)}: {claim} was asked for"

    return _judged(answer, judge)


class Clocked:
    """A function that counts the seconds of its fastest call."""

    def __init__(self, function: Callable[..., Any]):
        self.function, self.seconds = function, float("inf")

    def __call__(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        result = self.function(*arguments)
        self.seconds = min(self.seconds, time.perf_counter() - started)
        return result

    def __str__(self) -> str:
        if self.seconds < 1e-6:
            return "less than 1 µs"
        for unit, per_second in (("µs", 1e6), ("ms", 1e3)):
            if self.seconds * per_second < 999.5:
                return f"{self.seconds * per_second:.0f} {unit}"
        return f"{self.seconds:.1f} s"


def _judged(answer: Any, judge: Callable[[], Any], clocked: Clocked | None = None) -> Verdict:
    name = getattr(answer, "__name__", "your answer")
    if is_unsolved(answer):
        return Verdict("unsolved", "Not solved yet: put your answer in the place of the three dots.")
    try:
        complaint = judge()
    except NotImplementedError:
        complaint = ...
    except Exception as error:  # the learner's code: whatever it raises is the verdict
        return Verdict("wrong", f"{name} stops with {type(error).__name__}: {error}")
    if is_unsolved(complaint):
        return Verdict("unsolved", f"Not solved yet: put your code in the place of the dots in {name}.")
    if complaint:
        return Verdict("wrong", f"Not yet: {complaint}.")
    return Verdict("right", _praise(answer, clocked))


def _praise(answer: Any, clocked: Clocked | None = None) -> str:
    name = getattr(answer, "__name__", None)
    if not name or name == "<lambda>":
        return "Right."
    return f"Right: {name} passes{f', in {clocked}' if clocked else ''}."


def is_unsolved(answer: Any) -> bool:
    """Whether there are still dots in it."""
    return answer is ... or (isinstance(answer, tuple | list) and any(map(is_unsolved, answer)))


def _difference(answer: Any, expected: Any, tolerance: float) -> Any:
    """What is wrong about `answer`, or None."""
    if isinstance(expected, str | bool | None):
        return None if answer == expected else f"{_shown(answer)} is not it"
    if isinstance(expected, tuple | list):
        if not isinstance(answer, tuple | list | np.ndarray) or len(answer) != len(expected):
            return f"{len(expected)} values were expected; yours is {_shown(answer)}"
        parts = (_difference(a, e, tolerance) for a, e in zip(answer, expected, strict=True))
        return next((f"in place {i}, {part}" for i, part in enumerate(parts) if part), None)
    a, e = np.asarray(answer, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    if a.shape != e.shape:
        return f"the shape should be {e.shape}; yours is {a.shape}"
    largest = np.max(np.abs(e), initial=0.0, where=np.isfinite(e))
    close = np.isclose(a, e, rtol=tolerance, atol=tolerance * max(1e-9, largest), equal_nan=True)
    if np.all(close):
        return None
    place = tuple(map(int, np.argwhere(~close)[0]))
    where = f" at {list(place)}" if place else ""
    return f"{_shown(a[place])}{where} is not right"


def _shown(x: Any) -> str:
    """A value, short enough for a sentence."""
    if tree.is_array(x) and np.size(x) > 6:
        return f"an array {np.shape(x)}"
    if tree.is_array(x) or isinstance(x, float):
        return np.array2string(np.asarray(x), precision=6, separator=", ").replace("\n", "")
    text = repr(x)
    return text if len(text) <= 60 else text[:57] + "..."


again.register()
