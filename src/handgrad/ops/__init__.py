"""The formulas: one file, one formula, each with its forward, its hand-derived backward and its cases.

    y, saved = op.forward(*inputs, **settings)
    gradients = op.backward(dy, saved)          # a tuple: one per float input, in argument order

Inputs stand before the star. Those of floats have gradients; token ids and other integers have none. Settings
stand behind the star. `saved` holds exactly what the backward needs. An op never writes to its inputs, keeps
their type, and takes its functions from their namespace, so the same file runs on NumPy and on JAX.
"""

from types import ModuleType

from handgrad.ops import (
    activation,
    attention,
    cross_entropy,
    dropout,
    embedding,
    erf,
    feed_forward,
    gated,
    gelu,
    gelu_tanh,
    layer_norm,
    leaky_relu,
    learned_position,
    linear,
    linear_stack,
    lora,
    mse,
    multi_head_attention,
    next_token_loss,
    prelu,
    relu,
    relu_squared,
    residual,
    rms_norm,
    rope,
    sigmoid,
    silu,
    sinusoidal_position,
    softmax,
    softmax_cross_entropy,
    tanh,
    unembedding,
)

GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "Affine layers": (linear, linear_stack, lora),
    "Activations": (
        sigmoid, tanh, relu, leaky_relu, prelu, relu_squared, gelu, gelu_tanh, erf, silu, softmax, gated,
        activation,
    ),
    "Losses": (mse, cross_entropy, softmax_cross_entropy, next_token_loss),
    "Attention": (attention, multi_head_attention),
    "Positions": (sinusoidal_position, learned_position, rope),
    "The rest of a block": (layer_norm, rms_norm, residual, feed_forward, dropout),
    "In and out": (embedding, unembedding),
}  # fmt: skip
"""Every op, sorted by what it is for."""

ALL: dict[str, ModuleType] = {
    op.__name__.rpartition(".")[2]: op
    for op in sorted((op for group in GROUPS.values() for op in group), key=lambda op: op.__name__)
}
"""Every op by its name, in alphabetical order."""

for _op in ALL.values():
    for _function in (_op.forward, _op.backward):  # so that help() and ? show the formula
        _function.__doc__ = _function.__doc__ or _op.__doc__
