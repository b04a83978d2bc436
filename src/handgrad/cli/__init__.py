"""The command line: each command parses, calls one function of the library, and renders what comes back."""

import io
import os
import sys
from typing import Annotated

import typer

import handgrad
from handgrad.cli import (
    bench,
    chat,
    check,
    explore,
    export,
    generate,
    import_model,
    info,
    lessons,
    plot,
    serve,
    sweep,
    train,
    verify,
)
from handgrad.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
app.command()(train.train)
app.command()(sweep.sweep)
app.command()(generate.generate)
app.command()(chat.chat)
app.command()(serve.serve)
app.command()(explore.explore)
app.command()(info.info)
app.command()(plot.plot)
app.command("import")(import_model.import_model)
app.command()(export.export)
app.command()(check.check)
app.command()(verify.verify)
app.command()(bench.bench)
app.command()(lessons.lessons)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"handgrad {handgrad.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """A generative transformer whose every gradient is derived by hand, and proved.

    Train one on your text, let it write, and check its mathematics (what is proved: handgrad check --help).
    """


def main() -> None:
    """Run the command line; what a user can mend is said in one sentence, with exit code 2."""
    _prepare_output()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except UserError as error:
        _refuse(str(error))
    except MemoryError:
        _refuse("This machine's memory is used up. Take a smaller model, context or batch.")
    except BrokenPipeError:  # whoever read our output has left
        _forget_output()
        sys.exit(1)
    except OSError as error:
        _forget_output()
        _refuse(f"The operating system refuses: {error.strerror or error}.")


def _refuse(sentence: str) -> None:
    print(f"handgrad: {' '.join(sentence.splitlines())}", file=sys.stderr)
    sys.exit(2)


def _forget_output() -> None:
    """What is still to be written is thrown away: Python would try once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _prepare_output() -> None:
    """Characters that the output cannot take are written as "?"; a closed output takes nothing."""
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    sys.stderr = sys.stderr or sys.stdout
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")
