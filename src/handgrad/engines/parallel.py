"""Several parts of a batch at once, on all cores, with results that do not depend on how many there are.

NumPy computes outside Python's lock, so threads really run side by side. Each has its products to itself: a
BLAS that splits one small product over all cores spends more time synchronizing than multiplying, most of all
on a busy machine.
"""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")


def each(function: Callable[..., Result], *arguments: Sequence[Any]) -> Iterator[Result]:
    """`map(function, *arguments)`, the results in order; no more of them wait than there are cores."""
    with one_blas_thread():
        for first in range(0, len(arguments[0]), n_cores()):
            yield from _pool().map(function, *(a[first : first + n_cores()] for a in arguments))


def together(function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """`map(function, *arguments)`, the results in order, for functions that call no BLAS."""
    if len(arguments[0]) == 1:
        return [function(*(a[0] for a in arguments))]
    return list(_pool().map(function, *arguments))


def one_blas_thread() -> AbstractContextManager[object]:
    """Within, a product takes one thread: splitting small ones over cores takes longer than multiplying."""
    return _blas().limit(limits=1, user_api="blas")


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_cores(), thread_name_prefix="handgrad")


@functools.cache
def n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
