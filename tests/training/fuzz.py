"""Damaged copies of a run's files, opened as the commands open them: each works or is refused in a sentence.

python -m tests.training.fuzz 3000 [FILE ...]   # so many damaged copies of each file, in one process
"""

import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import handgrad
from handgrad import engines
from handgrad.engines import fits
from handgrad.errors import UserError
from handgrad.formats import atomic
from handgrad.formats.model_folder import BEST, CONFIG, LAST, TOKENIZER
from handgrad.training import curves, events, loop, material, run
from handgrad.training.metrics import METRICS

FILES = (CONFIG, TOKENIZER, BEST, LAST, material.TOKENS, METRICS)
SECONDS = 20
"""A case that takes longer hangs."""
ROOM = 250_000_000
"""The memory that the machine is said to have: what passes is small enough to be tried."""
DRAWN = 10
"""One in so many resumed runs draws its curve, which takes longer than all the rest."""

TEXT = "".join(f"{i} times {j} is {i * j}.\n" for i in range(1, 12) for j in range(1, 12))
TINY: dict[str, Any] = {
    "steps": 4, "batch_size": 2, "eval_every": 2, "eval_batches": 1, "warmup_steps": 0, "context_length": 8,
    "n_layers": 1, "n_heads": 2, "d_model": 8, "dropout": 0.1, "engine": "reference",
}  # fmt: skip

NESTED = "\0nested"
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 3, 7, 255, 10**9, 1 << 31, (1 << 63) - 1, 1 << 63, 10**20, 10**400,
    -(10**400), 0.0, -0.0, 0.5, -1.5, 1e-300, 1e38, 1e39, 1e300, float("nan"), float("inf"), -float("inf"),
    "", "text", "1", "F16", "BF16", "F8_E4M3", "cpu", "bfloat16", "bpe", "bytes", "\ud800", "\0", "é" * 100,
    [], [1], [[]], {}, {"a": 1}, NESTED,
]  # fmt: skip


class HangError(BaseException):
    """A case takes too long; no `except Exception` or `except OSError` of ours may take it for its own."""


class EnoughError(Exception):
    """Resumed long enough."""


def info(folder: Path) -> None:
    about = run.about(folder)
    config = about.config
    with contextlib.suppress(UserError):  # a precision that this machine has not
        engines.get(config.engine).memory(config.model, config.recipe.batch_size, config.precision)
    json.dumps([about.config.to_json(), about.best_validation_loss])


def generate(folder: Path) -> None:
    handgrad.generate(handgrad.load(folder), "3", max_tokens=10)


def resume(folder: Path) -> None:
    """Two steps at most; an evaluation and the curve where the run's end comes before."""
    steps = 0

    def report(event: events.Event) -> None:
        nonlocal steps
        steps += isinstance(event, events.StepDone)
        if steps == 2:
            raise EnoughError

    with contextlib.suppress(EnoughError):
        handgrad.resume(folder, report=report)


READERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    CONFIG: (info, generate, resume),
    TOKENIZER: (generate, resume),
    BEST: (generate,),
    LAST: (info, resume),
    material.TOKENS: (resume,),
    METRICS: (info, resume),
}


class Failure(NamedTuple):
    """A damaged file that was neither opened nor refused."""

    name: str
    seed: int
    reader: str
    error: str


def make_run(folder: Path) -> Path:
    """A tiny run after three of its four steps."""
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")

    def report(event: events.Event) -> None:
        if isinstance(event, events.StepDone) and event.step == 3:
            signal.raise_signal(signal.SIGINT)

    with contextlib.suppress(KeyboardInterrupt):
        handgrad.train(folder / "text.txt", out=folder / "run", report=report, preset="nano", **TINY)
    return folder / "run"


def damage(name: str, content: bytes, seed: int) -> bytes:
    """`content` damaged at random: always the same for a seed."""
    rng = random.Random(f"{name} {seed}")
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        structured = _structured(name, content, rng) if rng.random() < 0.6 else None
        content = structured if structured is not None else _bytes(content, rng)
    return content


def _bytes(content: bytes, rng: random.Random) -> bytes:
    """Bits flipped, a piece cut out, doubled, zeroed, or something put in."""
    first = rng.randrange(len(content) + 1)
    last = min(len(content), first + rng.choice((1, 2, 8, 100, 10_000)))
    piece = content[first:last]
    flipped = bytes(byte ^ 1 << rng.randrange(8) for byte in piece[:3])
    return rng.choice(
        [
            content[:first] + flipped + content[first + len(flipped) :],
            content[:first],
            content[first:],
            content[:first] + content[last:],
            content[:first] + piece + content[first:],
            content[:first] + bytes(len(piece)) + content[last:],
            content[:first] + rng.randbytes(rng.choice((1, 2, 9))) + content[first:],
            content[:first]
            + rng.choice([b"[" * 50_000, b"9" * 6000, b"\n", b'"', b"\xff\xfe"])
            + content[first:],
        ]
    )


def _structured(name: str, content: bytes, rng: random.Random) -> bytes | None:
    """Damaged where its meaning is; None where nothing of it is left."""
    try:
        if name == METRICS:
            return _lines(content, rng)
        if name == material.TOKENS:
            return _numbers(content, "<H", (0, 17, 18, 19, 255, 65535), rng)
        if name in (BEST, LAST):
            return _tensors(content, rng)
        return _json(content, rng)
    except (
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        struct.error,
    ):
        return None


