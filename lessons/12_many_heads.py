# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 12. Many heads
#
# *After this lesson you can cut a model's width into heads and put it together again, run multi-head
# attention forward and backward by hand, say what its four matrices compare and what they cost, let heads
# share keys and values, and see what the heads of a trained model came to look at.*
#
# Attention lets a position look back and take an average of what it finds. A word may want to know two
# things at once: which word stands before it, and where the last bracket was opened. Does one average hold
# two answers? If not, what does it cost to have several? And which questions does a model come to ask, when
# nobody tells it any?

# %%
from types import SimpleNamespace

import numpy as np

from handgrad import gradcheck, ops
from handgrad.lessons import exercise, knobs, practice, source
from handgrad.lessons.pictures import heads as pictures
from handgrad.parameters import Linear
from handgrad.plots import attention as attention_plots
from handgrad.plots import heads as plots
from handgrad.shapes import merge_heads, split_heads

# %% [markdown]
# ## One average is not two
#
# A small case in which all can be computed. Every position carries one random number of variance 1, and
# wants two: $a$, the number before it, and $b$, the one before that. One head may divide its attention
# between them, $p$ here and $1-p$ there, and finds
#
# $$y = p\,a + (1-p)\,b .$$
#
# What follows may multiply $y$ as it likes. The best estimate of $a$ is $c\,y$ with $c = p/(p^2+(1-p)^2)$,
# where the slope of the mean square error is zero, and likewise for $b$. The errors that remain are
#
# $$E_a = 1-\frac{p^2}{p^2+(1-p)^2},\qquad E_b = 1-\frac{(1-p)^2}{p^2+(1-p)^2},\qquad E_a + E_b = 1 .$$
#
# Two were wanted, and one is always missing: attention can only be moved from one to the other. A second
# head with probabilities of its own ends the dispute. One looks at the position before, the other at the one
# before that, and no error is left. Below we measure the errors, with the best multiples that a million
# positions can find, and draw the heads. In these maps each row is a position that asks, and its dark cells
# are where it looks.

# %%
rng = np.random.default_rng(0)
wanted = rng.normal(size=(1_000_000, 2))

print("   p  error of a  error of b   sum")
for p in (1.0, 0.8, 0.5, 0.0):
    y = wanted @ [p, 1 - p]
    best = wanted.T @ y / (y @ y)
    errors = np.mean((wanted - best * y[:, None]) ** 2, axis=0)
    print(f"{p:4.1f}  {errors[0]:10.3f}  {errors[1]:10.3f}  {sum(errors):4.2f}")

# %%
one_back, two_back = np.eye(6, k=-1), np.eye(6, k=-2)
one_back[0, 0] = two_back[0, 0] = two_back[1, 0] = 1  # the first ones have nowhere else to look
attention_plots.maps(
    np.array([(one_back + two_back) / 2, one_back, two_back]),
    list("asking"),
    titles=["one head, p = 0.5", "two heads: the first", "and the second"],
)

# %% [markdown]
# To be fair: values in a model have many numbers and not one, and an uneven average of two *long* values may
# still let both be recognized. But they lie upon each other in the same columns, and what softmax gives to
# one it takes from the other. Heads have columns of their own, and a softmax of their own.
#
# ## Cutting the width
#
# More heads need not be more work. Multi-head attention keeps the width $D$ of the model and cuts it into
# $H$ heads of $K = D/H$ columns each. The numbers in the picture are names, not values: the place of each
# number in the memory of $x$. Turn the knob, and see that nothing is computed.
#
# Columns stay columns and positions stay positions, but their order in memory changes. That is why cutting
# takes two moves: the last axis is divided, $(B, T, D) \to (B, T, H, K)$, and then heads and positions
# change places, $(B, H, T, K)$. A reshape straight to the last shape runs without complaint, and mixes the
# positions, as the cell below the picture shows.


# %%
def cut(n_heads):
    return plots.shapes(n_heads)


knobs.turn(cut, n_heads=[1, 2, 4, 8])

# %%
x = np.arange(12.0).reshape(1, 2, 6)  # two positions of six numbers
print("the first head, cut:     ", split_heads(x, 2)[0, 0].tolist())
print("the first head, reshaped:", x.reshape(1, 2, 2, 3)[0, 0].tolist(), "(all of one position)")
source.show(split_heads, merge_heads)

