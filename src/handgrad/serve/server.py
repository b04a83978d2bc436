"""Serving: a model is made ready, the scheduler gets a thread, uvicorn a port, until a signal ends it."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
import uvicorn

from handgrad import engines
from handgrad.engines import fits
from handgrad.errors import UserError, require_whole
from handgrad.formats import sources
from handgrad.formats.model_folder import Model
from handgrad.generation.writer import require_tokenizer
from handgrad.serve import app
from handgrad.serve.guard import Rules
from handgrad.serve.scheduler import Scheduler
from handgrad.serve.service import Service

EVERYWHERE = "0.0.0.0", "::"
"""No addresses to go to: from here, such a server is reached as localhost."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a model is served. Raises `UserError` for what cannot be."""

    slots: int = 4
    """Texts that are written at once."""
    context: int | None = None
    """Tokens that a text may have, by default as many as the model's context."""
    waiting: int = 64
    """Texts that may wait for a slot."""
    seconds: float = 300.0
    """The most that an answer may take."""
    stop_seconds: float = 10.0
    """What answers in progress get when the server is stopped."""
    engine: str = "cpu"
    precision: str = "auto"
    cache: str = "auto"
    """What keys and values are kept in."""

    def __post_init__(self) -> None:
        for name, least in (("slots", 1), ("waiting", 0)):
            require_whole(name, getattr(self, name), least=least)
        if self.context is not None:
            require_whole("context", self.context, least=1)
        for name in ("seconds", "stop_seconds"):
            if not 0 < getattr(self, name) < 1e9:
                raise UserError(f"{name} must be above 0; got {getattr(self, name)}. Try 60.")


def cache_bytes(model: Model, options: Options, capacity: int) -> int:
    """The memory that keys and values of all texts take, at most."""
    return engines.get(options.engine).cache_bytes(
        model.config,
        model.weights,
        n_texts=options.slots,
        capacity=capacity,
        precision=options.precision,
        cache=options.cache,
        blocks=model.blocks,
    )


def service(
    model: Model, name: str, options: Options, compiling: Callable[[str], object] = lambda kernel: None
) -> Service:
    """The model, ready to write: what it needs is allocated, and its kernels are compiled."""
    tokenizer = require_tokenizer(model)
    capacity = options.context or model.config.context_length
    fits.require(
        cache_bytes(model, options, capacity),
        f"Room for {options.slots} texts of {capacity:,} tokens",
        "Take fewer --slots, or a smaller --context.",
    )
    decoding = engines.get(options.engine).decoding(
        model.config,
        model.weights,
        n_texts=options.slots,
        capacity=capacity,
        precision=options.precision,
        cache=options.cache,
        blocks=model.blocks,
        compiling=compiling,
    )
    with np.errstate(all="ignore"):
        decoding.read([np.zeros(1, np.int64)])  # what is compiled at the first call is compiled now
    decoding.cut(0, 0)
    return Service(
        name=name,
        model=model,
        tokenizer=tokenizer,
        scheduler=Scheduler(decoding, most_waiting=options.waiting),
        capacity=capacity,
        seconds=options.seconds,
    )


@contextlib.contextmanager
def writing(scheduler: Scheduler) -> Iterator[None]:
    """The scheduler's thread, as long as the block runs."""
    thread = threading.Thread(target=scheduler.run, name="handgrad-engine")
    thread.start()
    try:
        yield
    finally:
        scheduler.close()
        thread.join()


class Server(uvicorn.Server):
    """Uvicorn, which tells the scheduler that the end is near as soon as a signal comes."""

    def __init__(self, config: uvicorn.Config, scheduler: Scheduler, stop_seconds: float):
        super().__init__(config)
        self._scheduler, self._stop_seconds = scheduler, stop_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal lets answers end, the second one does not."""
        self.should_exit, self.force_exit = True, self.should_exit
        # in a thread: the signal may have interrupted whoever holds the scheduler's lock
        threading.Thread(target=self._end).start()

    def _end(self) -> None:
        if not self.force_exit:
            seconds = f"{self._stop_seconds:g} seconds"
            print(
                f"Stopping: what is being written has {seconds}. Ctrl-C again ends at once.", file=sys.stderr
            )
        self._scheduler.close(self._stop_seconds)


def serve(service: Service, listening: socket.socket, rules: Rules, stop_seconds: float) -> None:
    """Answer requests until a signal comes; what is being written then has `stop_seconds` to end."""
    config = uvicorn.Config(
        app.create(service, rules),
        log_level="warning",
        timeout_graceful_shutdown=int(stop_seconds) + 5,
        timeout_keep_alive=30,
        limit_concurrency=1000,
        server_header=False,
    )
    with writing(service.scheduler):
        Server(config, service.scheduler, stop_seconds).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket on which a server answers; `UserError` where there cannot be one."""
    if not 0 <= port < 1 << 16:
        raise UserError(f"A port is a number from 0 to 65535; got {port}. Try 8000, or 0 for a free one.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as closed:
            listening = closed.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            closed.pop_all()
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"The server cannot listen on {host}, port {port}: {getattr(error, 'strerror', None) or error}. "
            f"Take another --port, or --port 0 for a free one."
        ) from error
    return listening


def is_open(host: str) -> bool:
    """Whether other machines can reach a server that listens on `host`."""
    return not (host == "localhost" or host.startswith("127.") or host == "::1")


def name_of(source: str) -> str:
    """A model's name, as clients say it: its public name, or that of its folder or file."""
    path = Path(source).resolve()
    return source if sources.is_public_name(source) else path.stem if path.is_file() else path.name


def about(service: Service, options: Options, listening: socket.socket, rules: Rules) -> Iterator[str]:
    """What is good to know before the first request: where, how much, and for whom."""
    host, port = listening.getsockname()[:2]
    shown = "localhost" if not is_open(host) or host in EVERYWHERE else f"[{host}]" if ":" in host else host
    megabytes = cache_bytes(service.model, options, service.capacity) / 1e6
    url = f"http://{shown}:{port}"
    yield f"A page to chat with {service.name}: {url}"
    yield f"OpenAI's interface: {url}/v1"
    yield f"{options.slots} texts at once, {service.capacity:,} tokens each; {options.waiting} more may wait."
    yield f"Keys and values take up to {megabytes:,.1f} MB. Ctrl-C stops."
    if is_open(host):
        key = "whoever has the API key" if rules.api_key else "everybody: there is no API key"
        yield f"Open to other machines, and answers {key}."
        yield "The connection is not encrypted."
