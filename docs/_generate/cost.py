"""Counting what an op computes: an array that keeps account of every NumPy function applied to it."""

import math
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from handgrad import tree


class Cost(NamedTuple):
    multiply_adds: int
    """Inside matrix products."""
    elements: int
    """Results of additions, products, comparisons, choices, and terms of sums."""
    curves: int
    """Exponentials, roots, and other functions that take many instructions."""


CURVES = {"exp", "log", "sqrt", "tanh", "sin", "cos", "power", "log1p", "expm1"}


class _Account:
    def __init__(self) -> None:
        self.counts = [0, 0, 0]

    def book(self, ufunc: Any, method: str, inputs: tuple[Any, ...], result: Any) -> None:
        if ufunc is np.matmul:
            self.counts[0] += math.prod(np.shape(result)) * np.shape(inputs[0])[-1]
        else:
            size = np.size(inputs[0]) if method == "reduce" else np.size(result)
            self.counts[2 if ufunc.__name__ in CURVES else 1] += size


class _Counted(np.ndarray):
    """An array whose account is a class attribute, set while counting."""

    account = _Account()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        plain = [np.asarray(x) if isinstance(x, _Counted) else x for x in inputs]
        if out is not None:
            kwargs["out"] = tuple(np.asarray(x) for x in out)
        if isinstance(kwargs.get("where"), _Counted):
            kwargs["where"] = np.asarray(kwargs["where"])
        result = getattr(ufunc, method)(*plain, **kwargs)
        _Counted.account.book(ufunc, method, tuple(plain), result)
        return np.asarray(result).view(_Counted)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Sums and the like arrive at `__array_ufunc__`; choices are counted here; the rest moves numbers."""
        result = super().__array_function__(func, types, args, kwargs)
        if func is np.where:
            _Counted.account.counts[1] += np.size(result)
        return result.view(_Counted) if isinstance(result, np.ndarray) else result


def cost(op: ModuleType, case: dict[str, Any]) -> tuple[Cost, Cost]:
    """The arithmetic of the op's forward and of its backward on one of its cases."""
    inputs = {
        name: tree.map(lambda leaf: np.array(leaf).view(_Counted), value) for name, value in case.items()
    }
    _Counted.account = _Account()
    y, saved = op.forward(**inputs)
    forward = Cost(*_Counted.account.counts)
    _Counted.account = _Account()
    op.backward(np.ones(np.shape(y)).view(_Counted), saved)
    return forward, Cost(*_Counted.account.counts)
