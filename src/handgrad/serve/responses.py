"""An answer as one JSON object, or as server-sent events while it is written.

Format of events: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from handgrad.generation.writer import Piece
from handgrad.serve.answer import Answer
from handgrad.serve.errors import ApiError
from handgrad.serve.forms import Envelope, Json, Shown, choice, usage

T = TypeVar("T")

LEFT = 499
"""The status, which nobody sees, of an answer for which nobody waits any more."""
NOT_KEPT = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
"""Neither a browser nor a proxy holds events back."""


class Wanted(NamedTuple):
    """How an answer is to look."""

    envelope: Envelope
    shown: Shown
    log_probabilities: bool
    usage: bool
    """Whether events end with the number of tokens."""


async def whole(wanted: Wanted, answer: Answer, request: Request) -> Response:
    """The answer in one object, when it is over; its texts end when the client leaves before."""
    collected = await _unless_left(request, _collected(answer))
    if collected is None:
        return Response(status_code=LEFT)
    form = wanted.envelope.form
    choices = []
    for number, pieces in enumerate(collected):
        content = form.choice("".join(piece.text for piece in pieces))
        choices.append(choice(number, content, pieces[-1].finished, _log(wanted, pieces)))
    return JSONResponse(wanted.envelope.whole(choices, _usage(answer, sum(map(len, collected)))))


def events(wanted: Wanted, answer: Answer) -> StreamingResponse:
    """The answer piece by piece; its texts end when the client leaves."""
    return Events(answer, _events(wanted, answer), media_type="text/event-stream", headers=NOT_KEPT)


class Events(StreamingResponse):
    """Server-sent events; the texts end with it, also where the client left before the first one."""

    def __init__(self, answer: Answer, content: AsyncIterator[str], **settings: Any):
        super().__init__(content, **settings)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.leave()


async def _collected(answer: Answer) -> list[list[Piece]]:
    texts: list[list[Piece]] = [[] for _ in answer.jobs]
    async with aclosing(answer.pieces()) as pieces:
        async for number, piece in pieces:
            texts[number].append(piece)
    return texts


async def _events(wanted: Wanted, answer: Answer) -> AsyncIterator[str]:
    envelope, form, n_written = wanted.envelope, wanted.envelope.form, 0
    try:
        async with aclosing(answer.pieces()) as pieces:
            if form.start is not None:
                for number in range(len(answer.jobs)):
                    yield _event(envelope.piece([choice(number, form.start, None, None)]))
            async for number, piece in pieces:
                n_written += 1
                if piece.text or piece.finished or wanted.log_probabilities:
                    part = choice(number, form.delta(piece.text), piece.finished, _log(wanted, [piece]))
                    yield _event(envelope.piece([part]))
        if wanted.usage:
            yield _event(envelope.piece([], _usage(answer, n_written)))
        yield "data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.body)


def _event(data: Json) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _log(wanted: Wanted, pieces: list[Piece]) -> Json | None:
    return wanted.envelope.form.log_probabilities(pieces, wanted.shown) if wanted.log_probabilities else None


def _usage(answer: Answer, n_written: int) -> Json:
    read = {
        id(job.token_ids): job for job in answer.jobs
    }.values()  # a prompt counts once, however many answers
    return usage(sum(len(job.token_ids) for job in read), sum(job.n_cached for job in read), n_written)


async def _unless_left(request: Request, work: Coroutine[None, None, T]) -> T | None:
    """What `work` returns; None where the client leaves before, and `work` is cancelled."""
    working, leaving = (asyncio.ensure_future(work), asyncio.ensure_future(_left(request)))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
