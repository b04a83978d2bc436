"""How what was written is shown: as it comes, and as JSON."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import typer
from rich.console import Console

from handgrad.cli.word_wrap import WordWrap
from handgrad.formats.model_folder import Model
from handgrad.generation.batch import Completion
from handgrad.generation.request import Request
from handgrad.generation.writer import Piece, Writer


def stream(prompt: str, pieces: Iterator[Piece] | Iterator[str]) -> None:
    """The prompt and what follows, as it comes. Ctrl-C ends it."""
    texts = (piece if isinstance(piece, str) else piece.text for piece in pieces)
    shown = _for_a_terminal(prompt, texts) if sys.stdout.isatty() else chain([prompt], texts)
    try:
        for text in shown:
            sys.stdout.write(text)
            sys.stdout.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    finally:
        sys.stdout.write("\n")


def _for_a_terminal(prompt: str, texts: Iterator[str]) -> Iterator[str]:
    """The prompt faint, and lines that end between words."""
    lines = WordWrap(shutil.get_terminal_size().columns)
    yield f"\x1b[2m{lines.add(prompt)}{lines.rest()}\x1b[0m"
    yield from map(lines.add, texts)
    yield lines.rest()


def tell(writer: Writer, seconds: float) -> None:
    """What is good to know about a text that is over: beside it, in the terminal or the log."""
    notes, console = list(_notes(writer)), Console(stderr=True, highlight=False)
    if console.is_terminal:
        speed = f"{writer.n_written} tokens, {writer.n_written / max(seconds, 1e-9):,.0f} a second"
        notes = [*([_slid(writer)] if writer.n_forgotten else []), *notes, speed]
    for note in notes:
        console.print(note, style="dim", markup=False, soft_wrap=True)


def _notes(writer: Writer) -> Iterator[str]:
    if writer.n_prompt > writer.capacity:
        yield (
            f"The prompt has {writer.n_prompt} tokens, and the model sees {writer.capacity}: "
            + ("nothing was written." if writer.finished == "context" else "it read the prompt's end.")
        )
    elif writer.finished == "context":
        yield f"The text ends here: the model's context of {writer.capacity} tokens is full."
    if writer.request.grammar is not None and writer.finished == "length":
        yield f"The text is not whole: it has {writer.n_written} tokens. Take a larger --max-tokens."


def _slid(writer: Writer) -> str:
    return (
        f"The model's context of {writer.capacity} tokens was full: at the end it did not see the first "
        f"{writer.n_forgotten}. --when-full stop ends a text there."
    )


def row(model: Model, prompt: str, request: Request, done: Completion, seconds: float) -> dict[str, Any]:
    """A completion as JSON."""
    tokens = {"prompt": done.n_prompt, "written": len(done.pieces), "forgotten": done.n_forgotten}
    told: dict[str, Any] = {
        "prompt": prompt,
        "completion": done.text,
        "finished": done.finished,
        "tokens": tokens,
    }
    if request.log_probabilities is not None:
        told["log_probabilities"] = [_with_log_probability(model, piece) for piece in done.pieces]
    return {**told, "seed": request.seed, "seconds": seconds}


def text(model: Model, token_ids: Sequence[int]) -> str:
    """The text of a beam, without the end that ended it."""
    kept = [i for i in token_ids if i not in model.ends]
    return model.tokenizer.decode(kept) if model.tokenizer else ""


def _with_log_probability(model: Model, piece: Piece) -> dict[str, Any]:
    return {
        **_token(model, piece.token_id, piece.log_probability),
        "alternatives": [_token(model, *each) for each in piece.alternatives],
    }


def _token(model: Model, token_id: int, log_probability: float | None) -> dict[str, Any]:
    known = model.tokenizer is not None and token_id < model.tokenizer.vocab_size
    shown = model.tokenizer.decode([token_id]) if known and model.tokenizer else None
    return {"token": shown, "id": token_id, "log_probability": log_probability}
