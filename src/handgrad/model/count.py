r"""What a configuration costs: parameters, floating-point operations, bytes.

A product of a row with an (m, n) matrix is m n multiplications and as many additions, $2mn$ operations.
Forward, each token meets every matrix once (a tied embedding is the head's matrix; looking a row up is no
product), and attention multiplies each query with the keys and the probabilities with the values:
$2\cdot2\,T\,H d_{head}$ a layer, as if nothing were masked, which is how such figures are usually quoted.
Backward does each product twice, once for the input and once for the weight.

Source of the accounting: Chowdhery et al., PaLM (2022), arXiv:2204.02311, appendix B.
"""

from dataclasses import dataclass

from handgrad.model.config import ModelConfig


@dataclass(frozen=True)
class Count:
    """The cost of one configuration."""

    parameters: int
    """Learned numbers; a tied embedding counts once."""
    matrix_parameters: int
    """Those that every token is multiplied with."""
    forward_flops_per_token: int
    training_flops_per_token: int
    weight_bytes: int
    """float32 weights."""
    training_bytes: int
    """float32 weights, gradient, and Adam's two moments: what training keeps besides activations."""
    kv_cache_bytes_per_token: dict[str, int]
    """By what keys and values are kept in; with int8 there is a float32 scale for each of a head."""


def matrix_shapes(config: ModelConfig) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Shapes (d_in, d_out) of the matrices that tokens are multiplied with: of a block, and of the head."""
    D, F, K = config.d_model, config.ff_width, config.head_width
    H, G = config.n_heads, config.kv_heads
    attention = [(D, H * K), (D, G * K), (D, G * K), (H * K, D)]
    feed_forward = [(D, F), (F, D), *([(D, F)] if config.gated else [])]
    return attention + feed_forward, [(D, config.vocab_size)]


def count(config: ModelConfig) -> Count:
    """Count what `config` costs, from its numbers alone: nothing is allocated."""
    D, F, L, K = config.d_model, config.ff_width, config.n_layers, config.head_width
    bias, qkv_width = int(config.bias), (config.n_heads + 2 * config.kv_heads) * K
    norm = D * (2 if config.norm == "layer_norm" and config.bias else 1)

    block, _ = matrix_shapes(config)
    block_matrices = sum(m * n for m, n in block)
    block_biases = bias * sum(n for _, n in block) + (config.has_qkv_bias - bias) * qkv_width
    slopes = F if config.activation == "prelu" else 0
    head_norms = 2 * K if config.qk_norm else 0
    blocks = L * (block_matrices + block_biases + 2 * norm + slopes + head_norms)

    embedding = config.vocab_size * D
    positions = config.context_length * D if config.position == "learned" else 0
    final_norm = norm if config.norm_placement == "pre" else 0
    head = 0 if config.tied else embedding + bias * config.vocab_size
    parameters = embedding + positions + blocks + final_norm + head

    matrices = L * block_matrices + embedding
    forward_flops = 2 * matrices + L * 4 * config.context_length * config.n_heads * K
    return Count(
        parameters=parameters,
        matrix_parameters=matrices,
        forward_flops_per_token=forward_flops,
        training_flops_per_token=3 * forward_flops,
        weight_bytes=4 * parameters,
        training_bytes=16 * parameters,
        kv_cache_bytes_per_token={
            kind: 2 * L * config.kv_heads * n_bytes
            for kind, n_bytes in {"float32": 4 * K, "bfloat16": 2 * K, "int8": K + 4}.items()
        },
    )
