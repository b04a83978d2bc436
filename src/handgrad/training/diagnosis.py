r"""What a training step did to each part of the model, and what its layers do on text that it does not learn.

Of the step only the states before and after it are read, so that every engine is measured alike and none
computes more than it does anyway. The moments tell the gradient $g$ that was applied, and what clipping
multiplied it by tells its own length:

$$\text{AdamW: } g = \frac{m_t - \beta_1 m_{t-1}}{1-\beta_1},\qquad \text{Muon: } g = M_t - \beta M_{t-1}$$

The update of a matrix is measured by its root mean square as a share of the matrix's own. With LoRA,
gradients are those of the narrow matrices that are learned, and updates those of the merged ones.

The formulas read a few validation sequences, without dropout, one layer after the other. A query that sees
$t$ positions divides one among them, with the entropy $-\sum p\ln p$ from 0, all on one, to $\ln t$, evenly;
a head's is the mean over its queries of their share of $\ln t$. A unit of the feed-forward is dead where its
activation and its slope are almost zero for every token.
"""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.data.batches import Batch
from handgrad.engines import parallel
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.model.block import Block
from handgrad.model.config import ModelConfig
from handgrad.model.transformer import Transformer
from handgrad.ops import activation, feed_forward
from handgrad.shapes import Bool, Float
from handgrad.training.metrics import DiagnosisRow, StepRow

SAMPLED = 1 << 19
"""Of a weight with more numbers than this, every n-th column is measured: copies take little memory."""
LEAST, MOST, LONGEST = 256, 512, 512
"""Tokens that are read, so many that units which are not dead are active; and the most of a sequence."""
WORK = 40_000_000_000
"""Tokens times weights that are read, which bounds the seconds."""
SILENT = 1e-3
"""Activations and slopes below this are almost zero."""


class Before(NamedTuple):
    """What is kept of the state before a step: copies, by the names of the weights."""

    weights: dict[str, np.ndarray]
    """The matrices."""
    moments: dict[str, np.ndarray]
    """AdamW's means and Muon's velocities, of all that is learned."""


class Layers(NamedTuple):
    """What the layers do: fields of `DiagnosisRow`."""

    entropies: list[list[float]]
    dead_units: list[float]
    residual_rms: list[float]


def before(state: State) -> Before:
    """What `of_step` is to know of the state before the step."""
    return Before(*({name: a.copy() for name, a in each} for each in (_matrices(state), _moments(state))))


def measure(
    config: ModelConfig,
    settings: OptimizerSettings,
    before: Before,
    after: State,
    step: StepRow,
    sample: Batch,
) -> DiagnosisRow | None:
    """The row of `step`, between the states `before` and `after` it; None where a number is not finite."""
    overflows = np.errstate(all="ignore")  # what overflows is not written; the next loss shows it
    with overflows, parallel.one_blas_thread():
        norms, ratios = of_update(before, after, settings, step.gradient_norm)
        entropies, dead_units, rms = layers(config, after.weights, *sample)
    row = DiagnosisRow(step.step, norms, ratios, entropies, dead_units, rms, step.tokens, step.seconds)
    by_part = *row.gradient_norms.values(), *row.update_ratios.values()
    numbers = *by_part, *row.residual_rms, *itertools.chain(*row.entropies)
    return row if all(map(math.isfinite, numbers)) else None