def _json(content: bytes, rng: random.Random) -> bytes:
    """A value somewhere in it is another, or gone."""
    data = json.loads(content)
    tables = list(_tables(data))
    if not tables:
        return _dumped(rng.choice(VALUES))
    table = rng.choice(tables)
    key = rng.choice(list(table) if isinstance(table, dict) else range(len(table)))
    change = rng.randrange(6)
    if change == 0:
        del table[key]
    elif change == 1 and isinstance(table, dict):
        table[rng.choice(("", "step", "kind", "a", "\ud800"))] = table[key]
    elif change == 2 and isinstance(table[key], int | float):
        table[key] = table[key] * rng.choice((-1, 0, 2, 10, 0.5)) + rng.choice((0, 1, -1))
    else:
        table[key] = rng.choice(VALUES)
    return _dumped(data if rng.random() < 0.97 else rng.choice(VALUES))


def _tables(data: Any) -> Iterator[Any]:
    if isinstance(data, dict | list) and data:
        yield data
        for value in data.values() if isinstance(data, dict) else data[:50]:
            yield from _tables(value)


def _dumped(data: Any) -> bytes:
    nested = "[" * 50_000 + "]" * 50_000
    return json.dumps(data).replace(json.dumps(NESTED), nested).encode()


def _lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    change = rng.randrange(5)
    if change == 0:
        del lines[i]
    elif change == 1:
        lines.insert(j, lines[i])
    elif change == 2:
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i] = _json(lines[i], rng) + b"\n"
    return b"".join(lines)


def _numbers(content: bytes, kind: str, values: tuple[Any, ...], rng: random.Random) -> bytes:
    width = struct.calcsize(kind)
    place = rng.randrange(len(content) // width) * width
    return content[:place] + struct.pack(kind, rng.choice(values)) + content[place + width :]


def _tensors(content: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    change = rng.randrange(4)
    if change == 0:
        values = (float("nan"), float("inf"), -1.0, 1e38, -3e38, 1e-45)
        return content[: 8 + length] + _numbers(data, "<f", values, rng)
    if change == 1:  # the text beside the weights
        table = json.loads(header)
        texts = table["__metadata__"]
        texts["progress"] = _json(texts["progress"].encode(), rng).decode()
        header = json.dumps(table).encode()
    else:
        header = _json(header, rng)
    return len(header).to_bytes(8, "little") + header + data


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """Warnings are errors, the machine is small, nothing waits for a disk, and few pictures are drawn."""
    before = fits.available, atomic._flush, loop.SAMPLE_TOKENS, curves.draw_loss
    fits.available, atomic._flush, loop.SAMPLE_TOKENS = lambda: ROOM, lambda path: None, 4
    resumed = itertools.count()
    alarm = signal.signal(signal.SIGALRM, _hang)
    curves.draw_loss = lambda *args: next(resumed) % DRAWN or before[-1](*args)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        fits.available, atomic._flush, loop.SAMPLE_TOKENS, curves.draw_loss = before
        signal.signal(signal.SIGALRM, alarm)


def peak_memory() -> int:
    """The most bytes that this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _hang(*_: object) -> None:
    raise HangError


def attempt(whole: Path, name: str, seed: int) -> Iterator[str | Failure]:
    """What became of one damaged file, for each way to open it: "worked", "refused", or a failure."""
    with tempfile.TemporaryDirectory() as outer:
        for reader in READERS[name]:
            folder = shutil.copytree(whole, Path(outer) / reader.__name__)
            (folder / name).write_bytes(damage(name, (folder / name).read_bytes(), seed))
            yield _outcome(reader, folder, name, seed)


def _outcome(reader: Callable[[Path], None], folder: Path, name: str, seed: int) -> str | Failure:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        reader(folder)
    except UserError as error:
        sentence = str(error)
        if "\n" in sentence or len(sentence) > 1000:
            return Failure(name, seed, reader.__name__, f"no sentence: {sentence[:200]}")
        return "refused"
    except HangError:
        return Failure(name, seed, reader.__name__, f"it hangs: {SECONDS} s")
    except Exception as error:
        return Failure(name, seed, reader.__name__, f"{type(error).__name__}: {error}"[:300])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "worked"


def main(n: int, *names: str) -> int:
    """Damage each file `n` times; say what became of it. 1 if a case failed or took too much memory."""
    failures: list[Failure] = []
    with tempfile.TemporaryDirectory() as outer, surroundings():
        whole = make_run(Path(outer))
        before = peak_memory()
        for name in names or FILES:
            started, counts = time.monotonic(), Counter[str]()
            for seed in range(n):
                for outcome in attempt(whole, name, seed):
                    counts[outcome if isinstance(outcome, str) else "failed"] += 1
                    if isinstance(outcome, Failure):
                        failures.append(outcome)
                        print(outcome, flush=True)
            seconds = time.monotonic() - started
            print(f"{name}: {n} damaged files, {dict(counts)}, {seconds:.0f} s", flush=True)
    more = peak_memory() - before
    print(f"{len(failures)} failures; {more / 1e6:.0f} MB more memory than the run took", flush=True)
    return 1 if failures or more > ROOM else 0


if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