# %% [markdown]
# A move of numbers is a matrix with a single 1 in each row and column, and the transpose of such a matrix
# moves them back. So the backward of `split_heads` is `merge_heads`, and the other way round.
#
# ## Forward
#
# Three matrices make queries, keys and values of the same $X$, a fourth mixes what the heads have found:
#
# $$Q = XW_Q,\quad K = XW_K,\quad V = XW_V,\qquad \operatorname{head}_h = \operatorname{softmax}\Big(\frac{Q_h
# K_h^\top}{\sqrt{d_{head}}}\Big)V_h,\qquad Y = \operatorname{concat}(\operatorname{head}_1,\dots,
# \operatorname{head}_H)\,W_O .$$
#
# $d_{head}$ is the width of one head, the $K$ of the shapes. (Vaswani et al., "Attention is all you need",
# 2017.) Below, line by line, and then as the library has it:

# %%
rng = np.random.default_rng(1)
T, D, H, K = 5, 12, 4, 3
x = rng.normal(size=(1, T, D))
w_q, w_k, w_v, w_o = rng.normal(size=(4, D, D)) / D**0.5
causal = np.tri(T, dtype=bool)

q, k, v = (split_heads(x @ w, H) for w in (w_q, w_k, w_v))
scores = np.where(causal, q @ np.matrix_transpose(k) / K**0.5, -np.inf)
probs, _ = ops.softmax.forward(scores)
found = merge_heads(probs @ v)
y = found @ w_o

weights = [Linear(w) for w in (w_q, w_k, w_v, w_o)]
same, saved = ops.multi_head_attention.forward(x, *weights, n_heads=H, n_kv_heads=H)
print(f"largest difference from the library's: {np.max(np.abs(y - same)):.0e}")
source.show(ops.multi_head_attention.forward)

# %% [markdown]
# *What it costs.* The four matrices have $4D^2$ numbers. A token is multiplied with each of them, $8D^2$
# operations, and meets $T$ keys and $T$ values of $K$ numbers in each of $H$ heads: $4T\,HK = 4TD$ more. $H$
# has cancelled. Many heads cost what one costs, and each pays by being narrow.
#
# ## What a head compares, and what it writes
#
# Put the definitions of $Q_h$ and $K_h$ into the scores. With $W_Q^h$ for the $K$ columns of a head,
#
# $$Q_hK_h^\top = XW_Q^h\,\big(XW_K^h\big)^\top = X\,M_h\,X^\top,\qquad M_h = W_Q^h\,(W_K^h)^\top .$$
#
# So a head compares positions by *one* matrix of $D\times D$ numbers, but one of rank $K$ at most: it sees
# $K$ directions of the width, and is blind to the others. $M_h$ need not be symmetric: what a position asks
# for is not what it offers. And only the product counts: for any invertible $A$, the pair $W_Q^hA$ and
# $W_K^hA^{-\top}$ is the same head.
#
# At the other end, a product with concatenated columns is a sum over their parts. With $W_O^h$ for the $K$
# *rows* of $W_O$ that belong to a head,
#
# $$\begin{aligned}
# Y &= \sum_h \operatorname{head}_h W_O^h\\
# &= \sum_h P_hX\,(W_V^hW_O^h) .
# \end{aligned}$$
#
# The heads do not see each other: each adds its own part to the result, again through a $D\times D$ matrix of
# rank $K$ at most. (This reading is Elhage et al.'s, "A mathematical framework for transformer circuits",
# 2021.) Below, both formulas are compared with what we computed. The ranks show the price of being narrow,
# and that four heads of rank 3 may see all twelve directions together.

# %%
columns = [slice(h * K, (h + 1) * K) for h in range(H)]
compares = [w_q[:, c] @ w_k[:, c].T for c in columns]
writes = [w_v[:, c] @ w_o[c] for c in columns]

by_product = np.array([x[0] @ m @ x[0].T for m in compares]) / K**0.5
print("scores by M:      ", np.allclose(by_product[:, causal], scores[0][:, causal]))
print("output by a sum:  ", np.allclose(sum(probs[0, h] @ x[0] @ writes[h] for h in range(H)), y[0]))
print("ranks of M_h:     ", [int(np.linalg.matrix_rank(m)) for m in compares], "of", D)
print("rank of their sum:", np.linalg.matrix_rank(sum(compares)))

