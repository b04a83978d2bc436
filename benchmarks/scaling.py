"""What each device holds, computes and sends in a step, for models from 124M to 70B weights, as Markdown.

    python benchmarks/scaling.py              # the table, by formula
    python benchmarks/scaling.py --compiled   # the formula for what is sent, beside a compiled step

Memory is the engine's own prediction (`engines.xla.plan`), with a GPU's kernels and attention that keeps no
matrix of positions by positions. What is sent follows from how arrays are placed (`engines.xla.sharding`): by
a ring of n devices each sends (n - 1) / n of an array that is gathered or whose sum is scattered, and twice
that for a sum that all of them get.
"""

import argparse
import math
import re
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

from handgrad.engines.engine import UNLIMITED, OptimizerSettings, State
from handgrad.engines.xla import device, steps
from handgrad.engines.xla import plan as plans
from handgrad.engines.xla.layers import Layers
from handgrad.engines.xla.mesh import Mesh, parse
from handgrad.engines.xla.twins import Fused
from handgrad.model.config import ModelConfig, preset
from handgrad.model.count import count
from handgrad.model.init import init

ARITHMETIC = 400e12
"""Operations a second of a device: half of what an H100's bfloat16 products reach."""
NETWORK, LINK = 50e9, 450e9
"""Bytes a second that a device sends: 400 Gbit/s between machines; NVLink within one."""
WITHIN = 8
"""Devices of one machine."""

GPT2 = preset("gpt2").replace(vocab_size=50_304, dropout=0.0)
LLAMA2 = preset("llama").replace(vocab_size=32_000, context_length=4096, n_kv_heads=None, tied=False)
MODELS = {
    "GPT-2": GPT2,
    "GPT-2 XL": GPT2.replace(n_layers=48, n_heads=25, d_model=1600),
    "Llama 2 7B": LLAMA2.replace(n_layers=32, n_heads=32, d_model=4096, d_ff=11_008),
    "Llama 2 13B": LLAMA2.replace(n_layers=40, n_heads=40, d_model=5120, d_ff=13_824),
    "Llama 2 70B": LLAMA2.replace(n_layers=80, n_heads=64, n_kv_heads=8, d_model=8192, d_ff=28_672),
}
RUNS: list[tuple[str, str, int, Layers]] = [
    ("GPT-2", "data=1", 16, "scanned"),
    ("GPT-2", "data=8", 128, "scanned"),
    ("GPT-2 XL", "fsdp=8", 64, "rematerialized"),
    ("Llama 2 7B", "fsdp=8", 16, "rematerialized"),
    ("Llama 2 7B", "fsdp=64", 128, "rematerialized"),
    ("Llama 2 13B", "fsdp=32", 64, "rematerialized"),
    ("Llama 2 70B", "fsdp=32,model=8", 64, "rematerialized"),
]
"""Model, mesh, sequences of the whole batch, and what layers keep."""


class Sent(NamedTuple):
    """Bytes that a device sends in a step."""

    weights: float
    """Weights, gathered for forward and for backward."""
    gradients: float
    stream: float
    """Sums of the residual stream and of its gradient, over `model`."""


def sent(config: ModelConfig, mesh: Mesh, tokens: int, itemsize: int = 2) -> Sent:
    """By formula; `tokens` are a device's own, `itemsize` is of what products read. Gradients are float32."""
    of_model = count(config).parameters / mesh.model
    gathered = (mesh.fsdp - 1) / mesh.fsdp * of_model
    summed = 2 * (mesh.data - 1) / mesh.data * of_model / mesh.fsdp
    sums = 4 * config.n_layers * tokens * config.d_model * itemsize
    return Sent(2 * gathered * itemsize, 4 * (gathered + summed), 2 * (mesh.model - 1) / mesh.model * sums)


def held(config: ModelConfig, mesh: Mesh, batch_size: int, layers: Layers) -> tuple[float, float]:
    """Bytes of weights, moments and gradients on a device; and of activations."""
    memory = plans.predict(config, batch_size, "bfloat16", plans.Plan(1, layers), mesh)
    return memory.weights + memory.gradients + memory.panels, memory.activations


def as_on_a_gpu() -> None:
    """Have memory predicted as where there is cuDNN: its attention keeps its output instead of a matrix."""
    layer_bytes = plans.layer_bytes

    def with_cudnn(config: ModelConfig, sequences: int, dtype: Any, model: int = 1) -> int:
        matrix = 4 * config.n_heads * config.context_length**2
        output = 2 * config.context_length * config.d_model
        return layer_bytes(config, sequences, dtype, model) - sequences * (matrix - output) // model

    device.fused = lambda config, dtype: Fused(None)
    plans.layer_bytes = with_cudnn


