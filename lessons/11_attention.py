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
# # 11. Attention, forward and backward
#
# *After this lesson you can compute attention by hand, say why it is scaled and what its mask does, derive
# each of its gradients and prove them, and compute it without ever storing all its probabilities.*
#
# Guess the next word: *She put the letter into the drawer and locked it. When the key turned up years later,
# she opened the ...* What helps is *drawer*, and that it was *locked*; most of the other words hardly matter.
# So each token has a question: *which of the earlier ones matter to me, and what do they tell me?* Attention
# is the part of a transformer that asks it, for all tokens at once.

# %%
import numpy as np

from handgrad import gradcheck
from handgrad.lessons import exercise, knobs, mine, source, terms
from handgrad.lessons.pictures import attention as pictures
from handgrad.ops import attention, softmax
from handgrad.plots import attention as plots

# %% [markdown]
# ## A soft lookup
#
# A Python dictionary looks a query up among keys: the one key that equals it gives its value, all others give
# nothing. No gradient can get through that, as "equal" has no slope. Make it soft. Queries, keys and values
# are vectors; the scalar product of a query and a key says how well they match; and the result is a mean of
# *all* values, weighted by softmax of the matches. With one row a token, in matrices:
#
# $$S = \frac{QK^\top}{\sqrt d},\qquad P = \operatorname{softmax}(S),\qquad Y = P\,V$$
#
# (Vaswani et al., "Attention is all you need", 2017.) $S_{ij}$ is the *score* of key $j$ for query $i$.
# Softmax makes each row of scores into probabilities, positive numbers with the sum 1. $d$ is the length of a
# query, and why its root is there we shall see. Where do the three come from? Each token has a row of $X$,
# and three matrices of weights, which are learned, make of it what the token asks for, what it answers to and
# what it tells:
#
# $$Q = X\,W_Q,\qquad K = X\,W_K,\qquad V = X\,W_V$$
#
# All three are made of the *same* text, which so looks at itself: this is *self-attention*.
#
# A model that continues texts must not look at what comes later. Scores of later keys are therefore replaced
# by $-\infty$ before the softmax, and since $e^{-\infty} = 0$, their probabilities are zero. This is the
# *causal mask*.
#
# ## By hand
#
# Three tokens, with queries, keys and values of two numbers. The queries are chosen such that all fractions
# come out even, for example the third: $q_3 = \sqrt2\,(\ln 2, \ln 3)$.
#
# $$K = \begin{pmatrix}1&0\\0&1\\0&0\end{pmatrix},\qquad V = \begin{pmatrix}12&0\\0&12\\12&12\end{pmatrix}$$
#
# $$S_3 = \frac{q_3 K^\top}{\sqrt2} = (\ln 2, \ln 3, 0),\qquad
# P_3 = \frac{(2, 3, 1)}{2 + 3 + 1} = \Big(\frac13, \frac12, \frac16\Big)$$
#
# $$\begin{aligned}
# Y_3 &= \tfrac13\,(12, 0) + \tfrac12\,(0, 12) + \tfrac16\,(12, 12)\\
# &= (6, 8)
# \end{aligned}$$
#
# The second token sees two keys, with the scores $\ln 3$ and $0$: probabilities $\frac34$ and $\frac14$, and
# the output $(9, 3)$. The first sees itself alone, and its output is its own value. The picture shows all
# three, with what the mask forbids hatched:

# %%
q = np.sqrt(2) * np.log([[5.0, 1.0], [3.0, 1.0], [2.0, 3.0]])
k = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
v = np.array([[12.0, 0.0], [0.0, 12.0], [12.0, 12.0]])
y, _ = attention.forward(q[None, None], k[None, None], v[None, None])  # one text, one head
print("the library says:", y[0, 0].round(10).tolist())
plots.steps(q, k, v)

# %% [markdown]
# Now from the tokens on. Two tokens of two numbers, $X$ the identity, so that $Q$, $K$ and $V$ are the
# matrices themselves. The first token looks at itself alone. For the second, with $W_Q = \sqrt2\,\ln
# 2\begin{pmatrix}0&0\\1&0\end{pmatrix}$ and $W_K = \begin{pmatrix}1&0\\0&1\end{pmatrix}$, the query is
# $\sqrt2\,(\ln 2, 0)$ and its scores are $(\ln 2, 0)$: probabilities $\frac23$ and $\frac13$. With $W_V =
# \begin{pmatrix}3&0\\0&3\end{pmatrix}$ it takes home $\frac23(3, 0) + \frac13(0, 3) = (2, 1)$.

