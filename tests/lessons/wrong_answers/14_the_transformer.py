# %% exercise 1: the path past the feed-forward block is forgotten
def post_backward(dy, saved):
    attention, norm1, feed_forward, norm2 = saved
    dx, *dnorm2 = ops.layer_norm.backward(dy, norm2)
    dh, *dfeed_forward = ops.feed_forward.backward(dx, feed_forward)
    dx, *dnorm1 = ops.layer_norm.backward(dh, norm1)
    dh, *dattention = ops.multi_head_attention.backward(dx, attention)
    norms = p.LayerNorm(*dnorm1), p.LayerNorm(*dnorm2)
    return dx + dh, p.Block(
        norms[0], p.MultiHeadAttention(*dattention), norms[1], p.FeedForward(*dfeed_forward)
    )


# %% exercise 1: the backward of a pre-norm block, norms after the layers (unnamed)
def post_backward(dy, saved):
    attention, norm1, feed_forward, norm2 = saved
    dh, *dfeed_forward = ops.feed_forward.backward(dy, feed_forward)
    dh, *dnorm2 = ops.layer_norm.backward(dh, norm2)
    dx = dy + dh
    dh, *dattention = ops.multi_head_attention.backward(dx, attention)
    dh, *dnorm1 = ops.layer_norm.backward(dh, norm1)
    norms = p.LayerNorm(*dnorm1), p.LayerNorm(*dnorm2)
    return dx + dh, p.Block(
        norms[0], p.MultiHeadAttention(*dattention), norms[1], p.FeedForward(*dfeed_forward)
    )


# %% exercise 2: keys and values as wide as queries
def count_llama(V, D, L, F, H, G):
    return L * (4 * D * D + 3 * D * F + 2 * D) + 2 * V * D + D


# %% exercise 2: a tied head, and the last norm forgotten
def count_llama(V, D, L, F, H, G):
    return L * (2 * D * D + 2 * D * (G * D // H) + 3 * D * F + 2 * D) + V * D


# %% exercise 3: targets are counted as if they were read
def zero_rows(token_ids, targets, vocab_size, tied):
    seen = {*token_ids.ravel(), *targets.ravel()}
    return [] if tied else [i for i in range(vocab_size) if i not in seen]


# %% exercise 3: the second use of a tied table is forgotten
def zero_rows(token_ids, targets, vocab_size, tied):
    return [i for i in range(vocab_size) if i not in token_ids]


# %% exercise 4: the table's gradient stands on its side
def my_head(x, weight):
    return x @ weight.T, (x, weight)


def my_head_backward(dz, saved):
    x, weight = saved
    return dz @ weight, x.reshape(-1, x.shape[-1]).T @ dz.reshape(-1, dz.shape[-1])