# %% [markdown]
# ## Backward
#
# From the last line to the first. Write $C$ for the heads side by side, as they meet $W_O$, and $dC_h$ for
# the columns of its gradient that belong to one head. Inside a head the backward is that of attention:
#
# $$dW_O = C^\top dY,\qquad dC = dY\,W_O^\top$$
#
# $$dV_h = P_h^\top dC_h,\qquad dP_h = dC_hV_h^\top,\qquad dS_h = P_h *
# \big(dP_h-\operatorname{rowsum}(dP_h*P_h)\big)$$
#
# $$dQ_h = \frac{dS_hK_h}{\sqrt{d_{head}}},\qquad dK_h = \frac{dS_h^\top Q_h}{\sqrt{d_{head}}};\qquad
# dW_Q = X^\top dQ,\quad dW_K = X^\top dK,\quad dW_V = X^\top dV$$
#
# New is only the last step. $X$ was used three times. Move it by a small $U$: then $Q$ moves by $UW_Q$, $K$
# by $UW_K$ and $V$ by $UW_V$, and the loss by
#
# $$\begin{aligned}
# & \langle dQ, UW_Q\rangle + \langle dK, UW_K\rangle + \langle dV, UW_V\rangle\\
# & = \langle dQ\,W_Q^\top + dK\,W_K^\top + dV\,W_V^\top, U\rangle ,
# \end{aligned}$$
#
# where $\langle A, B\rangle$ is the sum of all products $A_{ij}B_{ij}$. What stands beside $U$ is the
# gradient: $dX = dQ\,W_Q^\top + dK\,W_K^\top + dV\,W_V^\top$. Three uses, a sum of three.

# %%
dy = rng.normal(size=y.shape)
dheads = split_heads(dy @ w_o.T, H)
dv = np.matrix_transpose(probs) @ dheads
dprobs = dheads @ np.matrix_transpose(v)
dscores = probs * (dprobs - np.sum(dprobs * probs, axis=-1, keepdims=True)) / K**0.5
dq, dk = dscores @ k, np.matrix_transpose(dscores) @ q
dq, dk, dv = merge_heads(dq), merge_heads(dk), merge_heads(dv)
dx = dq @ w_q.T + dk @ w_k.T + dv @ w_v.T

dx_library, dquery, *_ = ops.multi_head_attention.backward(dy, saved)
print(f"dX and the library's differ by   {np.max(np.abs(dx - dx_library)):.0e}")
print(f"dW_Q and the library's differ by {np.max(np.abs(x[0].T @ dq[0] - dquery.weight)):.0e}")
source.show(ops.multi_head_attention.backward)

# %% [markdown]
# Two that agree may share a mistake. So the proof, which knows nothing but the forward: along a random
# direction, does the output move as the backward says? It also notices what is easily forgotten. Below it
# judges a backward that leaves out the path through the values; and PyTorch, where it is installed, gives
# its own answer.


# %%
def without_the_values(dy, saved):
    dx, *others = ops.multi_head_attention.backward(dy, saved)
    _, _, dv = ops.attention.backward(split_heads(dy @ w_o.T, H), saved.attention)
    return dx - merge_heads(dv) @ w_v.T, *others


forgetful = SimpleNamespace(forward=ops.multi_head_attention.forward, backward=without_the_values)
inputs = {"x": x, "query": weights[0], "key": weights[1], "value": weights[2], "output": weights[3]}
inputs |= {"n_heads": H, "n_kv_heads": H}
for proof in gradcheck.check(ops.multi_head_attention, inputs, np.random.default_rng(2)):
    print(f"{proof.input:13} relative error {proof.relative_error:.1e}")
proof, *_ = gradcheck.check(forgetful, inputs, np.random.default_rng(2))
print(f"x, forgetful  relative error {proof.relative_error:.1e}")

# %%
try:
    import torch
except ImportError:
    print("PyTorch is not installed: skipped.")
