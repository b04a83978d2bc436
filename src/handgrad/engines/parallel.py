"""Several parts of a batch at once, on all cores, with results that do not depend on how many there are.

NumPy computes outside Python's lock, so threads really run side by side. Each has its products to itself: a
BLAS that splits one small product over all cores spends more time synchronizing than multiplying, most of all
on a busy machine.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")
_one_team = threading.Lock()


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


def as_team(function: Callable[[int, int], object], n_workers: int, give_up: Callable[[], object]) -> None:
    """`function(worker, n)` for n workers that wait for each other, the caller among them.

    All of them must run at once: where another team does, or for more workers than cores, n is smaller. What
    a worker raises makes the others `give_up` waiting.
    """
    n = min(n_workers, n_cores())
    if n == 1 or not _one_team.acquire(blocking=False):
        function(0, 1)
        return

    def work(worker: int) -> None:
        try:
            function(worker, n)
        except BaseException:
            give_up()
            raise

    others: list[Future[None]] = []
    try:
        others += [_pool().submit(work, worker) for worker in range(1, n)]
        work(0)
    except BaseException:
        give_up()
        raise
    finally:
        wait(others)
        _one_team.release()
    for other in others:
        other.result()


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