# %%
x = np.eye(2)
w_q = np.sqrt(2) * np.log(2) * np.array([[0.0, 0.0], [1.0, 0.0]])
w_k, w_v = np.eye(2), 3 * np.eye(2)
y, _ = attention.forward(*((x @ w)[None, None] for w in (w_q, w_k, w_v)))
print("self-attention of two tokens:", y[0, 0].round(10).tolist())

# %% [markdown]
# ## An attention map
#
# Now a text. Let the key of a character be its one-hot row, and its query the same row times a *sharpness*:
# each character looks for its own earlier appearances. Nothing is learned here, we have chosen the weights;
# lesson 12 looks into trained heads. Row by row you see where a query looks. At sharpness 0 it is the plain
# mean of all that came before, and the higher it is, the nearer one comes to a dictionary.

# %%
text = "the cat sat on the mat"
letters = np.array(list(text))
one_hot = (letters[:, None] == np.unique(letters)).astype(float)


def looking_for_equals(sharpness):
    q, k = sharpness * one_hot[None, None], one_hot[None, None]
    _, saved = attention.forward(q, k, k)
    return plots.maps(saved.probs.y[0, 0, 0], text)


knobs.turn(looking_for_equals, sharpness=[0, 3, 6, 10, 15, 30])

# %% [markdown]
# ## Why the root of d
#
# At the start of training, queries and keys are random. Say that their numbers are independent, with mean 0
# and variance 1. Then each product $q_l k_l$ has mean 0 and variance $E[q_l^2]\,E[k_l^2] = 1$, and variances
# of independent terms add up:
#
# $$\operatorname{Var}(q\cdot k) = \sum_{l=1}^d \operatorname{Var}(q_l k_l) = d .$$
#
# A typical score has the size $\sqrt d$. Divided by $\sqrt d$ it has the size 1, whatever $d$. Without this,
# the scores of a wide head lie far apart, softmax gives nearly everything to the largest, and then its
# gradient vanishes: its Jacobian is $\partial p_i/\partial s_j = p_i(\delta_{ij} - p_j)$, whose diagonal
# $p(1-p)$ goes to zero both for $p \to 0$ and for $p \to 1$. The picture prints its sum. Turn $d$, for one
# random query and 16 random keys.


# %%
def one_query(d):
    rng = np.random.default_rng(1)
    return pictures.scaling(rng.normal(size=d), rng.normal(size=(16, d)))


rng = np.random.default_rng(0)
for d in (4, 64, 1024):
    products = np.sum(rng.normal(size=(2000, d)) * rng.normal(size=(2000, d)), axis=1)
    print(f"d = {d:4}: variance {products.var():7.1f}, scaled {(products / np.sqrt(d)).var():.2f}")
knobs.turn(one_query, d=[1, 4, 16, 64, 256, 1024])

# %% [markdown]
# The root is for the start. Later the weights may grow, and make scores as sharp as the model likes.
#
# ## The future does not leak
#
# With the mask, the output of a token is a function of itself and of what came before. That must hold
# exactly, or a model could learn to copy the answer that it is to guess. We change the last two of six
# tokens, and look at the first four outputs. And backward: if only the third output matters to the loss, no
# later key or value may get any gradient.
#
# There is another thing to see. Without a mask, a lookup does not depend on the order in which the table is
# written down: keys and values permuted together give the same outputs. (Lesson 10 drew the consequence, that
# positions must be put in.)

# %%
q6, k6, v6 = rng.normal(size=(3, 1, 1, 6, 4))
y, saved = attention.forward(q6, k6, v6)
changed = [x + 10 * (np.arange(6) >= 4)[:, None] for x in (q6, k6, v6)]
print("first four outputs change by", np.max(np.abs(attention.forward(*changed)[0] - y)[:, :, :4]))

dy = np.zeros_like(y)
dy[:, :, 2] = 1.0
_, dk, dv = attention.backward(dy, saved)
print("gradients of later keys and values:", np.max(np.abs(dk[:, :, 3:])), np.max(np.abs(dv[:, :, 3:])))

order = rng.permutation(6)
here, _ = attention.forward(q6, k6, v6, causal=False)
there, _ = attention.forward(q6, k6[:, :, order], v6[:, :, order], causal=False)
print(f"another order, without mask: off by {np.max(np.abs(here - there)):.0e}")

