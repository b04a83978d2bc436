r"""A text in progress: from its next tokens to the logits of what follows, in one compiled call.

    tokens -> embedding, + positions -> L layers, keys and values into the cache -> norm -> head -> logits

The rows that are read at once are tokens of one text, of several, or both; each has a text and a position. In
a layer all rows write their keys and values before any row attends: a row sees the positions up to its own.
The formulas are those of the ops. All layers are stacked: every array of `Layers` has them as its first axis.
"""

import numpy as np

from handgrad.kernels import functions as f
from handgrad.kernels.activations import CUBIC, LEAK, SLOPE
from handgrad.kernels.few_rows import multiply
from handgrad.kernels.functions import ONE, TWO, ZERO
from handgrad.kernels.jit import apart, inner, kernel, reduction
from handgrad.kernels.loss import exponentials
from handgrad.kernels.norms import normalize

ACTIVATIONS = (
    "sigmoid", "tanh", "relu", "leaky_relu", "relu_squared", "gelu", "gelu_tanh", "silu", "prelu",
)  # fmt: skip
SIGMOID, TANH, RELU, LEAKY, SQUARED, GELU, GELU_TANH, SILU, PRELU = range(9)
"""Their numbers."""


@apart
def norm_rows(out, x, norms, layer, settings):
    for r in range(x.shape[0]):
        normalize(out[r], x[r], norms.gamma[layer], norms.beta[layer], settings.eps, settings.centred)


@apart
def activate(x, kind, alpha):
    """x becomes f(x)."""
    if kind == SIGMOID:
        for i in range(x.size):
            x[i] = f.sigmoid(x[i])
    elif kind == TANH:
        for i in range(x.size):
            x[i] = f.tanh(x[i])
    elif kind == RELU:
        for i in range(x.size):
            x[i] = ZERO if x[i] <= ZERO else x[i]
    elif kind == LEAKY:
        for i in range(x.size):
            x[i] = x[i] if x[i] > ZERO else LEAK * x[i]
    elif kind == SQUARED:
        for i in range(x.size):
            r = ZERO if x[i] <= ZERO else x[i]
            x[i] = r * r
    elif kind == GELU:
        for i in range(x.size):
            x[i] = x[i] * f.normal_cdf(x[i], f.bell(x[i]))
    elif kind == GELU_TANH:
        for i in range(x.size):
            z = x[i]
            x[i] = z * f.sigmoid(TWO * SLOPE * (z + CUBIC * z * z * z))
    elif kind == SILU:
        for i in range(x.size):
            x[i] = x[i] * f.sigmoid(x[i])
    else:
        for i in range(x.size):
            slope = alpha[0] if alpha.size == 1 else alpha[i]
            x[i] = x[i] if x[i] > ZERO else slope * x[i]


@inner
def turn(x, cos, sin):
    """Rotate neighbouring components of one head."""
    for i in range(cos.size):
        even, odd = x[2 * i], x[2 * i + 1]
        x[2 * i], x[2 * i + 1] = even * cos[i] - odd * sin[i], even * sin[i] + odd * cos[i]


@apart
def prepare(x, n_heads, norms, layer, position, ends, settings):
    """Normalize and turn each head of a row of queries or keys, where the model does."""
    K, every = settings.d_head, settings.unturned_every
    turns = ends.cos.size > 0 and not (every > 0 and (layer + 1) % every == 0)
    for n in range(n_heads):
        head = x[n * K : (n + 1) * K]
        gamma = norms.gamma[layer]
        if gamma.size:
            normalize(head, head, gamma, norms.beta[layer], settings.eps, False)
        if turns:
            turn(head, ends.cos[position], ends.sin[position])


@reduction
def dot(x, y):
    s = ZERO
    for i in range(x.size):
        s += x[i] * y[i]
    return s


@apart
def attend(out, q, keys, values, scores, scale):
    """out (K,) = softmax(scale q keys^T) values, for keys and values (n, K) of the positions seen."""
    n, K = scores.size, out.size
    for s in range(n):
        scores[s] = scale * dot(q, keys[s])
    z = ONE / exponentials(scores, f.largest(scores))
    for i in range(K):
        out[i] = ZERO
    for s in range(n):
        weight, row = scores[s] * z, values[s]
        for i in range(K):
            out[i] += weight * row[i]


