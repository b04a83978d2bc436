"""Which part of a wrong gradient is wrong, in words.

The gradient is measured, number by number, and what was answered is compared to it: does it have the wrong
sign, a factor, its axes exchanged? Where an exercise names the terms of a gradient, each is looked at, and so
is each step of the derivation that it names.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

Terms = Mapping[str, Mapping[str, Callable[..., Any]]]
"""For an input, the terms that its gradient is the sum of, by name: functions of dy and saved."""
Without = Mapping[str, Mapping[str, Callable[..., Any]]]
"""For an input, what its gradient would be without a step of its derivation, by the step's name: likewise."""
MOST = 400
"""Numbers of an input that is measured one by one."""
STEP = 6e-6


def explain(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Any],
    terms: Terms | None = None,
    without: Without | None = None,
    seed: int = 0,
) -> str | None:
    """What is wrong with the first wrong gradient of `backward`; None where nothing can be said."""
    y, saved = forward(**inputs)
    dy = np.random.default_rng(seed).normal(size=np.shape(y))
    for name, found in zip(_names(forward, inputs), backward(dy, saved), strict=False):
        if found is None or np.size(inputs[name]) > MOST:
            continue
        whole = _measured(forward, inputs, name, dy)
        parts = {what: np.asarray(f(dy, saved)) for what, f in (terms or {}).get(name, {}).items()}
        fewer = {what: np.asarray(f(dy, saved)) for what, f in (without or {}).get(name, {}).items()}
        said = compared(np.asarray(found, np.float64), whole, parts, fewer)
        if said:
            return f"in the gradient of {name}, {said}"
    return None


def compared(
    found: np.ndarray,
    whole: np.ndarray,
    terms: Mapping[str, np.ndarray],
    without: Mapping[str, np.ndarray] | None = None,
) -> str | None:
    """How `found` differs from `whole`, the sum of `terms`; None where it does not, or nobody knows how.

    `without` is what would be found were a step forgotten, by the step's name.
    """
    if found.shape != whole.shape:
        return f"the shape is {found.shape}, and should be {whole.shape}"
    if _close(found, whole, whole):
        return None
    forgotten = (name for name, array in (without or {}).items() if _close(found, array, whole))
    if name := next(forgotten, None):
        return f"{name} is forgotten"
    by_terms = _coefficients(found, whole, terms) if 0 < len(terms) < whole.size else None
    looked_at = {f"the term {name}": term for name, term in terms.items()} if len(terms) > 1 else {}
    alone = (name for name, term in terms.items() if _close(found, term, whole))
    if not by_terms and (name := next(alone, None)):
        return f"the term {name} is there alone"
    return (
        by_terms
        or next(_changes(found, whole, {"all of it": whole, **looked_at}), None)
        or next(_additions(found, whole, terms), None)
        or next(_places(found, whole), None)
    )


def _coefficients(found: np.ndarray, whole: np.ndarray, terms: Mapping[str, np.ndarray]) -> str | None:
    """Where it is a sum of the same terms, each with a factor: those whose factor is not 1."""
    columns = np.stack([np.broadcast_to(term, whole.shape).ravel() for term in terms.values()], axis=1)
    factors, *_ = np.linalg.lstsq(columns, found.ravel())
    if not _close((columns @ factors).reshape(whole.shape), found, whole):
        return None
    if len(terms) > 1 and np.ptp(factors) < 1e-3:
        return f"all of it {_times(float(factors[0]))}"
    wrong = [
        f"the term {name} {_times(k)}" for name, k in zip(terms, factors, strict=True) if abs(k - 1) > 1e-3
    ]
    return ", and ".join(wrong) or None


def _changes(found: np.ndarray, whole: np.ndarray, parts: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What may have been done to one part, while the others are right."""
    for name, part in parts.items():
        instead = found - (whole - part)
        size = np.vdot(part, part)
        k = float(np.vdot(part, instead) / size) if size else 1.0
        if _close(instead, k * part, whole):
            yield f"{name} {_times(k)}"
        elif part.ndim == 2 and part.shape[0] == part.shape[1] and _close(instead, part.T, whole):
            yield f"{name} is transposed"
        elif (axis := _axis_of_a_factor(instead, part, whole)) is not None:
            yield f"{name} is multiplied by something else at each place of axis {axis}"


def _additions(found: np.ndarray, whole: np.ndarray, terms: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What may be there besides: the mean of a term along an axis."""
    for name, term in {"the whole": whole, **{f"the term {it}": term for it, term in terms.items()}}.items():
        for axis in range(term.ndim):
            mean = term.mean(axis=axis, keepdims=True)
            for k, words in ((-1.0, "taken away from it"), (1.0, "added to it")):
                if term.shape[axis] > 1 and _close(found, whole + k * mean, whole):
                    yield f"the mean of {name} over axis {axis} is {words}, and should not be"


def _places(found: np.ndarray, whole: np.ndarray) -> Iterator[str]:
    """Where right numbers, or a few wrong ones, may stand."""
    if _close(np.sort(found, axis=None), np.sort(whole, axis=None), whole):
        yield "the numbers are right, and stand in the wrong places: look at the order of the axes"
    wrong = np.argwhere(~np.isclose(found, whole, rtol=1e-4, atol=_slack(whole)))
    if 0 < len(wrong) <= found.size / 2:
        yield f"only some places are wrong, the first of them {[int(i) for i in wrong[0]]}"


def _axis_of_a_factor(instead: np.ndarray, part: np.ndarray, whole: np.ndarray) -> int | None:
    """The axis along which `instead` is `part` times a number of its own at each place, if there is one."""
    for axis in range(part.ndim):
        others = tuple(i for i in range(part.ndim) if i != axis)
        sizes = np.sum(part * part, axis=others, keepdims=True)
        factors = np.sum(part * instead, axis=others, keepdims=True) / np.where(sizes == 0, 1, sizes)
        if part.shape[axis] > 1 and part.ndim > 1 and _close(instead, factors * part, whole):
            return axis
    return None


def _times(k: float) -> str:
    if abs(k) < 1e-3:
        return "is missing"
    if abs(k + 1) < 1e-3:
        return "has the wrong sign"
    return f"counts {k:.4g} times"


def _close(a: np.ndarray, b: np.ndarray, whole: np.ndarray) -> bool:
    return bool(np.allclose(a, b, rtol=1e-4, atol=_slack(whole)))


def _slack(whole: np.ndarray) -> float:
    return 1e-6 * float(np.max(np.abs(whole), initial=1e-9))


def _names(forward: Callable[..., Any], inputs: Mapping[str, Any]) -> list[str]:
    """The arrays of numbers that have gradients, in their order."""
    parameters = inspect.signature(forward).parameters.values()
    return [
        p.name
        for p in parameters
        if p.kind is not p.KEYWORD_ONLY
        and isinstance(inputs.get(p.name), np.ndarray)
        and np.issubdtype(inputs[p.name].dtype, np.floating)
    ]


def _measured(
    forward: Callable[..., Any], inputs: Mapping[str, Any], name: str, dy: np.ndarray
) -> np.ndarray:
    """The gradient of the sum of dy y, by central differences."""
    x = inputs[name]
    whole = np.empty(x.shape)
    for place in np.ndindex(x.shape):
        ends = []
        for side in (STEP, -STEP):
            moved = x.copy()
            moved[place] += side
            ends.append(np.sum(dy * forward(**{**inputs, name: moved})[0]))
        whole[place] = (ends[0] - ends[1]) / (2 * STEP)
    return whole
