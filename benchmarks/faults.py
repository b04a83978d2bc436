"""Faults put into handgrad one at a time: does `handgrad verify` catch each, and accept what is right?

    python benchmarks/faults.py              # all of them, ten minutes
    python benchmarks/faults.py rope         # those whose model or name has this in it

Models are the presets, small, and such as Qwen's and a published one; their weights are random, except that.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from injected import Fault, caches, chats, files, formulas, gradients, kernels, writing

from handgrad import from_named, tree
from handgrad.formats.model_folder import Model
from handgrad.formats.quantization import dequantize, quantize
from handgrad.formats.sources import load
from handgrad.model.cases import SMALL, small
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.init import init
from handgrad.parameters import Blocks
from handgrad.tokenizer import BPETokenizer
from handgrad.verify import Check, checks

ROPE = {"position": "rope", "norm": "rms_norm", "activation": "silu", "gated": True, "bias": False}
CONFIGS = {name: small(config) for name, config in PRESETS.items()} | {
    "qwen2": ModelConfig(**SMALL | ROPE | {"d_model": 16, "n_heads": 4, "n_kv_heads": 2, "qkv_bias": True}),
    "qwen3": ModelConfig(**SMALL | ROPE | {"n_kv_heads": 1, "qk_norm": True, "d_head": 6, "tied": False}),
}
QUANTIZED = ModelConfig(
    **SMALL | ROPE | {"d_model": 64, "d_ff": 96, "vocab_size": 300, "context_length": 24, "n_kv_heads": 1}
)
"""A model as a quantized file holds it, with a tokenizer and a chat template."""
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|turn|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}<|turn|>"
)
STORIES = Path("../shared/data/stories260K/stories260K.bin")
"""A published model, tried where it is there."""
LIVELY = 0.3
"""Deviation added to all weights: a bias of zero would hide an error in what uses it."""


def model(name: str) -> Model:
    """A small model with random weights of ordinary size, or the published one."""
    if name == "stories":
        return load(STORIES)
    if name == "blocks":
        return quantized()
    config, rng = CONFIGS[name], np.random.default_rng(0)
    weights = tree.map(lambda w: w + LIVELY * rng.standard_normal(w.shape, np.float32), init(config, rng))
    return Model(config, weights)


def quantized() -> Model:
    """The first layer's matrices in Q4_0, all others in Q8_0."""
    rng, blocks, numbers = np.random.default_rng(0), dict[str, Blocks](), dict[str, np.ndarray]()
    for name, array in tree.named_leaves(init(QUANTIZED, rng)):
        lively = array + LIVELY / 2 * rng.standard_normal(array.shape, np.float32)
        if lively.ndim == 2:
            kind = "Q4_0" if name.startswith("blocks.0") else "Q8_0"
            rows = lively.T if name.endswith(".weight") else lively
            blocks[name] = Blocks(kind, quantize(kind, np.ascontiguousarray(rows)))
            rows = dequantize(kind, blocks[name].data)
            lively = rows.T if name.endswith(".weight") else rows
        numbers[name] = lively
    tokenizer = BPETokenizer.train(["From the hills to the sea"], 300, ["<|begin|>", "<|turn|>", "<|end|>"])
    begin, _, end = tokenizer.special_tokens.values()
    weights = from_named(QUANTIZED, numbers).weights
    return Model(QUANTIZED, weights, tokenizer, (begin,), (end,), TEMPLATE, blocks)


def faults() -> Iterator[Fault]:
    """Every fault."""
    for name in ("nano", "paper", "llama"):
        yield from caches.faults(name, CONFIGS[name].position, CONFIGS[name].n_layers)
    for name in ("gpt2", "qwen3", "paper"):
        yield from gradients.faults(name, CONFIGS[name])
    for name in ("paper", "baby", "llama", "qwen2", "qwen3", "gpt2"):
        names = [full for full, _ in tree.named_leaves(model(name).weights)]
        yield from gradients.slight(name, [*names[::4], "blocks.1."])
        yield from kernels.slight(name, names[2::9])
        yield from formulas.faults(name, CONFIGS[name])
    for name in ("gpt2", "qwen2", "paper"):
        yield from kernels.faults(name, CONFIGS[name])
    for name in ("gpt2", "qwen2", "paper"):
        yield from files.faults(name, CONFIGS[name])
    yield from writing.faults("blocks")
    yield from files.of_blocks("blocks")
    yield from chats.faults("blocks")
    if STORIES.exists():
        yield from of_stories(load(STORIES).config)


def of_stories(config: ModelConfig) -> Iterator[Fault]:
    """Of a published model, some faults in its middle layer."""
    middle = [f for f in gradients.faults("stories", config) if f.name.endswith("layer 2")]
    yield from middle
    yield from gradients.slight("stories", ["embedding", "blocks.2.", "blocks.4.norm1.gamma", "norm.gamma"])
    yield from kernels.slight("stories", ["embedding", "blocks.2.attention.key.weight", "norm.gamma"])
    yield from formulas.faults("stories", config)
    yield from caches.faults("stories", config.position, 1)


def caught_by(fault: Fault) -> Check | None:
    """The first comparison that fails while the fault is there."""
    with fault.inject():
        return next((check for check in checks(model(fault.model)) if not check.passed), None)


def false_alarms(name: str, seeds: range) -> list[Check]:
    """What fails on a model that is right, with several draws of directions."""
    return [check for seed in seeds for check in checks(model(name), seed=seed) if not check.passed]


def main(wanted: str = "") -> None:
    chosen = [fault for fault in faults() if wanted in f"{fault.model} {fault.name}"]
    caught: Counter[str] = Counter()
    for fault in chosen:
        check = caught_by(fault)
        by = f"{check.group}: {check.name}" if check else "MISSED"
        caught[by] += 1
        print(f"{fault.model:6} {fault.name:60} {by}", flush=True)
    print(f"\n{len(chosen) - caught.pop('MISSED', 0)} of {len(chosen)} caught")
    for by, n in caught.most_common():
        print(f"{n:4} {by}")
    right = [*CONFIGS, "blocks", *["stories"] * STORIES.exists()]
    alarms = {name: false_alarms(name, range(5)) for name in right}
    n = sum(map(len, alarms.values()))
    print(f"\nfalse alarms on {len(alarms)} models that are right, five times each: {n}")
    for name, found in alarms.items():
        for check in found:
            print(f"{name:6} {check.group}: {check.name}, {check.measured:.1e} of {check.bound:.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