@apart
def attention(out, qkv, cache, layer, rows, ends, layers, scratch, settings):
    """out (R, H K) = every head of every row; the rows' keys and values enter the cache."""
    H, G, K = settings.n_heads, settings.n_kv_heads, settings.d_head
    R, scale = out.shape[0], np.float32(ONE / np.sqrt(np.float32(K)))
    for r in range(R):
        row, text, position = qkv[r], rows.texts[r], rows.positions[r]
        prepare(row[: H * K], H, layers.query_norm, layer, position, ends, settings)
        prepare(row[H * K : (H + G) * K], G, layers.key_norm, layer, position, ends, settings)
        for g in range(G):
            key, to = row[(H + g) * K : (H + g + 1) * K], cache.keys[layer, text, g, position]
            val, into = row[(H + G + g) * K : (H + G + g + 1) * K], cache.values[layer, text, g, position]
            for i in range(K):
                to[i], into[i] = key[i], val[i]
    for r in range(R):
        row, text, n = qkv[r], rows.texts[r], rows.positions[r] + 1
        for h in range(H):
            g = h // (H // G)
            keys, values = cache.keys[layer, text, g, :n], cache.values[layer, text, g, :n]
            to, q = out[r, h * K : (h + 1) * K], row[h * K : (h + 1) * K]
            attend(to, q, keys, values, scratch.scores[:n], scale)


@apart
def feed_forward(y, h, layer, layers, wide, settings):
    F = settings.ff_width
    multiply(wide, h, layers.up.panels[layer], layers.up.bias[layer])
    for r in range(h.shape[0]):
        row = wide[r]
        activate(row[:F], settings.activation, layers.alpha[layer])
        if settings.gated:
            for i in range(F):
                row[i] *= row[F + i]
    multiply(y, wide[:, :F], layers.down.panels[layer], layers.down.bias[layer])


@apart
def add(x, y):
    for r in range(x.shape[0]):
        row, other = x[r], y[r]
        for i in range(row.size):
            row[i] += other[i]


@kernel
def read(logits, rows, cache, layers, ends, scratch, settings):
    """logits (rows.last, V filled up) of what follows; `cache` grows by the rows."""
    R, D = rows.token_ids.size, ends.embedding.shape[1]
    x, h, y, wide = scratch.x[:R], scratch.h[:R], scratch.y[:R], scratch.wide[:R]
    attended = scratch.attended[:R]
    for r in range(R):
        row, known = x[r], ends.embedding[rows.token_ids[r]]
        for i in range(D):
            row[i] = settings.scale * known[i]
        if ends.positions.shape[0]:
            code = ends.positions[rows.positions[r]]
            for i in range(D):
                row[i] += code[i]
    for layer in range(cache.keys.shape[0]):
        seen = x
        if settings.before:
            norm_rows(h, x, layers.norm1, layer, settings)
            seen = h
        multiply(wide, seen, layers.attend.panels[layer], layers.attend.bias[layer])
        attention(attended, wide, cache, layer, rows, ends, layers, scratch, settings)
        multiply(y, attended, layers.output.panels[layer], layers.output.bias[layer])
        add(x, y)
        if settings.before:
            norm_rows(h, x, layers.norm2, layer, settings)
        else:
            norm_rows(x, x, layers.norm1, layer, settings)
        feed_forward(y, h if settings.before else x, layer, layers, wide, settings)
        add(x, y)
        if not settings.before:
            norm_rows(x, x, layers.norm2, layer, settings)
    n = rows.last.size
    for i in range(n):
        to, source = h[i], x[rows.last[i]]
        for j in range(D):
            to[j] = source[j]
    if ends.norm.gamma.shape[1]:
        norm_rows(h[:n], h[:n], ends.norm, 0, settings)
    multiply(logits, h[:n], ends.head.panels[0], ends.head.bias[0])
