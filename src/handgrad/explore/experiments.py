"""Work that takes many runs of a model: its answer tells how far it is, and it ends when nobody listens."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from handgrad.errors import UserError
from handgrad.trace.runs import Report

SOON = 0.25
"""Seconds after which an answer begins to tell,"""
PAUSE = 0.25
"""and between two lines of it."""
LINES = "application/x-ndjson"


class _LeftError(Exception):
    """Nobody listens any more."""


class _Listener:
    """What stands between the thread that computes and the answer."""

    def __init__(self) -> None:
        self.share = 0.0
        self._left = threading.Event()

    def report(self, share: float) -> None:
        """Called by the thread; raises where it may end."""
        self.share = share
        if self._left.is_set():
            raise _LeftError

    def leave(self) -> None:
        self._left.set()


async def answer(work: Callable[[Report], Any]) -> Response:
    """What `work` computes: as JSON or, where it takes longer, as lines of JSON.

    All but the last are {"share": ...}, how much is done. The last one is the answer, or {"error": ...}.
    """
    listener = _Listener()
    task = asyncio.create_task(run_in_threadpool(work, listener.report))
    done, _ = await asyncio.wait({task}, timeout=SOON)
    if done:
        return JSONResponse(task.result())
    return StreamingResponse(_lines(task, listener), media_type=LINES)


async def _lines(task: asyncio.Task[Any], listener: _Listener) -> AsyncIterator[str]:
    try:
        while not task.done():
            yield json.dumps({"share": listener.share}) + "\n"
            await asyncio.wait({task}, timeout=PAUSE)
        yield json.dumps(_result(task)) + "\n"
    finally:
        listener.leave()
        task.add_done_callback(_seen)


def _result(task: asyncio.Task[Any]) -> Any:
    try:
        return task.result()
    except UserError as error:
        return {"error": {"message": str(error)}}


def _seen(task: asyncio.Task[Any]) -> None:
    """An error of a task that nobody waits for is no news."""
    if not task.cancelled():
        task.exception()