else:
    peer = torch.nn.MultiheadAttention(D, H, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        peer.in_proj_weight.copy_(torch.tensor(np.concatenate([w_q, w_k, w_v], axis=1).T))
        peer.out_proj.weight.copy_(torch.tensor(w_o.T))
    leaf = torch.tensor(x, requires_grad=True)
    theirs, _ = peer(leaf, leaf, leaf, attn_mask=torch.tensor(~causal))
    theirs.backward(torch.tensor(dy))
    print(f"y and PyTorch's differ by  {np.max(np.abs(theirs.detach().numpy() - y)):.0e}")
    print(f"dX and PyTorch's differ by {np.max(np.abs(leaf.grad.numpy() - dx)):.0e}")

# %% [markdown]
# ## Masks, and a query that may look at nothing
#
# A mask says which key a query may see; the score of every other is $-\infty$ and its probability zero.
# `causal` is the mask of a model that writes. `mask=` adds one of your own: for sentences that were filled up
# with padding, say, or for a window of the last few positions. Its shape is $(T, S)$, for $T$ queries and $S$
# keys, or $(B, H, T, S)$ with 1 in place of any size. Booleans are True where a query may look; floats are
# added to the scores. Here all heads share one mask; what it forbids is hatched. Dashes stand for padding.

# %%
tokens = ["we", "see", "the", "sea", "-", "-"]
real = np.array([True, True, True, True, False, False])
distance = np.arange(6)[:, None] - np.arange(6)
masks = {
    "all may see all": np.ones((6, 6), bool),
    "no padding": np.broadcast_to(real, (6, 6)),
    "causal": distance >= 0,
    "causal, no padding": (distance >= 0) & real,
    "the last three": (distance >= 0) & (distance < 3),
    "padding sees nothing": (distance >= 0) & real & real[:, None],
}
sentence = np.random.default_rng(3).normal(size=(1, 6, D))


def look(mask):
    settings = {"n_heads": H, "n_kv_heads": H, "causal": False, "mask": masks[mask]}
    _, saved = ops.multi_head_attention.forward(sentence, *weights, **settings)
    probs, names = saved.attention.probs.y[0, :, 0], [f"head {head}" for head in range(H)]
    return attention_plots.maps(probs, tokens, allowed=masks[mask], titles=names, columns=2)


knobs.turn(look, mask=list(masks))

# %% [markdown]
# The last mask leaves two queries without any key. Softmax would divide zero by zero, and its NaN would
# spread into every number of the loss. The library's answer is a row of zeros: who may look at nothing finds
# nothing, and passes no gradient.
#
# *Dropout* falls on the probabilities: some are set to zero, the others grow by $1/(1-\text{rate})$. A row
# then no longer sums to one, but its mean over many draws is what it was. The model learns not to hang
# everything on one key.

# %%
settings = {"n_heads": H, "n_kv_heads": H, "mask": masks["padding sees nothing"]}
y, saved = ops.multi_head_attention.forward(sentence, *weights, **settings)
dsentence, *_ = ops.multi_head_attention.backward(np.ones_like(y), saved)
print("output of the last two:  ", np.abs(y[0, -2:]).max())
print("their gradient:          ", np.abs(dsentence[0, -2:]).max())

draws = np.random.default_rng(4)
_, saved = ops.multi_head_attention.forward(sentence, *weights, **settings, dropout=0.3, rng=draws)
row = saved.attention.probs.y[0, 0, 0, 3]
many = [ops.dropout.forward(row, rate=0.3, rng=draws)[0] for _ in range(10_000)]
print("a row of probabilities:  ", row.round(2))
print("after dropout:           ", saved.attention.dropped[0, 0, 0, 3].round(2))
print("the mean of 10,000 draws:", np.mean(many, axis=0).round(2))

# %% [markdown]
# ## Sharing keys and values
#
# While a model writes, the keys and values of all earlier tokens lie in the KV cache, and every new token
# reads all of it. It is often this memory that limits how much a computer can serve. *Grouped queries* make
# it smaller: there are $G$ key-value heads, fewer than query heads, and $R = H/G$ neighbouring query heads
# share each. With $G = 1$ all share one. (Shazeer, "Fast transformer decoding: one write-head is all you
# need", 2019; Ainslie et al., "GQA: training generalized multi-query transformer models from multi-head
# checkpoints", 2023.)
#
# Sharing is using more than once, and the rule is the one of $X$ above: the gradient of a shared head is the
# *sum* over those that share it. To see it, give each query head a copy of its own, and add the gradients of
# the copies.
#
# A cache keeps $2\,G\,K$ numbers for each token and layer. The picture shows what that makes of GPT-2's
# twelve heads, for one text of its full length in float32.

# %%
rng = np.random.default_rng(5)
q = rng.normal(size=(1, 4, T, K))  # four query heads
k, v = rng.normal(size=(2, 1, 2, T, K))  # two heads of keys and values
dy = rng.normal(size=q.shape)

_, shared = ops.attention.forward(q, k, v)
_, copied = ops.attention.forward(q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1))
_, dk, _ = ops.attention.backward(dy, shared)
_, dcopies, _ = ops.attention.backward(dy, copied)
print("gradients of shared keys and of copies:", dk.shape, dcopies.shape)
sums = dcopies.reshape(1, 2, 2, T, K).sum(axis=2)
print(f"the sums over the copies differ by {np.max(np.abs(sums - dk)):.0e}")

