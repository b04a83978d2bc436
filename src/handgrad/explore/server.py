"""The explorer as a server on this machine, until a signal ends it."""

import socket

import uvicorn

from handgrad.engines import allocator
from handgrad.explore import app
from handgrad.explore.explorer import Explorer
from handgrad.serve.guard import Rules

RULES = Rules(most_bytes=1 << 20)
STOP_SECONDS = 2


def serve(explorer: Explorer, listening: socket.socket) -> None:
    """Answer the page's requests until a signal comes."""
    allocator.keep_freed()
    allocator.share_freed()
    server(explorer).run(sockets=[listening])


def server(explorer: Explorer) -> uvicorn.Server:
    """One that is not running yet."""
    config = uvicorn.Config(
        app.create(explorer, RULES),
        log_level="warning",
        timeout_graceful_shutdown=STOP_SECONDS,
        limit_concurrency=100,
        server_header=False,
    )
    return uvicorn.Server(config)
