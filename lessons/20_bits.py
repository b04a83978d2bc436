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
# # 20. Fewer bits, and guesses
#
# *After this lesson you can quantize weights by hand, bound the error and measure what it does to a model,
# prove that speculative decoding changes nothing about what is written, and say when it pays.*
#
# A model that writes is bound by memory (lesson 19): for every token all of its weights travel from memory to
# the processor, and little is computed with each. Two inventions make of this what they can. *Quantization*
# makes the weights smaller. *Speculative decoding* lets one journey of the weights serve several tokens. The
# first changes the model a little, by an error that one can bound. The second changes nothing at all, and
# that can be proved.

# %%
import numpy as np

from handgrad import tree
from handgrad.data import batches, corpus
from handgrad.lessons import exercise, knobs, practice
from handgrad.lessons.pictures import bits as pictures
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.ops import softmax

# %% [markdown]
# ## A grid for each block
#
# A weight of 32 bits is to become an integer of $n$ bits, $-m, \dots, m$ with $m = 2^{n-1} - 1$, times a
# *scale* $s$ that many weights share. What scale? The largest weight has to be reached, so $s =
# \max_i|w_i|/m$; and each weight goes to the nearest point of the grid:
#
# $$q_i = \operatorname{round}(w_i/s),\qquad \hat w_i = s\,q_i,\qquad |\hat w_i - w_i| \le \frac s2 .$$
#
# By hand, with 4 bits ($m = 7$) and the weights $(0.7, -0.35, 0.1, 0.02)$: $s = 0.1$, $q = (7, -4, 1, 0)$
# (3.5 goes to the even neighbour), and back come $(0.7, -0.4, 0.1, 0)$. The small ones have lost most of
# their digits, the large one none: the error is as large for all. One outlier makes the grid coarse for
# everyone beside it. Hence *blocks*: every 32 weights have a scale of their own. With a scale of 16 bits a
# weight of 4 bits then takes $4 + 16/32 = 4.5$.


# %%
def quantized(w, n_bits, block=32):
    """The weights after a journey through n_bits, with a scale for every `block` of them."""
    most = 2 ** (n_bits - 1) - 1
    padded = np.pad(w.ravel(), (0, -w.size % block)).reshape(-1, block)
    scale = np.abs(padded).max(axis=1, keepdims=True) / most
    back = scale * np.round(padded / np.where(scale == 0, 1, scale))
    return back.ravel()[: w.size].reshape(w.shape)


print("by hand:", quantized(np.array([0.7, -0.35, 0.1, 0.02]), 4).round(6))

rng = np.random.default_rng(0)
w = rng.normal(size=(4, 256))
w[0, 0] = 30.0
for block in (1024, 32):
    error = quantized(w, 4, block) - w
    print(f"one outlier of 30, blocks of {block:4}: root mean square error {np.sqrt(np.mean(error**2)):.3f}")

# %% [markdown]
# ## What it does to a model
#
# How large is the error on average? If $w/s$ falls anywhere between two points of the grid with equal chance,
# the rounding error is uniform on $[-\frac12, \frac12]$ times $s$, and its mean square is
#
# $$\int_{-1/2}^{1/2} (s\,u)^2\,du = \frac{s^2}{12} .$$
#
# Each bit less doubles $s$, and multiplies the mean square by 4. A product $xW$ sums many such errors, with
# both signs, so they partly cancel: what a model feels is less than the bound. We measure, on text that it
# did not learn from:

# %%
model = practice.model()
tokens = model.tokenizer.encode(corpus.embedded().text)
_, unseen = batches.split(tokens, model.config.context_length)
token_ids, targets = next(batches.spread(unseen, 24, model.config.context_length, 24))
language_model = LanguageModel(Transformer(model.config))


def loss_with(n_bits):
    def leaf(weight):
        return quantized(weight, n_bits).astype(weight.dtype) if weight.ndim == 2 else weight

    return language_model.forward(tree.map(leaf, model.weights), token_ids, targets)[0]


whole = language_model.forward(model.weights, token_ids, targets)[0]
losses = {n_bits: loss_with(n_bits) for n_bits in (8, 6, 5, 4, 3, 2)}
for n_bits, loss in losses.items():
    print(f"{n_bits} bits: loss {loss:.4f}, {loss - whole:+.4f}")