# %% [markdown]
# This is also why training is cheap: one pass over a text of $T$ tokens makes $T$ predictions, and none of
# them has seen its answer.
#
# ## Backward, step by step
#
# A loss $L$ depends on $Y$, and $dY = \partial L/\partial Y$ comes in, of the shape of $Y$. We go back from
# the last product to the first; each step asks in which terms a number occurs, and with which factor.
#
# **The mixture**, $Y_{ik} = \sum_j P_{ij}V_{jk}$. $V_{jk}$ occurs in $Y_{ik}$ for every $i$, with the factor
# $P_{ij}$; and $P_{ij}$ occurs in $Y_{ik}$ for every $k$, with the factor $V_{jk}$:
#
# $$dV_{jk} = \sum_i P_{ij}\,dY_{ik},\qquad dP_{ij} = \sum_k dY_{ik}V_{jk}$$
#
# or, in matrices,
#
# $$dV = P^\top dY,\qquad dP = dY\,V^\top$$
#
# **Softmax**, row by row, with the Jacobian from above:
#
# $$\begin{aligned}
# dS_{ij} &= \sum_{j'} dP_{ij'}\,P_{ij'}(\delta_{j'j} - P_{ij})\\
# &= P_{ij}\Big(dP_{ij} - \sum_{j'} dP_{ij'}P_{ij'}\Big),
# \end{aligned}$$
#
# or, in matrices, with $*$ for the product number by number,
#
# $$dS = P * \big(dP - \operatorname{rowsum}(dP * P)\big)$$
#
# $dS_{ij}$ is positive where raising the score would raise the loss: where the key's value pulls the loss up
# more than the mean of the row does. So descent *lowers* that score, and raises those below the mean, each in
# proportion to its probability. Every row of $dS$ sums to zero. And the mask needs no care: where
# $P_{ij} = 0$, $dS_{ij} = 0$.
#
# **The scores**, $S_{ij} = \sum_l Q_{il}K_{jl}/\sqrt d$, are a product again:
#
# $$dQ = \frac{dS\,K}{\sqrt d},\qquad dK = \frac{dS^\top Q}{\sqrt d}$$
#
# ## Backward by hand
#
# We take the three tokens from above, and a loss that is the first number of the third output:
# $dY_3 = (1, 0)$, and zeros elsewhere. Then $dP_3 = (12, 0, 12)$, the first numbers of the values. Their mean
# under $P_3 = (\frac13, \frac12, \frac16)$ is 6, which is the output itself.
# Subtracting this mean gives $(6, -6, 6)$. So
#
# $$\begin{aligned}
# dS_3 &= \big(\tfrac13\cdot 6,\ \tfrac12\cdot(-6),\ \tfrac16\cdot 6\big)\\
# &= (2, -3, 1),\\
# dQ_3 &= \frac{(2, -3)}{\sqrt2} .
# \end{aligned}$$
#
# More of keys 1 and 3, less of key 2: that would raise the output, which is our loss here, so descent goes
# the other way. $dK$ has the rows 2, $-3$ and 1 times $q_3/\sqrt2 = (\ln 2, \ln 3)$, and the first column of
# $dV$ is $P_3$.

# %%
dy = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]])
y, saved = attention.forward(q[None, None], k[None, None], v[None, None])
p = saved.probs.y[0, 0, 0]

dv = p.T @ dy
dp = dy @ v.T
ds = p * (dp - np.sum(dp * p, axis=1, keepdims=True))
dq, dk = ds @ k / np.sqrt(2), ds.T @ q / np.sqrt(2)

theirs = attention.backward(dy[None, None], saved)
for name, ours, library in zip(("dq", "dk", "dv"), (dq, dk, dv), theirs, strict=True):
    print(name, ours.round(3).tolist(), f"off by {np.max(np.abs(ours - library[0, 0])):.0e}")
pictures.gradients(q, k, v, dy)

# %% [markdown]
# ## A derivative with four indices
#
# handgrad grew from the reports of two learners. One of them writes the three derivatives of attention as
#
# $$\frac{\partial Y}{\partial Q} = \frac{\partial\operatorname{softmax}}{\partial Q}\,V,\qquad
# \frac{\partial Y}{\partial K} = \frac{\partial\operatorname{softmax}}{\partial K}\,V,\qquad
# \frac{\partial Y}{\partial V} = \operatorname{softmax}\Big(\frac{QK^\top}{\sqrt d}\Big) .$$
#
# The third is nearly ours: $P$ is what multiplies, only transposed, and from the left, the gradient that
# comes in, $dV = P^\top dY$. The first two have no meaning as products of matrices, and it is worth seeing
# why. $Y$ has $T\cdot d$ numbers and $Q$ has $T\cdot d$ numbers, and each of the first may depend on each of
# the second. The derivative of a matrix by a matrix is an array with *four* indices,
#
# $$J_{ikjl} = \frac{\partial Y_{ik}}{\partial Q_{jl}},$$
#
# and the chain rule sums over the two that belong to $Y$,
#
# $$dQ_{jl} = \sum_{i,k} dY_{ik}\,J_{ikjl} .$$
#
# We build $J$, knowing nothing but the forward: move each number of $Q$, one after the other, and measure how
# $Y$ answers. Then we *contract* it with a random $dY$, that is, form the sum above.