# %%
from handgrad.model.config import preset
from handgrad.model.count import count

gpt2 = preset("gpt2")
pictures.cache_memory(
    {
        g: gpt2.context_length * count(gpt2.replace(n_kv_heads=g)).kv_cache_bytes_per_token["float32"]
        for g in (12, 6, 4, 3, 2, 1)
    }
)

# %% [markdown]
# ## What heads come to look at
#
# Now a trained model: four layers of four heads that read characters, trained for half a minute on Python's
# language reference. (If there is none yet in `runs/lessons`, it is trained now.) Nobody told any head what
# to do. `saved` holds what each of them did. Layers and heads are counted from 0, as in the arrays.

# %%
from handgrad.data import corpus
from handgrad.model.init import init
from handgrad.model.transformer import Transformer

model = practice.model()


def look_inside(weights, token_ids):
    """The probabilities of every layer and head, (L, H, B, T, T)."""
    _, saved = Transformer(model.config).forward(weights, token_ids)
    return np.array([block.attention.attention.probs.y[:, :, 0].swapaxes(0, 1) for block in saved.blocks])


text = "if x in index:"
names = [f"layer {layer}, head {head}" for layer in range(4) for head in range(4)]
maps = look_inside(model.weights, model.tokenizer.encode(text)[None])
attention_plots.maps(maps[:, :, 0].reshape(16, len(text), len(text)), list(text), titles=names)

# %% [markdown]
# (The dots are spaces.) Look for lines along the diagonal: one cell below it is the character just before.
# Look for dark columns: a place at which many later ones look, here often a space, the border of a word. And
# look at the rows of the second `i` and the second `x`: is the first of its kind darker than its neighbours?
# In some heads it is.
#
# But one line of text tempts one to tell stories. So we measure, on 32 pieces of the text that training did
# not see: how far back a head looks, how much it gives to the character just before, how much to earlier
# places of the character where it stands, and the entropy $-\sum p\ln p$ of its rows, which is high where it
# spreads. The dashed line is a head that looks at everything evenly. Turn the knob to see what training made
# of the heads.

# %%
reach = model.config.context_length
back = np.arange(reach)[:, None] - np.arange(reach)
unseen = model.tokenizer.encode(corpus.embedded().text)[-32 * reach :].reshape(32, reach)
same_character = (unseen[:, :, None] == unseen[:, None, :]) & (back > 0)


def measures(probs):
    logs = np.log(np.maximum(probs, 1e-30))
    rows = {
        "characters back": np.sum(probs * back, axis=-1),
        "share of the character before": np.sum(probs * (back == 1), axis=-1)[..., 1:],
        "share of the same character": np.sum(probs * same_character, axis=-1),
        "entropy (nats)": -np.sum(probs * logs, axis=-1),
    }
    return {name: row.mean(axis=(-2, -1)) for name, row in rows.items()}


# %%
evenly = np.tri(reach) / np.arange(1, reach + 1)[:, None]
reference = measures(np.broadcast_to(evenly, same_character.shape))
references = {name: value.item() for name, value in reference.items()}
stages = {"untrained": init(model.config), "trained": model.weights}
results = {stage: measures(look_inside(weights, unseen)) for stage, weights in stages.items()}
tops = {name: 1.1 * max(np.max(r[name]) for r in results.values()) for name in references}