pictures.losses_by_bits(losses, whole)

# %% [markdown]
# Down to five or six bits nothing is felt, at four a little; then it falls apart. (`handgrad export --type
# Q8_0` and `Q4_K` write such blocks for llama.cpp; the guide on GGUF has their formats.) What was saved is
# time: half the bytes travel in half the time.
#
# ## Guessing ahead
#
# A model needs one journey of its weights for a token. With the *same* journey it could say what it thinks
# after each of several tokens, as in training, if only they were known. So let a cheap *draft* guess the next
# $k$ tokens, and let the model look at all of them at once. Where a guess is what the model would have said,
# it is kept (Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", 2022,
# [arXiv:2211.17192](https://arxiv.org/abs/2211.17192)).
#
# Greedily that is plain: a guess stands if it is the model's likeliest token. But a model that *draws* has a
# distribution $p$, the draft has another, $q$, and what is written should come from $p$ exactly, as if there
# were no draft. The rule: draw $x$ from $q$; *keep it with the probability* $\min\big(1, p(x)/q(x)\big)$; if
# not, draw from what is left,
#
# $$r(x) = \frac{\max\big(0, p(x) - q(x)\big)}{\sum_y \max\big(0, p(y) - q(y)\big)} .$$
#
# Why is that $p$? A token $x$ comes out in two ways. Kept: with $q(x)\min(1, p(x)/q(x)) = \min(q(x), p(x))$.
# Or after a rejection. A guess is rejected with the probability
#
# $$\begin{aligned}
# 1 - \sum_y \min\big(q(y), p(y)\big) &= \sum_y \big(p(y) - \min(q(y), p(y))\big)\\
# &= \sum_y \max\big(0, p(y) - q(y)\big),
# \end{aligned}$$
#
# which is just the denominator of $r$. So this way gives $\max(0, p(x) - q(x))$. And
#
# $$\min\big(q(x), p(x)\big) + \max\big(0, p(x) - q(x)\big) = p(x) .$$


# %%
def speculated(p, q, rng):
    """One token, and whether the guess was kept."""
    guess = rng.choice(len(q), p=q)
    if rng.random() < min(1.0, p[guess] / q[guess]):
        return guess, True
    left = np.maximum(0.0, p - q)
    return rng.choice(len(p), p=left / left.sum()), False


p, _ = softmax.forward(np.array([2.0, 1.0, 0.0, -1.0]))
q, _ = softmax.forward(np.array([1.0, 1.5, 0.5, 0.0]))
drawn = [speculated(p, q, rng) for _ in range(40_000)]
counts = np.bincount([token for token, _ in drawn], minlength=4) / len(drawn)
print("the model's distribution:", p.round(3))
print("the draft's:             ", q.round(3))
print("what is written:         ", counts.round(3))
print(f"kept: {np.mean([kept for _, kept in drawn]):.3f}; sum of minima: {np.minimum(p, q).sum():.3f}")

# %% [markdown]
# ## When it pays
#
# Let each guess be kept with the probability $a$, and $k$ be guessed at a time. The model's pass gives one
# token in any case, and one more for each guess kept before the first rejection:
#
# $$1 + a + a^2 + \dots + a^k = \frac{1 - a^{k+1}}{1 - a} .$$
#
# If the draft takes the share $c$ of the model's time for each token, then $k$ guesses and a pass cost $kc +
# 1$. Turn $k$:


# %%
def gain(guesses):
    return pictures.gain(guesses, costs=(0.0, 0.05, 0.2))


knobs.turn(gain, guesses=[1, 2, 4, 8])

# %% [markdown]
# A draft that is often right and nearly free may triple the speed. One that is wrong half of the time gains
# little, and a dear one loses. (A pass over $k + 1$ tokens is a little dearer than over one; on a processor
# that computes as slowly as it reads there is no gain at all.) The cheapest draft is to look back: if the
# last words stand earlier in the text, guess what followed them there, as `handgrad generate --draft lookup`
# does.
#
# ## Exercises
#
# ### Exercise 1: the best scale is not the largest weight
#
# With few bits it may be better to cut the outlier off than to make the grid coarse. Write `best_scale`: of
# the candidates $s = f\cdot\max|w|/m$ with $f = 0.5, 0.55, \dots, 1$, return the one with the smallest
# squared error. Rounded numbers beyond $\pm m$ are cut to $\pm m$.