# %%
q4, k4, v4, dy4 = rng.normal(size=(4, 4, 3))  # four tokens, three numbers each


def output(q):
    return attention.forward(q[None, None], k4[None, None], v4[None, None])[0][0, 0]


J, h = np.zeros((4, 3, 4, 3)), 6e-6
for place in np.ndindex(q4.shape):
    step = np.zeros_like(q4)
    step[place] = h
    J[:, :, *place] = (output(q4 + step) - output(q4 - step)) / (2 * h)

_, saved = attention.forward(q4[None, None], k4[None, None], v4[None, None])
dq4, _, _ = attention.backward(dy4[None, None], saved)
error = np.max(np.abs(np.einsum("ik,ikjl->jl", dy4, J) - dq4[0, 0]))
print(f"contracted with dY, it is off dQ by {error:.0e}")
pictures.four_indices(J)

# %% [markdown]
# The picture has a row for each number of $Y$ and a column for each of $Q$. Only the squares on the diagonal
# are filled: a query acts on its own output. The first square is empty too, since the first token has a
# single key and no choice. What is in the others? Insert the derivative of softmax:
#
# $$\frac{\partial Y_{ik}}{\partial Q_{il}} = \frac1{\sqrt d}\sum_j P_{ij}\,V_{jk}\big(K_{jl} -
# \bar K_{il}\big),\qquad \bar K_{il} = \sum_{j} P_{ij}K_{jl}$$
#
# (For the keys it is alike, with one difference: key $j$ acts on every output that may look at it, so the
# squares below the diagonal are filled as well, and $\partial Y_{ik}/\partial K_{jl} = P_{ij}\,(V_{jk} -
# Y_{ik})\,Q_{il}/\sqrt d$.) $\bar K_i$ is the mean key that query $i$ sees. This is a *covariance*, of
# component $k$ of the values and component $l$ of the keys, with the probabilities $P_i$: moving the query
# moves the output in those directions in which values vary together with keys.
#
# For a head of GPT-2, with 1,024 tokens and 64 numbers each, $J$ would have $65{,}536^2 = 2^{32}$ numbers, 16
# GiB in float32. Nobody builds it. A backward takes $dY$ in first, and then everything on the way, $dP$, $dS$
# and $dQ$, is a matrix again.

# %%
p = saved.probs.y[0, 0, 0]
centred = k4[None] - (p @ k4)[:, None]  # (i, j, l): key j, less the mean key of query i
covariance = np.einsum("ij,jk,ijl->ikl", p, v4, centred) / np.sqrt(3)
diagonal = np.stack([J[i, :, i] for i in range(4)])
print(f"derived and measured differ by {np.max(np.abs(covariance - diagonal)):.0e}")

# %% [markdown]
# ## The library's attention
#
# It does this for all $B$ texts and $H$ heads at once: queries have the shape $(B, H, T, K)$, where $K$ is
# the length that we called $d$. Several query heads may share a key-value head, which is what `_group` is
# for, and dropout may fall on the probabilities. The five lines of the derivation are all there, `dv`,
# `dprobs`, `dscores`, `dq` and `dk`.

# %%
source.show(attention.forward, attention.backward)

# %% [markdown]
# The proof runs on all cases of the library, among them grouped heads, dropout, more keys than queries, and a
# query that may look at nothing. And there is an outside judge: PyTorch differentiates its own attention.

# %%
for inputs in attention.cases(rng):
    proofs = gradcheck.check(attention, inputs, rng)
    print(*(f"{proof.input}: {'proved' if proof.passed else 'WRONG'}" for proof in proofs), sep="   ")

try:
    import torch
except ImportError:
    print("PyTorch is not installed: this comparison is skipped.")
else:
    ours, saved = attention.forward(q6, k6, v6)
    tensors = [torch.tensor(x, requires_grad=True) for x in (q6, k6, v6)]
    theirs = torch.nn.functional.scaled_dot_product_attention(*tensors, is_causal=True)
    theirs.backward(torch.ones_like(theirs))
    pairs = zip(attention.backward(np.ones_like(ours), saved), tensors, strict=True)
    print(f"outputs differ by {np.max(np.abs(ours - theirs.detach().numpy())):.0e}")
    print(f"gradients by      {max(np.max(np.abs(dx - t.grad.numpy())) for dx, t in pairs):.0e}")