def compare(weights):
    return pictures.scores_of_heads(results[weights], references=references, tops=tops)


knobs.turn(compare, weights=list(stages))

# %% [markdown]
# What we can say, from this model and two others that we trained with other seeds: before training every
# head looks about evenly. Afterwards all are more decided. The heads of the first layer look near, and give
# the character just before them more than an even share; further up they look further back, and many give
# more than an even share to earlier places of the same character. *Which* head does what differs from seed
# to seed: heads start alike, and small accidents decide who takes which part. And at this size, after so few
# steps, the parts are tendencies, and few heads are pure.
#
# Keep one thing apart: a map shows where a head looks, not whether it matters. What it takes from there
# still passes through $W_V^hW_O^h$, and may be small, or be ignored. Whether a head matters one learns by
# silencing it and reading the loss, as lesson 17 does.
#
# ## Exercises
#
# ### Exercise 1: putting heads together
#
# Write `merge`, which takes $x$ of the shape $(B, H, T, K)$ and returns the shape $(B, T, HK)$, with
# `swapaxes` and `reshape` alone; and `merge_backward`, which takes $dy$ of the shape $(B, T, HK)$ and the
# number of heads, and returns $dx$. The proof judges the pair.


# %% tags=["exercise"]
def merge(x):
    return ...


def merge_backward(dy, n_heads):
    return ...


# %% tags=["check"]
def judge_merge(merge, answer):
    def merge_backward(dy, n_heads):
        return (answer(dy, n_heads),)

    x = np.arange(48.0).reshape(2, 3, 4, 2)
    return exercise.function(merge, merge_heads, x) and exercise.gradient(
        lambda x: (merge(x), x.shape[1]), merge_backward, x=x
    )


judge_merge(merge, merge_backward)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# *Cutting the width* takes two moves from $(B, T, D)$ to $(B, H, T, K)$, and shows what a single reshape does
# to the positions. What undoes each move, and in which order?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A reshape joins axes that stand side by side, so the heads must first come next to their columns:
# $(B, H, T, K) \to (B, T, H, K) \to (B, T, HK)$. Nothing is computed on the way, so the backward only brings
# each number of $dy$ back to its place in $x$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `swapaxes(1, 2)` exchanges heads and positions in both functions. In `merge` it comes first; in
# `merge_backward` it comes last, after a reshape of $dy$ to $(B, T, H, K)$ and not to $(B, H, T, K)$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Heads and positions change places, then the last two axes become one. Backward, the same two moves in the
# opposite order: divide the last axis, change places.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def merge(x):
    B, H, T, K = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * K)