# %% tags=["exercise"]
def best_scale(w, n_bits):
    return ...


# %% tags=["check"]
def by_trying(w, n_bits):
    most = 2 ** (n_bits - 1) - 1
    tried = []
    for f in range(50, 101, 5):
        scale = f / 100 * max(abs(w)) / most
        back = [scale * min(most, max(-most, round(x / scale))) for x in w]
        tried.append((sum((x - y) ** 2 for x, y in zip(w, back, strict=True)), scale))
    return min(tried)[1]


blocks = [np.random.default_rng(seed).normal(size=32) for seed in range(4)]
exercise.function(best_scale, by_trying, *((block, n) for block in blocks for n in (3, 4)))


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `quantized` in section "A grid for each block" does the same with one scale. Which integer does the largest
# weight get, if $s$ is smaller than $\max|w|/m$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For each candidate $s$ compute $q_i = \operatorname{round}(w_i/s)$, cut to $-m, \dots, m$ with
# $m = 2^{n-1} - 1$ for $n$ bits, and the error $\sum_i (s\,q_i - w_i)^2$ over the block. Return the scale $s$
# of the smallest error, not its factor $f$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The factors are `np.arange(50, 101, 5) / 100`, with 1 among them. If the scales stand in a column,
# `scales[:, None]`, then `w / scales[:, None]` has one row for each candidate. Round it, cut with
# `np.clip(..., -most, most)`, multiply by the same column, and sum the squared differences from `w` over axis
# 1; `np.argmin` says which scale to return.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Try all, and take the best. With 3 bits and normal weights the best factor is well below 1: what the few
# outliers lose the many others gain. With 4 bits the steps are finer, and there is little to gain.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def best_scale(w, n_bits):
    most = 2 ** (n_bits - 1) - 1
    scales = np.arange(50, 101, 5) / 100 * np.abs(w).max() / most
    rounded = np.clip(np.round(w / scales[:, None]), -most, most)
    errors = np.sum((scales[:, None] * rounded - w) ** 2, axis=1)
    return scales[np.argmin(errors)]


exercise.function(best_scale, by_trying, *((block, n) for block in blocks for n in (3, 4)))

# %% [markdown]
# ### Exercise 2: how often is a guess kept?
#
# The draft always guesses one and the same token, to which the model gives the probability $p$. With which
# probability is the guess kept? And if the draft is uniform over $V$ tokens, while the model is certain of
# one? Write both.


# %% tags=["exercise"]
def kept_always_the_same(p):
    return ...


def kept_uniform(vocab_size):
    return ...


# %% tags=["check"]
def judge_kept(first, second):
    def both(p, vocab_size):
        return first(p), second(vocab_size)

    def sums_of_minima(p, vocab_size):
        model, draft = np.array([p, 1 - p]), np.array([1.0, 0.0])
        certain, uniform = np.eye(vocab_size)[0], np.full(vocab_size, 1 / vocab_size)
        return np.minimum(model, draft).sum(), np.minimum(certain, uniform).sum()

    both.__name__ = first.__name__
    return exercise.function(both, sums_of_minima, (0.3, 5), (0.95, 100))


judge_kept(kept_always_the_same, kept_uniform)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The proof in section "Guessing ahead" says how likely it is that a token is guessed and then kept. Whether a
# guess is kept depends on both distributions, the model's and the draft's.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $p(x)$ and $q(x)$ as in that section, a guess is kept with the probability $\sum_x \min(q(x), p(x))$,
# where the sum runs over all tokens. Write down both distributions for each of the two cases: in each, one of
# them is 1 at a single token and 0 at all others.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In both cases only the term of that single token is left, since everywhere else one of the two probabilities
# is 0. In the first case the draft has 1 there and the model $p$; in the second the model has 1 there, and
# the draft spreads its probability evenly over $V$ tokens. The term is the smaller of the two.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The sum of the minima: $\min(1, p) = p$ in the first case, and $1/V$ in the second.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def kept_always_the_same(p):
    return p


def kept_uniform(vocab_size):
    return 1 / vocab_size


judge_kept(kept_always_the_same, kept_uniform)

# %% [markdown]
# ## Where next
#
# So much for one processor. Lesson 21, *One step on many devices*, divides a training step among as many as
# there are, and counts what they have to tell each other.