# %% [markdown]
# ## What it costs
#
# Each of the $T^2$ scores of a head is a sum of $K$ products: $2T^2K$ operations, and the mixture takes as
# many. All heads together, with $D = HK$, take $4T^2D$. The four affine maps of the layer (to queries, keys
# and values, and one behind the heads) take $8TD^2$. The former grow with the square of the length, and are
# the larger part beyond $T = 2D$. Backward has four products of the same size, $dV$, $dP$, $dQ$ and $dK$, and
# costs twice the forward.
#
# Memory is the harder limit. In float32, queries, keys, values and outputs are $16\,TD$ bytes, and the
# probabilities $4HT^2$, more from $T = 4K$ on. Here are the numbers of GPT-2, counted as if nothing were
# masked. At the right end of the axis, with 131,072 tokens, the probabilities of a single layer would be
# $4\cdot12\cdot2^{34}$ bytes: 768 GiB.

# %%
pictures.cost(d_model=768, n_heads=12)

# %% [markdown]
# ## Never storing T x T
#
# But who needs all probabilities at the same time? An output is a quotient of two sums over keys,
#
# $$y = \frac{\sum_j e^{s_j}\,v_j}{\sum_j e^{s_j}},$$
#
# and sums can be made block by block. The difficulty is that $e^{s_j}$ overflows for large scores, so that
# softmax subtracts the largest one, and that is known only at the end. The way out is to subtract the largest
# *so far*. Keep for each query
#
# $$m = \max_j s_j,\qquad \ell = \sum_j e^{s_j - m},\qquad a = \sum_j e^{s_j - m}\,v_j$$
#
# over the keys seen so far. When a block brings a larger score, $m$ becomes $m'$, and since
# $e^{s_j - m'} = e^{m - m'}e^{s_j - m}$, what was summed up so far is corrected by one common factor:
#
# $$m' = \max\big(m, \max_{j\in\text{block}} s_j\big),\qquad
# \ell' = e^{m-m'}\ell + \sum_{j\in\text{block}} e^{s_j-m'},\qquad
# a' = e^{m-m'}a + \sum_{j\in\text{block}} e^{s_j-m'}\,v_j$$
#
# At the end, $y = a/\ell$: exact, no approximation. (The running sum: Milakov and Gimelshein, "Online
# normalizer calculation for softmax", 2018. Attention made of it, in blocks that fit into fast memory: Dao et
# al., "FlashAttention: Fast and memory-efficient exact attention with IO-awareness", 2022.)


# %%
def attend_in_blocks(q, k, v, size):
    T, d = q.shape
    m, total, mixed = np.full((T, 1), -np.inf), np.zeros((T, 1)), np.zeros_like(v)
    for start in range(0, T, size):
        block = slice(start, start + size)
        scores = q @ k[block].T / np.sqrt(d)
        scores[np.arange(T)[:, None] < np.arange(T)[block]] = -np.inf  # the causal mask
        largest = np.maximum(m, scores.max(axis=1, keepdims=True))
        e, fade = np.exp(scores - largest), np.exp(m - largest)
        total, mixed = fade * total + e.sum(axis=1, keepdims=True), fade * mixed + e @ v[block]
        m = largest
    return mixed / total


long_q, long_k, long_v = rng.normal(size=(3, 1000, 16))
whole, _ = attention.forward(long_q[None, None], long_k[None, None], long_v[None, None])
for size in (1, 64, 1000):
    error = attend_in_blocks(long_q, long_k, long_v, size) - whole
    print(f"blocks of {size:4}: off by {np.max(np.abs(error)):.0e}")

# %% [markdown]
# Backward can do without the matrix as well: from $m + \ln\ell$, one number a query, every block of $P$ is
# made again when it is needed. The row sums look as if they wanted all of $P$ and $dP$ together, but
#
# $$\begin{aligned}
# \sum_j dP_{ij}P_{ij} &= \sum_j\sum_k dY_{ik}V_{jk}P_{ij}\\
# &= \sum_k dY_{ik}Y_{ik},
# \end{aligned}$$
#
# which is known before the first block. (By hand we saw it: the mean was the output itself.) The kernels that
# handgrad trains with on a CPU cut the other way, a few queries at a time against all their keys, with the
# same aim: no $T\times T$ array is ever in memory.
#
# ## Exercises
#
# ### Exercise 1: a number for every distance
#
# Some transformers tell attention about distances by adding to every score a learned number. T5 has one for
# each *bucket* of distances: near ones have a number of their own, far ones share theirs with their
# neighbours (Raffel et al., "Exploring the limits of transfer learning with a unified text-to-text
# transformer", 2020, [arXiv:1910.10683](https://arxiv.org/abs/1910.10683)). We take one for each distance.
# Here is the forward of one head, without a mask: with $T$ tokens there are $2T - 1$ distances, and $P =
# \operatorname{softmax}\big(QK^\top/\sqrt d + B\big)$ with $B_{ij} = \text{bias}_{i - j + T - 1}$. Derive its
# backward and write `biased_backward`: it returns the gradients of `q`, `k`, `v` and `bias`, in this order.


