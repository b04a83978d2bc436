r"""Where training starts: weights from a seeded generator.

Matrices are normal with standard deviation $0.02\sqrt{768/d_{model}}$: GPT-2's 0.02 at its width of 768,
and at others what keeps sums over $d_{model}$ inputs as large as there. Those that write into the residual
stream (attention's output, the feed-forward block's `down`) get $1/\sqrt{2L}$ of that: the stream sums 2L
such contributions, and its variance should not grow with depth (Radford et al., GPT-2, 2019). Embeddings
and learned positions, which are looked up and not summed over, have 0.02 at every width.

(nanoGPT uses 0.02 for all matrices at all widths. At 128, the width of its small recipes, that is so little
that training first has to make the weights grow: 2,000 steps end about 0.1 nats higher.)

Where embeddings are scaled by $\sqrt{d_{model}}$ they start with $d_{model}^{-1/2}$, so that they enter
with variance one, as large as the sinusoids they meet. Biases start at 0, norms at 1 and 0, slopes of
parametric ReLUs at 0.25 (He et al., 2015).
"""

import math
from collections.abc import Callable

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.errors import UserError
from handgrad.model.config import ModelConfig

DEVIATION = 0.02
WIDTH = 768
"""The width at which matrices have `DEVIATION`."""
SLOPE = 0.25
LISTED = 8
"""Names that an error lists of each kind."""


def init(config: ModelConfig, seed: int | np.random.Generator = 0, dtype: type = np.float32) -> p.Transformer:
    """New weights for `config`: the same seed gives the same weights."""
    rng = np.random.default_rng(seed)

    def normal(deviation: float, *shape: int) -> np.ndarray:
        return (deviation * rng.standard_normal(shape)).astype(dtype)

    return _build(config, normal, lambda value, *shape: np.full(shape, value, dtype))


def blank(config: ModelConfig) -> p.Transformer:
    """Weights for `config` to read a checkpoint into: nothing is drawn. They are views of one buffer, which
    goes back to the system whole."""
    like = shapes(config)
    return tree.views(np.zeros(tree.size(like), np.float32), like)


def shapes(config: ModelConfig) -> p.Transformer:
    """The shapes of the weights for `config`: zeros that take no memory and cannot be written."""

    def nothing(_: float, *shape: int) -> np.ndarray:
        return np.broadcast_to(np.float32(0), shape)

    return _build(config, nothing, nothing)


def require_weights_of(config: ModelConfig, weights: p.Transformer) -> None:
    """Raise `UserError` unless `weights` have the names and shapes of the weights for `config`."""
    require_shapes_of(config, {name: tuple(leaf.shape) for name, leaf in tree.named_leaves(weights)})


def require_shapes_of(config: ModelConfig, found: dict[str, tuple[int, ...]]) -> None:
    """Raise `UserError` unless `found` are the shapes, by name, of the weights for `config`."""
    expected = {name: leaf.shape for name, leaf in tree.named_leaves(shapes(config))}
    if found == expected:
        return
    wrong = [name for name in expected if name in found and found[name] != expected[name]]
    facts = {
        "they lack": sorted(expected.keys() - found.keys()),
        "the model has no": sorted(found.keys() - expected.keys()),
        "of another shape are": [f"{name}, {found[name]} instead of {expected[name]}" for name in wrong],
    }
    said = "; ".join(f"{what} {_listed(names)}" for what, names in facts.items() if names)
    raise UserError(f"These weights are another model's: {said}. Take its configuration.")


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return f"{shown}, and {len(names) - LISTED} more" if len(names) > LISTED else shown


Maker = Callable[..., np.ndarray]
"""Makes an array from a number, its deviation or its value, and its shape."""


def _build(config: ModelConfig, normal: Maker, constant: Maker) -> p.Transformer:
    """The tree of weights: `normal(deviation, *shape)` makes matrices, `constant(value, *shape)` the rest."""
    L, D, F = config.n_layers, config.d_model, config.ff_width
    deviation = DEVIATION * math.sqrt(WIDTH / D)
    into_stream = deviation / math.sqrt(2 * L)

    def linear(m: int, n: int, deviation: float = deviation, bias: bool = config.bias) -> p.Linear:
        return p.Linear(normal(deviation, m, n), constant(0.0, n) if bias else None)

    def norm() -> p.LayerNorm | p.RMSNorm:
        if config.norm == "rms_norm":
            return p.RMSNorm(constant(1.0, D))
        return p.LayerNorm(constant(1.0, D), constant(0.0, D) if config.bias else None)

    def block() -> p.Block:
        K, H, G = config.head_width, config.n_heads, config.kv_heads
        head_norms = [p.RMSNorm(constant(1.0, K)) for _ in range(2)] if config.qk_norm else []
        query, key, value = (linear(D, n * K, bias=config.has_qkv_bias) for n in (H, G, G))
        output = linear(H * K, D, into_stream)
        attention = p.MultiHeadAttention(query, key, value, output, *head_norms)
        feed_forward = p.FeedForward(
            linear(D, F),
            linear(F, D, into_stream),
            linear(D, F) if config.gated else None,
            constant(SLOPE, F) if config.activation == "prelu" else None,
        )
        return p.Block(norm(), attention, norm(), feed_forward)

    return p.Transformer(
        embedding=normal(D**-0.5 if config.scale_embedding else DEVIATION, config.vocab_size, D),
        positions=normal(DEVIATION, config.context_length, D) if config.position == "learned" else None,
        blocks=tuple(block() for _ in range(L)),
        norm=norm() if config.norm_placement == "pre" else None,
        head=None if config.tied else linear(D, config.vocab_size),
    )
