"""A server on a port of its own, in a thread of this process."""

import contextlib
import threading

import uvicorn

from handgrad.serve import app, server
from handgrad.serve.guard import Rules


@contextlib.contextmanager
def running(service, rules=Rules()):  # noqa: B008 (frozen)
    """The address of a server that answers while the block runs."""
    listening = server.listen("127.0.0.1", 0)
    config = uvicorn.Config(app.create(service, rules), log_level="warning", timeout_graceful_shutdown=2)
    serving = server.Server(config, service.scheduler, 1.0)
    thread = threading.Thread(target=serving.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        serving.should_exit = True
        thread.join()
