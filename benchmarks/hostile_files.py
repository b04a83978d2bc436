"""Model files with mistakes of every kind, by the thousand: each is refused in a sentence, or is a model.

    python benchmarks/hostile_files.py --count 10000 [--format gguf] [--first 0]

A small model is written in every format, and one of its files is changed: cut short, bits turned, lengths and
numbers replaced by extreme ones, pieces left out, doubled or swapped; in JSON also values of another type.
The format's `load` gets the result, in a process that may have a gigabyte more than at its start
and some seconds for each file. Whatever is neither a model nor a `UserError` is shown, and the file kept: an
exception of another kind, a crash, a file that takes too long or too much memory. The same number gives the
same file.
"""

import argparse
import copy
import json
import multiprocessing
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from handgrad import tree
from handgrad.errors import UserError
from handgrad.formats import gguf, hugging_face, llama2c, model_folder
from handgrad.formats.model_folder import Model
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.tokenizer import BPETokenizer

MEMORY = 1 << 30
"""Bytes that a process may have more than at its start."""
SECONDS = 10.0
"""That a file may take."""
LONGEST_ERROR = 2000
"""Characters: what a file says is quoted shortly."""
POWERS = (1 << 15, 1 << 31, 1 << 32, 1 << 63, 1 << 64)
EXTREMES = (0, 1, 2, 127, 255, *POWERS, *(power - 1 for power in POWERS))
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 1 << 31, 1 << 63, -(1 << 63), 10**400, 0.5, 1e308, -1e308, 1e-320, "",
    "a",
    "silu", "../../../etc/passwd", "\0", "\ud800", "x" * 5000, [], [0], [-1, 2], [[[]]],
    [1 << 40, 1 << 40], {}, {"a": {}},
    "{% for i in range(10**9) %}{% endfor %}", "(a+)+$", "[" * 2000,
)  # fmt: skip
"""What a value in JSON is replaced by."""

CONFIG = ModelConfig(
    vocab_size=272, context_length=8, n_layers=2, n_heads=2, n_kv_heads=1, d_model=32, d_ff=32,
    position="rope", norm="rms_norm", activation="silu", gated=True, bias=False,
)  # fmt: skip
"""A model that every format can hold."""


def model() -> Model:
    tokenizer = BPETokenizer.train(["abc abcd the theme of them"], 268, ["<|end|>"])
    return Model(
        CONFIG, init(CONFIG), tokenizer, (), (3,), "{% for m in messages %}{{ m.content }}{% endfor %}"
    )


def write_ours(folder: Path) -> Path:
    return model_folder.save(model(), folder / "model")


def write_quantized(folder: Path) -> Path:
    """Ours with the blocks of a GGUF beside the weights, and a tokenizer from elsewhere."""
    return model_folder.save(gguf.load(write_gguf(folder)), folder / "model")


def write_hugging_face(folder: Path) -> Path:
    return hugging_face.save(model(), folder / "model")


def write_gguf(folder: Path) -> Path:
    return gguf.save(model(), folder / "model.gguf", "Q8_0")


def write_llama2c(folder: Path) -> Path:
    """A model of llama2.c, and its tokenizer beside it."""
    path = folder / "model.bin"
    tiny = CONFIG.replace(vocab_size=272)
    weights = dict(tree.named_leaves(init(tiny)))
    header = (32, 32, 2, 2, 1, 272, 8)
    kinds = ("norm1.gamma", "attention.query.weight", "attention.key.weight", "attention.value.weight",
             "attention.output.weight", "norm2.gamma", "feed_forward.gate.weight", "feed_forward.down.weight",
             "feed_forward.up.weight")  # fmt: skip
    layers = [weights[f"blocks.{i}.{kind}"].T for kind in kinds for i in range(2)]
    arrays = [weights["embedding"], *layers, weights["norm.gamma"], np.zeros((8, 16), np.float32)]
    path.write_bytes(np.array(header, "<i4").tobytes() + b"".join(map(np.ndarray.tobytes, arrays)))
    names = [
        "<unk>",
        "\n<s>\n",
        "\n</s>\n",
        *(f"<0x{i:02X}>" for i in range(256)),
        *" abcdehmot",
        "th",
        "the",
        " the",
    ]
    pieces = [np.float32(-i).tobytes() + np.int32(len(n)).tobytes() + n.encode() for i, n in enumerate(names)]
    path.with_name("tok272.bin").write_bytes(np.int32(8).tobytes() + b"".join(pieces))
    return path


class Format(NamedTuple):
    """One kind of model files."""

    write: Callable[[Path], Path]
    """Writes a good model into a folder; returns what to load."""
    load: Callable[[Path], Model]


FORMATS = {
    "ours": Format(write_ours, model_folder.load),
    "quantized": Format(write_quantized, model_folder.load),
    "hugging_face": Format(write_hugging_face, hugging_face.load),
    "gguf": Format(write_gguf, gguf.load),
    "llama2c": Format(write_llama2c, llama2c.load),
}


def damaged(data: bytes, name: str, rng: random.Random) -> bytes:
    """The bytes of a file with one or a few mistakes."""
    if name.endswith(".json") and rng.random() < 0.7:
        return other_json(data, rng)
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(MISTAKES)(data, rng)
    return data


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: place(data, rng)]