# %% tags=["exercise"]
def biased_forward(q, k, v, bias):
    T, d = q.shape
    distance = np.arange(T)[:, None] - np.arange(T) + T - 1
    probs, _ = softmax.forward(q @ k.T / np.sqrt(d) + bias[distance])
    return probs @ v, (q, k, v, bias, distance, probs)


def biased_backward(dy, saved):
    return ...


# %% tags=["check"]
def judge_bias(answer):
    q, k, v = np.random.default_rng(2).normal(size=(3, 4, 3))
    bias = np.sin(np.arange(7.0))
    *_, distance, probs = biased_forward(q, k, v, bias)[1]
    of_scores = terms.softmax_scores(probs)

    def last_places(dy, saved):
        found = np.zeros_like(bias)
        found[distance] = sum(term(dy @ v.T, saved) for term in of_scores.values())
        return found

    sums = {"q": {name: lambda dy, _, f=f: f(dy @ v.T, _) @ k / np.sqrt(3) for name, f in of_scores.items()}}
    without = {
        "v": {"the transpose that brings P to the keys": lambda dy, _: probs @ dy},
        "bias": {"the sum over all places of a distance": last_places},
    }
    return exercise.gradient(biased_forward, answer, terms=sums, without=without, q=q, k=k, v=v, bias=bias)


