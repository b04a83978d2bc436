"""How much memory a step takes, and how a batch is cut so that it fits: from numbers, nothing allocated.

What a layer keeps for backward is found by tracing one, so it is the program itself that is plans.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from handgrad.engines.engine import Memory, OptimizerSettings
from handgrad.engines.xla import device, random
from handgrad.engines.xla import weights as stacking
from handgrad.engines.xla.layers import Layers
from handgrad.engines.xla.mesh import ONE, Mesh
from handgrad.engines.xla.placement import divisible, gathered, n_parts, specs
from handgrad.engines.xla.program import Program
from handgrad.engines.xla.twins.next_token_loss import n_logit_parts
from handgrad.errors import UserError
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes

PROCESS = 400_000_000
"""Bytes of a training process besides its arrays: Python, JAX and its libraries."""
USABLE = 0.9
"""The share of the device's memory that is planned with: XLA needs some to work in."""


class Plan(NamedTuple):
    """How a batch is computed."""

    n_parts: int = 1
    """One after the other; the gradients are summed."""
    layers: Layers = "scanned"


class Numbers(NamedTuple):
    """How many of the weights' numbers a device holds."""

    kept: int
    gathered: int
    """At a time: those of a layer, and of what comes before and after the layers."""


def predict(config: ModelConfig, batch_size: int, precision: str, plan: Plan, mesh: Mesh = ONE) -> Memory:
    """The memory that a step takes on each device at its peak."""
    numbers, narrow = numbers_of(config, mesh), device.dtype(precision)
    sequences = -(-batch_size // (plan.n_parts * mesh.batch_parts))
    return Memory(
        weights=3 * 4 * numbers.kept,
        gradients=(4 if plan.n_parts == 1 else 8) * numbers.kept + 4 * numbers.gathered,
        panels=(0 if narrow == np.float32 else 2 * numbers.kept) + narrow.itemsize * numbers.gathered,
        activations=_activations(config, sequences, narrow, plan.layers, mesh.model),
        process=PROCESS,
    )


def choose(config: ModelConfig, batch_size: int, precision: str, mesh: Mesh = ONE) -> Plan:
    """The whole batch at once where the devices have the memory; else in parts; else layers are computed
    again. `UserError` where that is not enough."""
    limit = device.memory(mesh)
    there = math.inf if limit is None else USABLE * limit
    sequences = -(-batch_size // mesh.batch_parts)
    divisors = [n for n in range(1, sequences + 1) if sequences % n == 0]
    separate = mesh.fsdp == 1 and config.n_layers <= device.most_separate_layers()
    layers: Layers = "separate" if separate else "scanned"
    plans = [Plan(n, each) for each in (layers, "rematerialized") for n in divisors]
    for each in plans:
        need = predict(config, batch_size, precision, each, mesh)
        if need.total - need.process <= there:
            return each
    raise UserError(
        f"Training this model needs {(need.total - need.process) / 1e9:,.1f} GB on the device, one sequence "
        f"at a time; it has {there / 1e9:,.1f} GB for it. Take a smaller model, vocabulary or context, or "
        f"share it among more devices: --mesh fsdp=8."
    )


def numbers_of(config: ModelConfig, mesh: Mesh) -> Numbers:
    """A device's share of the weights: from one layer, since all are alike."""
    sizes, weights = mesh._asdict(), shapes(config.replace(n_layers=1))
    where = specs(weights)

    def of_device(array: Any, spec: Any) -> int:
        return array.size // math.prod(n_parts(axis, sizes) for axis in divisible(spec, array.shape, sizes))

    def all_of(tree: Any) -> int:
        return sum(jax.tree.leaves(tree))

    kept = jax.tree.map(of_device, weights, where)
    used = jax.tree.map(lambda array, spec: of_device(array, gathered(spec)), weights, where)
    layers = (config.n_layers - 1) * all_of(kept.blocks)
    return Numbers(all_of(kept) + layers, 0 if mesh.fsdp == 1 else all_of(used))


def _activations(config: ModelConfig, sequences: int, dtype: Any, layers: Layers, model: int) -> int:
    """Bytes that are kept for backward, those of one layer's own backward, and the logits of a part."""
    stream = sequences * config.context_length * config.d_model * dtype.itemsize
    one = layer_bytes(config, sequences, dtype, model)
    kept = (config.n_layers * stream + one) if layers == "rematerialized" else config.n_layers * one
    n_tokens = sequences * config.context_length
    if layers == "separate":  # then XLA keeps the activations as well
        kept += config.n_layers * n_tokens * config.ff_width // model * dtype.itemsize
    vocab_size = config.vocab_size // (1 if config.vocab_size % model else model)
    logits = (
        n_tokens // n_logit_parts(sequences, config.context_length, vocab_size * dtype.itemsize) * vocab_size
    )
    in_place = model == 1 and device.fused(config, dtype) is not None  # `twins.FusedLoss`
    each = dtype.itemsize if in_place else 4 + 2 * dtype.itemsize
    return kept + max(one, each * logits) + 4 * stream


def layer_bytes(config: ModelConfig, sequences: int, dtype: Any, model: int = 1) -> int:
    """Bytes of the arrays that one layer keeps for its backward: of those inside attention and feed-forward,
    a device has one of `model` parts."""
    one = config.replace(n_layers=1)
    program = Program(one, OptimizerSettings(), device.fused(one, dtype), dtype)
    n_draws = random.BEFORE_LAYERS + random.PER_LAYER
    keys = jax.ShapeDtypeStruct((n_draws, 2), np.uint32) if config.dropout else None
    blocks = jax.tree.map(lambda w: jax.ShapeDtypeStruct((1, *w.shape), dtype), shapes(one).blocks[0])
    x = jax.ShapeDtypeStruct((sequences, config.context_length, config.d_model), dtype)

    def kept(x: Any, blocks: Any, keys: Any) -> Any:
        rng = None if keys is None else random.Keyed(keys[random.BEFORE_LAYERS :])
        saved: Any = program.model.transformer.layers(x, stacking.narrowed(blocks, dtype), rng=rng)[1]
        return saved.arrays

    arrays = jax.eval_shape(kept, x, blocks, keys)
    return sum(
        math.prod(a.shape) * jnp.dtype(a.dtype).itemsize // (1 if a.shape[-1] == config.d_model else model)
        for a in jax.tree.leaves(arrays)
    )
