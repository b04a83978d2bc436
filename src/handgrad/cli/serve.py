"""handgrad serve: a model answers over HTTP, as OpenAI's interface has it, and on a page to chat on."""

import sys
from typing import Annotated

import typer

from handgrad.cli.busy import busy
from handgrad.errors import UserError
from handgrad.formats import sources

INSTALL = 'Serving takes FastAPI and uvicorn. Install them: pip install "handgrad[serve]".'


def serve(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, or any model that handgrad reads.")],
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0: all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0: a free one.")] = 8000,
    name: Annotated[
        str | None,
        typer.Option(help="What clients call the model; by default the name of its file or folder."),
    ] = None,
    slots: Annotated[
        int, typer.Option(help="Texts that are written at once; each has memory of its own.")
    ] = 4,
    context: Annotated[
        int | None, typer.Option(help="Tokens a text may have; by default the model's.")
    ] = None,
    waiting: Annotated[
        int, typer.Option(help="Texts that may wait for a slot; further clients get status 429.")
    ] = 64,
    seconds: Annotated[float, typer.Option(help="Time that an answer may take.")] = 300.0,
    stop_seconds: Annotated[
        float, typer.Option(help="Time that answers get to end in when the server is stopped.")
    ] = 10.0,
    api_key: Annotated[
        str | None, typer.Option(envvar="HANDGRAD_API_KEY", help="Ask clients for this key.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A name under which the server is reached. May be repeated."),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="cpu: fast kernels; xla: JAX; reference: the formulas themselves.")
    ] = "cpu",
    precision: Annotated[
        str, typer.Option(help="auto, float32, bfloat16; with cpu also int8, and blocks: as a GGUF has them.")
    ] = "auto",
    cache: Annotated[
        str,
        typer.Option(help="auto, float32, bfloat16; with cpu also int8: what keys and values are kept in."),
    ] = "auto",
) -> None:
    """Serve a model over HTTP: OpenAI's interface, and a page to chat on.

    Example: handgrad serve runs/quick-1 --port 8080
    """
    try:
        from handgrad.serve import server
        from handgrad.serve.guard import Rules
    except ModuleNotFoundError as error:
        raise UserError(INSTALL) from error
    options = server.Options(
        slots=slots, context=context, waiting=waiting, seconds=seconds, stop_seconds=stop_seconds,
        engine=engine, precision=precision, cache=cache,
    )  # fmt: skip
    rules = Rules(hosts=frozenset(map(str.lower, allow_host or ())), api_key=api_key)
    with server.listen(host, port) as listening:
        with busy("loading the model") as compiling:
            loaded = sources.load(model)
            service = server.service(
                loaded,
                name or server.name_of(model),
                options,
                compiling,
            )
        listening.listen()  # who comes from here on waits for a moment at most
        for line in server.about(service, options, listening, rules):
            print(line, file=sys.stderr)
        server.serve(service, listening, rules, stop_seconds)