judge_bias(biased_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# *Backward, step by step* leads from $dY$ to $dS$, and $B$ is a part of $S$. In which scores does one number
# of `bias` occur?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# First $dV = P^\top dY$ and $dP = dY\,V^\top$, then softmax with its row sum,
# $dS = P * \big(dP - \operatorname{rowsum}(dP * P)\big)$. In $S = QK^\top/\sqrt d + B$ the root divides the
# product alone, so it is in $dQ$ and $dK$ but not in $dB$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The gradient of $\text{bias}_r$ is the sum of all $dS_{ij}$ with $i - j + T - 1 = r$. `np.add.at` forms
# these sums, on zeros of the shape of `bias`, with `distance` as the index; `+=` would keep one place of each
# distance (lesson 10, *The gradient goes home*).
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $B$ is added to the scores as they are, so $dB = dS$, before the factor $1/\sqrt d$ comes in.
# And one number stands in all places with its distance, so its gradient is the sum of theirs: of a diagonal
# of $dS$. It is the gradient of an embedding, with the distance as the token.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def biased_backward(dy, saved):
    q, k, v, bias, distance, probs = saved
    dprobs = dy @ v.T
    dscores = probs * (dprobs - np.sum(dprobs * probs, axis=1, keepdims=True))
    scale = 1 / np.sqrt(q.shape[1])
    dbias = np.zeros_like(bias)
    np.add.at(dbias, distance, dscores)
    return dscores @ k * scale, dscores.T @ q * scale, probs.T @ dy, dbias


judge_bias(biased_backward)

# %% [markdown]
# ### Exercise 2: two halves of a lookup
#
# Two computers have half of the keys each. For one query, each of them computes $(m, \ell, y)$: the largest
# score, the sum of $e^{s_j-m}$, and *its own finished output*, divided by its own sum. Write `merge`, which
# takes two such tuples and returns the tuple $(m, \ell, y)$ of all keys together. Scores may be large: take
# the exponential of nothing above zero.


# %% tags=["exercise"]
def merge(one, other):
    return ...


# %% tags=["check"]
def part(scores, values):
    m = np.max(scores)
    e = np.exp(scores - m)
    return m, np.sum(e), e @ values / np.sum(e)


def judge_merge(answer):
    def merge(scores, values):
        return answer(part(scores[:3], values[:3]), part(scores[3:], values[3:]))

    scores, values = np.sin(np.arange(7.0)), np.cos(np.arange(14.0)).reshape(7, 2)
    return exercise.function(merge, part, *((size * scores, values) for size in (1, 5, 2000)))


judge_merge(merge)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# *Never storing T x T* keeps $m$, $\ell$ and $a$ for the keys seen so far. How do you get the $a$ of a half
# from its $\ell$ and $y$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The outputs are divided already; undo that with $a_i = \ell_i\,y_i$. Then bring both halves to the larger
# maximum $m$: the sums $\ell_i$ and $a_i$ are multiplied by $e^{m_i - m}$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Call $w_i = e^{m_i - m}\,\ell_i$; the two add up to the new $\ell$. Half $i$ brings $w_i\,y_i$ to the new
# $a$, and what you return is not $a$ but $a/\ell$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Each half comes with the weight $e^{m_i - m}\ell_i$, its share of the common sum; the output
# is the mean of the two outputs with these weights. Both exponents are at most zero, and nothing overflows.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def merge(one, other):
    (m1, sum1, y1), (m2, sum2, y2) = one, other
    m = max(m1, m2)
    weight1, weight2 = np.exp(m1 - m) * sum1, np.exp(m2 - m) * sum2
    total = weight1 + weight2
    return m, total, (weight1 * y1 + weight2 * y2) / total


judge_merge(merge)

# %% [markdown]
# ### Exercise 3: two texts
#
# The queries may come from one text, and the keys and values from another: *cross-attention*. A translation
# that is being written looks at the sentence that it translates. The first transformer had both, an *encoder*
# that reads and a *decoder* that writes; handgrad's models, its preset `paper` too, are decoders alone. With
# $X$ of the shape $(T, D)$ and the other text $Z$ $(S, D)$,
#
# $$Q = X\,W_Q,\qquad K = Z\,W_K,\qquad V = Z\,W_V,\qquad
# Y = \operatorname{softmax}\Big(\frac{QK^\top}{\sqrt d}\Big)V,$$
#
# without a mask: all of $Z$ is there already. Write `cross_backward`: it returns the gradients of `x`, `z`,
# `w_q`, `w_k` and `w_v`, in this order. $Z$ is used twice.


# %% tags=["exercise"]
def cross_forward(x, z, w_q, w_k, w_v):
    q, k, v = x @ w_q, z @ w_k, z @ w_v
    probs, _ = softmax.forward(q @ k.T / np.sqrt(k.shape[1]))
    return probs @ v, (x, z, w_q, w_k, w_v, q, k, v, probs)


def cross_backward(dy, saved):
    return ...


# %% tags=["check"]
def judge_cross(answer):
    rng = np.random.default_rng(3)
    arrays = {"x": rng.normal(size=(4, 3)), "z": rng.normal(size=(5, 3))}
    arrays |= {name: rng.normal(size=(3, 2)) for name in ("w_q", "w_k", "w_v")}
    through_v = cross_terms("dv @ w_v.T", lambda dq, dk, dv, saved: dv @ saved[4].T)
    through_k = cross_terms("dk @ w_k.T", lambda dq, dk, dv, saved: dk @ saved[3].T)
    return exercise.gradient(cross_forward, answer, terms={"z": through_k | through_v}, **arrays)


def cross_terms(name, of):
    """A term by name, from the gradients of queries, keys and values."""

    def term(dy, saved):
        *_, q, k, v, _ = saved
        found = attention.backward(dy[None, None], saved_of(q, k, v))
        return of(*(each[0, 0] for each in found), saved)

    return {name: term}


def saved_of(q, k, v):
    return attention.forward(*(x[None, None] for x in (q, k, v)), causal=False)[1]


judge_cross(cross_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# From $dY$ to $dQ$, $dK$ and $dV$ this is *Backward, step by step*. Each of the three products before it is
# an affine layer without bias (lesson 5, *The same in matrices*); by how many paths does $Z$ reach $Y$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# First $dV = P^\top dY$ and $dP = dY\,V^\top$, then $dS = P * \big(dP - \operatorname{rowsum}(dP * P)\big)$,
# then $dQ = dS\,K/\sqrt d$ and $dK = dS^\top Q/\sqrt d$. Here $d$ is the width of a key, `k.shape[1]`, and
# not the width of $X$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The product $Q = X\,W_Q$ gives $dX = dQ\,W_Q^\top$ and $dW_Q = X^\top dQ$. The other two go the same way
# with $Z$ for $X$, so $Z$ gets one term through $K$ and one through $V$: return their sum.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# From $dY$ to $dV$, $dP$, $dS$, $dQ$ and $dK$ nothing is new; only that the scores and
# their gradient have $T$ rows and $S$ columns. Then each affine
# map gives its own: $dW_Q = X^\top dQ$ and $dX = dQ\,W_Q^\top$, $dW_K = Z^\top dK$, $dW_V = Z^\top dV$, and,
# as two paths lead to $Z$, $dZ = dK\,W_K^\top + dV\,W_V^\top$. In self-attention $X$ and $Z$ are the same
# text, and all three paths meet.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def cross_backward(dy, saved):
    x, z, w_q, w_k, w_v, q, k, v, probs = saved
    dv, dprobs = probs.T @ dy, dy @ v.T
    dscores = probs * (dprobs - np.sum(dprobs * probs, axis=1, keepdims=True)) / np.sqrt(k.shape[1])
    dq, dk = dscores @ k, dscores.T @ q
    return dq @ w_q.T, dk @ w_k.T + dv @ w_v.T, x.T @ dq, z.T @ dk, z.T @ dv


judge_cross(cross_backward)

# %% [markdown]
# ### Exercise 4: look at one key only
#
# Four keys with three numbers each. Find a query, a list of three numbers, that gives at least 99 % of its
# attention to the third of them, $(1, 1, 1)$. The scores are divided by $\sqrt3$, as always.

# %%
keys = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [2.0, 2.0, 0.0]])