def turned(data: bytes, rng: random.Random) -> bytes:
    """Some bits are others."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 50)) if data else 0):
        changed[place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def lying(data: bytes, rng: random.Random) -> bytes:
    """A number is an extreme one."""
    size, start = rng.choice((1, 2, 4, 8)), place(data, rng)
    number = rng.choice(EXTREMES) % (1 << 8 * size)
    return data[:start] + number.to_bytes(size, "little") + data[start + size :]


def nearly(data: bytes, rng: random.Random) -> bytes:
    """A number is one more or less."""
    start = place(data, rng)
    number = int.from_bytes(data[start : start + 4], "little") + rng.choice((-1, 1))
    return data[:start] + (number % (1 << 32)).to_bytes(4, "little") + data[start + 4 :]


def without(data: bytes, rng: random.Random) -> bytes:
    start = place(data, rng)
    return data[:start] + data[start + rng.choice((1, 4, 8, 32, 1000)) :]


def doubled(data: bytes, rng: random.Random) -> bytes:
    start, length = place(data, rng), rng.choice((1, 4, 8, 32, 1000))
    return data[: start + length] + data[start:]


def swapped(data: bytes, rng: random.Random) -> bytes:
    """Two pieces have changed places."""
    (a, b), length = sorted((place(data, rng), place(data, rng))), rng.choice((4, 8, 24))
    if b - a < length:
        return data
    return data[:a] + data[b : b + length] + data[a + length : b] + data[a : a + length] + data[b + length :]


MISTAKES = (cut, turned, turned, lying, lying, lying, nearly, without, doubled, swapped)


def place(data: bytes, rng: random.Random) -> int:
    """A place in a file: mostly near its beginning, where its numbers about itself are."""
    within = len(data) if rng.random() < 0.3 else min(len(data), rng.choice((64, 1024, 8192)))
    return rng.randrange(within) if within else 0


def other_json(data: bytes, rng: random.Random) -> bytes:
    """JSON in which some values are others, or lacking."""
    whole = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        holder, key = rng.choice(list(places(whole)))
        if rng.random() < 0.2:
            del holder[key]
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        if not whole:
            break
    text = json.dumps(whole, ensure_ascii=rng.random() < 0.5)
    return text.encode("utf-8", "surrogatepass")


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in JSON, by what holds it; of long lists the first ones."""
    items = list(node.items() if isinstance(node, dict) else enumerate(node))[:20]
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list):
            yield from places(value)


def change(folder: Path, rng: random.Random) -> None:
    """Damage one of the files in `folder`."""
    path = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    path.write_bytes(damaged(path.read_bytes(), path.name, rng))


def outcome(form: Format, folder: Path, source: Path, number: int) -> str:
    """What becomes of one damaged file: a model, or refused; anything else is raised."""
    change(folder, random.Random(number))
    try:
        read = form.load(source)
        if read.tokenizer is not None:
            read.tokenizer.decode(read.tokenizer.encode("the theme, ä"))
    except UserError as error:
        if len(str(error)) > LONGEST_ERROR:
            raise ValueError(f"an error of {len(str(error))} characters") from error
        return "refused"
    if not all(np.isfinite(leaf).all() for leaf in tree.leaves(read.weights)):
        raise ValueError("weights that are not finite")
    return "model"


def defects(
    name: str, numbers: Iterable[int], report: Callable[[int], object] = lambda _: None
) -> Iterator[str]:
    """What is wrong with any of these files, in words; `report` hears the number of the next one."""
    form = FORMATS[name]
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good"
        good.mkdir()
        source = form.write(good).relative_to(good)
        for number in numbers:
            report(number)
            folder = Path(place) / "damaged"
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(good, folder)
            try:
                OUTCOMES[outcome(form, folder, folder / source, number)] += 1
            except (Exception, TooLong) as error:
                yield f"{name} {number}: {type(error).__name__}: {str(error)[:200]}"


OUTCOMES: Counter[str] = Counter()
"""How many files became what, in this process."""


class TooLong(BaseException):
    """A file took more than its time. No `except Exception` holds it up."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=1000, help="files of each format")
    parser.add_argument("--format", choices=FORMATS, help="only this one")
    parser.add_argument("--first", type=int, default=0, help="the number of the first file")
    arguments = parser.parse_args()
    numbers = range(arguments.first, arguments.first + arguments.count)
    wrong = 0
    for name in [arguments.format] if arguments.format else FORMATS:
        wrong += guarded(name, numbers)
    sys.exit(f"{wrong} defects" if wrong else None)


def guarded(name: str, numbers: range) -> int:
    """Try the files of a format in processes with limits: one that ends early names its file. The defects."""
    start, wrong, next_one = time.perf_counter(), 0, numbers.start
    totals: Counter[str] = Counter()
    while next_one < numbers.stop:
        at = multiprocessing.get_context("fork").Value("q", next_one)
        results = multiprocessing.get_context("fork").SimpleQueue()
        arguments = (name, range(next_one, numbers.stop), at, results)
        process = multiprocessing.get_context("fork").Process(target=_limited, args=arguments)
        process.start()
        while process.is_alive() or not results.empty():
            if results.empty():
                process.join(0.1)
                continue
            found = results.get()
            wrong += isinstance(found, str)
            print(found) if isinstance(found, str) else totals.update(found)
        if process.exitcode:
            wrong += 1
            print(f"{name} {at.value}: the process ended with {process.exitcode}")
        next_one = at.value + 1
    said = ", ".join(f"{number:,} {what}" for what, number in sorted(totals.items()))
    print(f"{name}: {len(numbers):,} files in {time.perf_counter() - start:.0f} s: {said}, {wrong} defects")
    return wrong


def _limited(name: str, numbers: range, at: Any, results: Any) -> None:
    """In a process of its own: the limits, and the files."""
    used = next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmSize"))  # fmt: skip
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))

    def report(number: int) -> None:
        at.value = number
        signal.setitimer(signal.ITIMER_REAL, SECONDS)

    def late(*_: object) -> None:
        raise TooLong(f"more than {SECONDS:g} s")

    signal.signal(signal.SIGALRM, late)
    for defect in defects(name, numbers, report):
        results.put(defect)
    results.put(dict(OUTCOMES))


if __name__ == "__main__":
    main()