def table() -> None:
    as_on_a_gpu()
    print(
        "| model | mesh | batch | state | activations | operations | sent | of it stream | computes | sends |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, described, batch_size, layers in RUNS:
        config, mesh = MODELS[name], parse(described)
        tokens = batch_size // mesh.batch_parts * config.context_length
        operations = count(config).training_flops_per_token * tokens / mesh.model
        operations *= 4 / 3 if layers == "rematerialized" else 1
        state, activations = held(config, mesh, batch_size, layers)
        bytes_sent = sent(config, mesh, tokens)
        apart = LINK if mesh.data * mesh.fsdp * mesh.model <= WITHIN else NETWORK
        seconds = (bytes_sent.weights + bytes_sent.gradients) / apart + bytes_sent.stream / LINK
        numbers = f"{state / 1e9:.1f} GB | {activations / 1e9:.1f} GB | {operations / 1e12:,.0f} T"
        numbers += f" | {sum(bytes_sent) / 1e9:.1f} GB | {bytes_sent.stream / 1e9:.1f} GB"
        times = f"{operations / ARITHMETIC:.2f} s | {seconds:.2f} s"
        size = f"{name}, {count(config).parameters / 1e9:.2f}B"
        print(f"| {size} | {described} | {batch_size} | {numbers} | {times} |")


def compiled() -> None:
    """A small step, compiled for eight devices that the processor plays."""
    jax.config.update("jax_num_cpu_devices", WITHIN)
    config = GPT2.replace(vocab_size=512, context_length=64, n_layers=6, n_heads=8, d_model=256)
    print("| mesh | weights | gradients | stream | by formula | in the compiled step |")
    print("|---|---|---|---|---|---|")
    for described in ("data=8", "fsdp=8", "data=2,model=4", "data=2,fsdp=2,model=2"):
        mesh = parse(described)
        batch_size = 16
        formula = sent(config, mesh, batch_size // mesh.batch_parts * config.context_length, itemsize=4)
        found = collectives(config, mesh, batch_size)
        each = " | ".join(f"{n / 1e6:.2f} MB" for n in (*formula, sum(formula), found))
        print(f"| {described} | {each} |", flush=True)


def collectives(config: ModelConfig, mesh: Mesh, batch_size: int) -> float:
    """Bytes that a device sends in the compiled step, each loop's as often as it turns."""
    training = steps.Training(config, State(init(config)), OptimizerSettings(), mesh=mesh, plan=plans.Plan())
    ids = np.zeros((batch_size, config.context_length), np.int64)
    step = jax.jit(training.program.step, donate_argnums=0)
    arguments = training._batch(ids, ids, None), np.float32(1e-3), training._limits(UNLIMITED)
    text = step.lower(training.carried, *arguments).compile().as_text()
    return traffic(text or "")


def traffic(program: str) -> float:
    """Bytes that a device sends in the program of XLA's text."""
    bodies = {
        found[1]: found[2]
        for found in re.finditer(r"^(?:ENTRY )?%?([\w.\-]+) \(.*?\{\n(.*?)^\}", program, re.M | re.S)
    }
    entry = re.search(r"^ENTRY %?([\w.\-]+)", program, re.M)

    def of(name: str) -> float:
        total = 0.0
        for line in bodies[name].splitlines():
            kind = re.search(r"= (.*?) (all-gather|all-reduce|reduce-scatter)(?:-start)?\(", line)
            if kind:
                total += _ring(line, kind[2], kind[1])
            called = re.search(r" while\(.*body=%?([\w.\-]+)", line)
            if called:
                turns = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                total += of(called[1]) * int(turns[1] if turns else 1)
            else:
                total += sum(
                    of(other) for other in re.findall(r"(?:to_apply|calls)=%?([\w.\-]+)", line) if not kind
                )
        return total

    return of(entry[1]) if entry else 0.0


def _ring(line: str, kind: str, shapes: str) -> float:
    """Bytes that each device sends, by a ring of those in its group."""
    size = sum(
        int(bits or 8) // 8 * math.prod(int(n) for n in shape.split(",") if n)  # f32[8,16]; pred[8]
        for bits, shape in re.findall(r"(?:pred|[a-z]+(\d+))\[([\d,]*)\]", shapes)
    )
    n = group_size(line)
    whole = size * n if kind == "reduce-scatter" else size
    return (2 if kind == "all-reduce" else 1) * (n - 1) / n * whole


def group_size(line: str) -> int:
    """How many devices take part: they are listed, or [groups, each]<=..., or axes of a mesh."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if shaped := re.search(r"replica_groups=\[\d+,(\d+)\]", line):
        return int(shaped[1])
    mesh = re.search(r"replica_groups=mesh\[(.*?)\].*?\{(.*?)\}", line)
    if mesh is None:
        raise ValueError(f"no groups in {line}")
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", mesh[1]))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", mesh[2]))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--compiled", action="store_true", help="count what a compiled step sends")
    compiled() if options.parse_args(sys.argv[1:]).compiled else table()


if __name__ == "__main__":
    main()