# %% tags=["exercise"]
query = ...


# %% tags=["check"]
def looks_at_the_third(query):
    probs, _ = softmax.forward(keys @ np.asarray(query, dtype=float) / np.sqrt(3))
    return probs[2] >= 0.99


exercise.claim(query, looks_at_the_third, "at least 99 % for the third key")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A long query gives nearly everything to the key with which its scalar product is the largest. Which key wins
# for the query $(1, 1, 1)$, and what does the third key have that no other has?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Choose a query whose scalar products with the other three keys are zero. If the third key then has the score
# $s$, its probability is $e^s/(e^s + 3)$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A query $(0, 0, c)$ does this, with $s = c/\sqrt3$. Solve $e^s/(e^s + 3) = 0.99$ for $s$ by a logarithm,
# multiply by $\sqrt3$, and take any $c$ above that.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The key itself, however long, is no good: $(1,1,1)\cdot(2,2,0) = 4$, and with itself it makes
# 3. What sets the third key apart is its last number, so $q = (0, 0, c)$, with the scores
# $0, 0, c/\sqrt3, 0$. Then $e^{c/\sqrt3} \ge 99\cdot3$, that is $c \ge \sqrt3\,\ln 297 \approx 9.86$. Not
# every key can be found like this: one that is a mean of others never wins, as its score is the mean of
# theirs.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
query = [0.0, 0.0, 10.0]
exercise.claim(query, looks_at_the_third, "at least 99 % for the third key")

# %% [markdown]
# ### Make it yours: attention
#
# Write causal attention for $q$, $k$ and $v$ of the shape $(B, H, T, K)$, and its backward.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_attention(q, k, v):
    return ..., ...


def my_attention_backward(dy, saved):
    return ..., ..., ...


# %% tags=["check"]
mine.keep("attention", my_attention, my_attention_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The formulas of *Backward, step by step* hold for each text and head by itself. Which two of four axes does
# `@` multiply, and what does it do with the others (lesson 1, *Products of matrices*)?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Forward: `q @ k.swapaxes(-1, -2)` over $\sqrt K$, then $-\infty$ where `np.tri(T, dtype=bool)` is False,
# then `softmax.forward`, which returns a pair, then the product with `v`. Save the probabilities too; `.T`
# would reverse all four axes.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In $dS = P * \big(dP - \operatorname{rowsum}(dP * P)\big)$ the sum runs along the last axis, with
# `keepdims=True`, and the mask needs no line of its own. Divide $dS$ by $\sqrt K$ before the products that
# give $dQ$ and $dK$: the root belongs to the way back as well.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# The five lines of the derivation. `swapaxes(-1, -2)` transposes the last two axes.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_attention(q, k, v):
    T, K = q.shape[-2:]
    scores = np.where(np.tri(T, dtype=bool), q @ k.swapaxes(-1, -2) / np.sqrt(K), -np.inf)
    probs, _ = softmax.forward(scores)
    return probs @ v, (q, k, v, probs)


def my_attention_backward(dy, saved):
    q, k, v, p = saved
    dp = dy @ v.swapaxes(-1, -2)
    ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True)) / np.sqrt(q.shape[-1])
    return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy


mine.keep("attention", my_attention, my_attention_backward)

# %% [markdown]
# ## Where next
#
# One attention has one way of looking. Lesson 12, "Many heads", lets several of them look side by side.
