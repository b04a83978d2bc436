"""Weights on their way between NumPy's arrays and the device's.

On the device blocks are a tuple as ever, or stacked: one `p.Block` of arrays (L, ...), for `layers.Scanned`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from handgrad import parameters as p
from handgrad import tree
from handgrad.engines.engine import OptimizerSettings
from handgrad.engines.xla.placement import ALONE, Placement, is_stacked
from handgrad.model.config import ModelConfig
from handgrad.model.init import shapes

NORMS = (p.LayerNorm, p.RMSNorm)


def to_device(
    weights: p.Transformer, placement: Placement = ALONE, *, stacked: bool, dtype: Any = None
) -> Any:
    """A copy of `weights` where the devices keep it."""
    if stacked:
        blocks: Any = jax.tree.map(lambda *layers: np.stack(layers), *weights.blocks)
        weights = weights._replace(blocks=blocks)
    if placement.devices is None:
        return jax.tree.map(lambda w: jnp.array(w, dtype), weights)
    return placement.kept(jax.tree.map(lambda w: np.asarray(w, dtype), weights))


def to_host(weights: Any) -> p.Transformer:
    """Undo `to_device`: NumPy arrays, copied from all devices, one after the other.

    Of several processes only the first has them: the others help to gather each, and get zeros that take no
    memory.
    """
    weights = jax.tree.map(_fetched, weights)
    if not is_stacked(weights):
        return weights
    n_layers = len(jax.tree.leaves(weights.blocks)[0])
    blocks = tuple(tree.map(lambda w, n=n: w[n], weights.blocks) for n in range(n_layers))
    return weights._replace(blocks=blocks)


def _fetched(array: Any) -> np.ndarray:
    if isinstance(array, jax.Array) and not array.is_fully_addressable:
        array = multihost_utils.process_allgather(array, tiled=True)
        if jax.process_index() > 0:
            return nothing(array.shape)
    return np.array(array)


def nothing(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros that take no memory."""
    return np.broadcast_to(np.float32(0.0), shape)


def updates(config: ModelConfig, settings: OptimizerSettings, *, stacked: bool) -> tuple[Any, Any]:
    """For each array on the device, how much it decays, and whether Muon updates it."""
    like = shapes(config)
    names = iter([name for name, _ in tree.named_leaves(like)])
    decay: Any = tree.map(settings.decay_of, like)
    by_muon: Any = tree.map(lambda w: settings.is_muons(next(names), w), like)
    if not stacked:
        return decay, by_muon
    return decay._replace(blocks=decay.blocks[0]), by_muon._replace(blocks=by_muon.blocks[0])


def narrowed(weights: Any, dtype: Any) -> Any:
    """Weights as products read them. The scales of norms keep their precision: norms compute in float32."""

    def narrow(node: Any) -> Any:
        return node if isinstance(node, NORMS) else node.astype(dtype)

    return jax.tree.map(narrow, weights, is_leaf=lambda node: isinstance(node, NORMS))