def merge_backward(dy, n_heads):
    B, T, D = dy.shape
    return dy.reshape(B, T, n_heads, D // n_heads).swapaxes(1, 2)


judge_merge(merge, merge_backward)

# %% [markdown]
# ### Exercise 2: build a head by hand
#
# Let the input say nothing but the position: six positions, and the vector of position $i$ is the $i$-th row
# of the identity. Write down $W_Q$ as `query` and $W_K$ as `key`, both $6\times6$, so that from the second
# position on a causal head gives at least 99 % of its attention to the position before. (The scores are
# divided by $\sqrt6$.)

# %% tags=["exercise"]
query = ...
key = ...


# %% tags=["check"]
def looks_at_the_one_before(matrices):
    query, key = matrices
    positions = np.eye(6)[None, None]
    _, saved = ops.attention.forward(positions @ query, positions @ key, positions)
    return np.all(np.diag(saved.probs.y[0, 0, 0], k=-1) >= 0.99)


exercise.claim(
    (query, key), looks_at_the_one_before, "99 % on the position before, at every one but the first"
)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# *What a head compares, and what it writes* has the scores as $XM_hX^\top$. What is left of this when $X$ is
# the identity, and which entries say how much each position looks at the one before?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The scores are $W_QW_K^\top/\sqrt6$, with a row for each query and a column for each key. Let $W_K$ be the
# identity; then $W_Q$ needs the same large number $c$ in row $i$ and column $i - 1$ for every position $i$
# but the first, and zeros elsewhere.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.eye(6, k=-1)` has its ones in these places (`k=1` would look ahead), and the factor is $c$. The last row
# decides how large: one score $s = c/\sqrt6$ stands against five zeros, so solve $e^s/(e^s + 5) = 0.99$ for
# $s$, and take a larger $c$ than that needs.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Scores are $X M X^\top = M$, as $X$ is the identity: what is asked for is $M = W_QW_K^\top$ with large
# numbers one below the diagonal, and zeros elsewhere. Keys may stay as they are, so $W_K$ is the identity,
# and $W_Q$ asks of each position for the one before. How large? A row has at most six keys, five of them with
# the score 0, so with $s$ for the large one $e^s/(e^s+5)\ge0.99$ must hold: $s\ge\ln 495\approx6.2$, times
# $\sqrt6$ about 15.2. We take 20.
#
# This $M$ has rank 5, so a head that computes it is at least five wide. Two columns are enough if they put
# the positions on a circle: there the one before is a rotation away.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
query = 20 * np.eye(6, k=-1)
key = np.eye(6)
exercise.claim(
    (query, key), looks_at_the_one_before, "99 % on the position before, at every one but the first"
)

# %% [markdown]
# ### Exercise 3: the price of a layer of heads
#
# Take one multi-head attention of the width $D$ without biases, with $H$ query heads and $G$ key-value heads,
# reading $T$ positions. Write `price`, which returns a tuple of three numbers: its parameters; the operations
# of its forward pass for one token, multiplications and additions of its products each counted, as if nothing
# were masked; and how many numbers it puts into the KV cache for one token.


# %% tags=["exercise"]
def price(d_model, n_heads, n_kv_heads, T):
    return ...


# %% tags=["check"]
def counted(d_model, n_heads, n_kv_heads, T):
    """What a second layer adds to the library's count, less its feed-forward block, one neuron wide."""
    config = preset("nano").replace(
        d_model=d_model, n_heads=n_heads, n_kv_heads=n_kv_heads, context_length=T, d_ff=1, n_layers=1
    )
    one, two = count(config), count(config.replace(n_layers=2))
    return (
        two.matrix_parameters - one.matrix_parameters - 2 * d_model,
        two.forward_flops_per_token - one.forward_flops_per_token - 4 * d_model,
        (two.kv_cache_bytes_per_token["float32"] - one.kv_cache_bytes_per_token["float32"]) // 4,
    )


exercise.function(price, counted, (12, 4, 4, 5), (128, 4, 4, 64), (384, 6, 2, 256), (768, 12, 1, 1024))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# *What it costs*, at the end of *Forward*, counts a layer in which each query head has keys and values of its
# own, and *Sharing keys and values* says what $G$ changes. Which of the four matrices become narrower?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $K = D/H$, two of the matrices have the shape $(D, GK)$, and two stay $(D, D)$. The operations are
# those of the four products with matrices and those of scores and averages, in which each of the $H$ query
# heads meets $T$ keys and $T$ values; those of softmax are not counted.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# For one token each parameter costs a multiplication and an addition. A score costs $2K$ operations, for $T$
# keys in each of $H$ heads, and the averages cost the same again; then put in $HK = D$. For the cache, count
# $K$ numbers for a key and $K$ for a value in each of the $G$ heads.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $W_Q$ and $W_O$ are $D\times D$, $W_K$ and $W_V$ are $D\times GK$. Every parameter is multiplied once with
# each token, and added: two operations. The scores of all heads take $2T\,HK = 2TD$ operations, the averages
# as many, and sharing does not change that: each query still meets $T$ keys. The cache holds a key and a
# value, of $GK$ numbers each.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def price(d_model, n_heads, n_kv_heads, T):
    kv_width = n_kv_heads * (d_model // n_heads)
    parameters = 2 * d_model**2 + 2 * d_model * kv_width
    return parameters, 2 * parameters + 4 * T * d_model, 2 * kv_width


exercise.function(price, counted, (12, 4, 4, 5), (128, 4, 4, 64), (384, 6, 2, 256), (768, 12, 1, 1024))

# %% [markdown]
# ## Where next
#
# Attention is one layer, and a model stacks many. Lesson 13, *Normalization and residuals*, asks why a deep
# stack does not learn by itself, and what makes it learn.
