r"""Where training starts: weights from a seeded generator.

Matrices are normal with standard deviation 0.02, and those that write into the residual stream (attention's
output, the feed-forward block's `down`) with $0.02/\sqrt{2L}$: the stream sums 2L such contributions, and
its variance should not grow with depth (Radford et al., GPT-2, 2019). Where embeddings are scaled by
$\sqrt{d_{model}}$ they start with $d_{model}^{-1/2}$, so that they enter with variance one, as large as the
sinusoids they meet. Biases start at 0, norms at 1 and 0, slopes of parametric ReLUs at 0.25 (He et al.,
2015).
"""

import math

import numpy as np

from handgrad import parameters as p
from handgrad.model.config import ModelConfig

DEVIATION = 0.02
SLOPE = 0.25


def init(config: ModelConfig, seed: int | np.random.Generator = 0, dtype: type = np.float32) -> p.Transformer:
    """New weights for `config`: the same seed gives the same weights."""
    rng = np.random.default_rng(seed)
    L, D, F = config.n_layers, config.d_model, config.ff_width

    def matrix(*shape: int, deviation: float = DEVIATION) -> np.ndarray:
        return (deviation * rng.standard_normal(shape)).astype(dtype)

    def linear(m: int, n: int, deviation: float = DEVIATION) -> p.Linear:
        return p.Linear(matrix(m, n, deviation=deviation), np.zeros(n, dtype) if config.bias else None)

    def norm() -> p.LayerNorm | p.RMSNorm:
        if config.norm == "rms_norm":
            return p.RMSNorm(np.ones(D, dtype))
        return p.LayerNorm(np.ones(D, dtype), np.zeros(D, dtype) if config.bias else None)

    def block() -> p.Block:
        into_stream = DEVIATION / math.sqrt(2 * L)
        kv_width = config.kv_heads * config.d_head
        head_norms = [p.RMSNorm(np.ones(config.d_head, dtype)) for _ in range(2)] if config.qk_norm else []
        attention = p.MultiHeadAttention(
            linear(D, D), linear(D, kv_width), linear(D, kv_width), linear(D, D, into_stream), *head_norms
        )
        feed_forward = p.FeedForward(
            linear(D, F),
            linear(F, D, into_stream),
            linear(D, F) if config.gated else None,
            np.full(F, SLOPE, dtype) if config.activation == "prelu" else None,
        )
        return p.Block(norm(), attention, norm(), feed_forward)

    return p.Transformer(
        embedding=matrix(config.vocab_size, D, deviation=D**-0.5 if config.scale_embedding else DEVIATION),
        positions=matrix(config.context_length, D) if config.position == "learned" else None,
        blocks=tuple(block() for _ in range(L)),
        norm=norm() if config.norm_placement == "pre" else None,
        head=None if config.tied else linear(D, config.vocab_size),
    )