def of_update(
    before: Before, after: State, settings: OptimizerSettings, norm: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Gradient norms and update ratios, by part, of a step whose gradient had `norm` before clipping."""
    clipped = settings.max_gradient_norm / max(norm, settings.max_gradient_norm)
    learned = dict(tree.named_leaves(_learned(after)))
    is_tied = after.weights.head is None
    gradients: dict[str, float] = {}
    for name, moment in _moments(after):
        by_muon = after.adapters is None and settings.is_muons(name, learned[name])
        kept, share = (settings.momentum, 1.0) if by_muon else (settings.beta1, 1.0 - settings.beta1)
        squares = _squares(moment - kept * before.moments[name], learned[name].size)
        _add(gradients, _part(name, is_tied), squares / (share * clipped) ** 2)
    whole = dict(tree.named_leaves(after.weights))
    updates: dict[str, float] = {}
    weights: dict[str, float] = {}
    for name, weight in _matrices(after):
        old = before.weights[name]
        _add(updates, _part(name, is_tied), _squares(weight - old, whole[name].size))
        _add(weights, _part(name, is_tied), _squares(old, whole[name].size))
    ratios = {part: math.sqrt(updates[part] / weights[part]) for part in weights if weights[part] > 0.0}
    return {part: math.sqrt(squares) for part, squares in gradients.items()}, ratios


def layers(config: ModelConfig, weights: p.Transformer, token_ids: np.ndarray, targets: np.ndarray) -> Layers:
    """What each layer does with a batch, up to the last target of a sequence that counts."""
    seen = np.flip(np.maximum.accumulate(np.flip(targets >= 0, axis=1), axis=1), axis=1)
    if not seen.any():
        seen = np.ones_like(seen)
    found = Layers([], [], [])
    x, _ = Transformer(config).hidden(weights._replace(blocks=(), norm=None), token_ids)
    for layer, block_weights in enumerate(weights.blocks):
        x, saved = Block(config, turned=config.turns(layer)).forward(x, block_weights)
        found.entropies.append(_entropies(saved.attention.attention.probs.y, seen))
        found.dead_units.append(_dead_units(saved.feed_forward, seen))
        found.residual_rms.append(float(np.mean(np.square(x[seen]), dtype=np.float64)) ** 0.5)
    return found


def n_sequences(n_weights: int, batch_size: int, context_length: int) -> int:
    """How many sequences are read: half a batch where that is enough, and of a large model few."""
    n_tokens = min(max(LEAST, batch_size * context_length // 2), MOST, WORK // n_weights)
    return max(1, n_tokens // min(context_length, LONGEST))


def shortened(batch: Batch) -> Batch:
    """The beginnings of its sequences."""
    token_ids, targets = batch
    return token_ids[:, :LONGEST], targets[:, :LONGEST]


def _entropies(probs: Float[np.ndarray, "B G R T T"], seen: Bool[np.ndarray, "B T"]) -> list[float]:
    """Of each head: the mean over the queries that see two positions or more; one where there are none."""
    B, G, R, T, _ = probs.shape
    probs, asking = probs.reshape(B, G * R, T, T)[:, :, 1:], seen[:, 1:]
    if not asking.any():
        return [1.0] * (G * R)
    entropies = -np.sum(probs * np.log(np.where(probs > 0.0, probs, 1.0)), axis=-1)
    shares = entropies / np.log(np.arange(2, T + 1))
    means = np.abs(np.mean(shares.swapaxes(1, 2)[asking], axis=0, dtype=np.float64))  # no -0.0
    return [float(mean) for mean in means.ravel()]


def _dead_units(saved: feed_forward.Saved, seen: Bool[np.ndarray, "B T"]) -> float:
    if isinstance(saved.act, feed_forward.Gate):
        act, output = saved.act.product.act, saved.act.product.opened
    else:
        act, output = saved.act, saved.down.x
    slopes, _ = activation.backward(np.ones_like(output), act)
    is_active = (np.abs(output) > SILENT) | (np.abs(slopes) > SILENT)
    return 1.0 - float(np.mean(is_active[seen].any(axis=0)))


def _learned(state: State) -> p.Transformer:
    return state.weights if state.adapters is None else state.adapters


def _matrices(state: State) -> Iterator[tuple[str, np.ndarray]]:
    for name, weight in tree.named_leaves(state.weights):
        if weight.ndim == 2:
            yield name, _sampled(weight)


def _moments(state: State) -> Iterator[tuple[str, np.ndarray]]:
    assert state.moments is not None
    for name, moment in tree.named_leaves(tree.views(state.moments.mean, _learned(state))):
        yield name, _sampled(moment)


def _sampled(array: np.ndarray) -> np.ndarray:
    """Every n-th of its columns, which are alike; all of an array that is not large."""
    return np.atleast_1d(array)[..., :: -(-array.size // SAMPLED) or 1]


def _squares(sampled: np.ndarray, size: int) -> float:
    """The sum of the squares of an array of that size, of which some columns are known."""
    return float(np.mean(np.square(sampled), dtype=np.float64)) * size


def _part(name: str, is_tied: bool) -> str | None:
    """The part that a weight belongs to, and a norm to what follows it; none is the last norm's if tied."""
    kind, *within = name.split(".")
    if kind == "blocks":
        layer, what = within[:2]
        return f"blocks.{layer}.{'attention' if what in ('norm1', 'attention') else 'feed_forward'}"
    if kind in ("embedding", "positions"):
        return "embedding"
    return None if is_tied else "head"


def _add(sums: dict[str, float], part: str | None, squares: float) -> None:
    if part is not None:
        sums[part] = sums.get(part, 0.0) + squares
