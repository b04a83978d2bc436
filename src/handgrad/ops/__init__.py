"""The formulas: one file, one formula, each with its forward, its hand-derived backward and its cases.

    y, saved = op.forward(*inputs, **settings)
    gradients = op.backward(dy, saved)          # a tuple: one per float input, in argument order

Inputs stand before the star and have gradients; settings stand behind it and have none. `saved` is exactly
what the backward needs. An op never writes to its inputs, keeps their type, and takes its functions from
their namespace, so the same file runs on NumPy and JAX.
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

ALL: dict[str, ModuleType] = {
    name: module
    for name, module in sorted(globals().items())
    if isinstance(module, ModuleType) and module.__package__ == __name__
}
"""Every op by its name: the modules imported above."""
