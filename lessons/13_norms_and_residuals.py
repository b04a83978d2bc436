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
# # 13. Normalization and residuals
#
# *After this lesson you can predict how signals and gradients grow or fade through a deep stack, derive the
# backward of layer normalization and say what each of its terms is for, and show by measurement why a
# transformer's layers add to their input instead of replacing it.*
#
# One layer learns, and twenty of them, one upon the other, may learn nothing. Why? A number that passes
# through many layers is multiplied many times, and what is multiplied many times seldom stays what it was.
# Two inventions made deep stacks possible. Both are one line of code. This lesson derives what they do, and
# then takes them away again, to see.

# %%
from types import SimpleNamespace

import numpy as np

from handgrad import gradcheck, ops, tree
from handgrad.lessons import exercise, knobs, mine, source
from handgrad.lessons.pictures import depth as pictures
from handgrad.optim import adam
from handgrad.parameters import Linear
from handgrad.shapes import average, sum_to

# %% [markdown]
# ## What a layer does to a variance
#
# Let the weights of a layer be random, independent, with mean 0 and variance $\sigma^2$, and its input $x$
# anything at all. Each output is a sum of $D$ products, $z_j = \sum_i x_iW_{ij}$. Products of different
# weights are zero on average, so only the squares remain:
#
# $$\langle z^2\rangle = \sum_i x_i^2\,\sigma^2
# = \underbrace{D\,\sigma^2}_{\text{gain}}\;\langle x^2\rangle .$$
#
# The mean square is multiplied by the *gain*, $D\sigma^2$. Backward, $dx_i = \sum_j dz_j W_{ij}$ is the same
# kind of sum, and with as many outputs as inputs it has the same gain. After $l$ layers both have been
# multiplied by $\text{gain}^l$: they *vanish* or *explode*. A gain that is not 1 gets no second chance:
# $0.8^{50}\approx1.4\cdot10^{-5}$. Turn the knob; the grey lines are the formula.


# %%
def size(x):
    return np.sqrt(np.mean(x * x))


def fifty_products(gain):
    rng = np.random.default_rng(0)
    weights = (gain / 128) ** 0.5 * rng.normal(size=(50, 128, 128))
    x, dx = rng.normal(size=(2, 64, 128))
    signal, gradient = [size(x)], [size(dx)]
    for w in weights:
        x = x @ w
        signal.append(size(x))
    for w in weights[::-1]:
        dx = dx @ w.T
        gradient.append(size(dx))
    powers = gain ** (np.arange(51) / 2)  # the root of a mean square
    measured, predicted = {"measured": (signal, gradient[::-1])}, {"": (powers, powers[::-1])}
    return pictures.gradients_by_layer(measured, predicted=predicted, limits=(1e-8, 1e8))


knobs.turn(fifty_products, gain=[0.5, 0.8, 1.0, 1.25, 2.0])

# %% [markdown]
# An activation changes the gain. A ReLU sets half of a symmetric signal to zero and so halves its mean
# square; the gain of the layer has to be 2 to make up for it, $\sigma^2 = 2/D$ (He et al., "Delving deep
# into rectifiers", 2015). The exercises do this for tanh. So one may choose weights that begin well. But
# training moves them, all at once, and fifty factors near 1 do not stay near 1 by themselves.
#
# And there is a second decay, which no gain can mend. Even at gain 1 a product of many random matrices
# stretches few directions and shrinks all others. Below: after a stack of fifty, how much of the squared
# length lies in the three strongest of 128 directions? And how alike are the outputs of inputs that had
# nothing to do with each other (the size of their cosine: 1 is parallel, and about 0.07 is chance)? It is an
# effect of depth *and* width: what counts is how many layers there are for each direction. After as many
# layers, wider stacks are less alike, as the second table says.

# %%
rng = np.random.default_rng(1)
x = rng.normal(size=(64, 128))
product = np.eye(128)


def alike(x):
    directions = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = np.abs(directions @ directions.T)
    return cosines[~np.eye(len(x), dtype=bool)].mean()


print("layers   the strongest three   alike")
for layer in range(51):
    if layer in (0, 1, 10, 50):
        squares = np.linalg.svd(product, compute_uv=False) ** 2
        print(f"{layer:6}   {sum(squares[:3]) / sum(squares):19.2f}   {alike(x @ product):5.2f}")
    product = product @ (rng.normal(size=(128, 128)) / 128**0.5)

for width in (64, 128, 256, 512):
    x = rng.normal(size=(64, width))
    for _ in range(50):
        x = x @ (rng.normal(size=(width, width)) / width**0.5)
    print(f"{width:4} wide, after 50 layers: alike {alike(x):.2f}")

# %% [markdown]
# A stack that says the same of everything has nothing left to learn from, however well its lengths are kept.
# (With an activation in between the same happens even at infinite width, at a depth that the variances of
# the weights decide: Schoenholz et al., "Deep information propagation", 2017,
# [arXiv:1611.01232](https://arxiv.org/abs/1611.01232).) So there are two troubles: sizes, and sameness.
# The first is the business of normalization.
#
# ## Layer normalization
#
# Instead of hoping that a row of $x$ keeps its size, give it one. Take its mean away, divide by its
# deviation, and let a learned scale and shift say which size is wanted (Ba, Kiros & Hinton, "Layer
# normalization", 2016):
#
# $$\mu = \langle x\rangle,\qquad r = \big(\langle(x-\mu)^2\rangle+\epsilon\big)^{-1/2},\qquad
# \hat x = (x-\mu)\,r,\qquad y = \gamma*\hat x+\beta .$$
#
# $\langle\cdot\rangle$ is the mean over a row; each row is normalized by itself, and knows nothing of the
# batch. A small $\epsilon$ keeps a row of equal numbers from dividing by zero. By hand, the row
# $(1, 1, 5, 5)$ has $\mu = 3$ and the variance 4, so $r = \frac12$ and $\hat x = (-1,-1,1,1)$.
#
# The same result comes of $(101, 101, 105, 105)$, and of $(7, 7, 35, 35)$: a shift of the row vanishes with
# the mean, a positive factor with the deviation. These two *invariances* are all that the backward needs to
# be understood.

# %%
row = np.array([1.0, 1.0, 5.0, 5.0])
for x in (row, row + 100, 7 * row, -row):
    y, _ = ops.layer_norm.forward(x, np.ones(4))
    print(f"{x} -> {y.round(4)}")
source.show(ops.layer_norm.forward)

# %% [markdown]
# With three numbers one can see it. A row is a point in space. Taking the mean away moves it along
# $(1, 1, 1)$, down onto the plane in which the three sum to zero. Dividing by the deviation then moves it
# along its radius onto a circle: $\langle\hat x^2\rangle = 1$ means $|\hat x|^2 = D$, so the radius is
# $\sqrt3$. Of three dimensions, one is left.

# %%
pictures.geometry()

# %% [markdown]
# ## Its backward, step by step
#
# The arrows on the right of the picture are the gradient. Let us derive it. Write $g = \gamma*dy$ for the
# gradient at $\hat x$, $c = x-\mu$ for the centred row, and $\delta$ for a small change. First the
# deviation:
#
# $$\begin{aligned}
# \delta r &= -\tfrac12\,r^3\,\delta\langle c^2\rangle\\
# &= -r^3\,\langle c\,\delta c\rangle = -r^2\,\langle\hat x\,\delta c\rangle .
# \end{aligned}$$
#
# Then $\hat x = c\,r$ by the product rule, with $c = \hat x/r$:
#
# $$\delta\hat x = r\,\delta c + c\,\delta r = r\,\big(\delta c-\hat x\,\langle\hat x\,\delta c\rangle\big),
# \qquad \delta c = \delta x-\langle\delta x\rangle .$$
#
# $\hat x$ has the mean zero, so $\langle\hat x\,\delta c\rangle = \langle\hat x\,\delta x\rangle$. The loss
# changes by
#
# $$\begin{aligned}
# & \sum_i g_i\,\delta\hat x_i\\
# & = r\sum_i g_i\big(\delta x_i-\langle\delta x\rangle-\hat x_i\langle\hat x\,\delta x\rangle\big)\\
# & = \sum_i r\,\big(g_i-\langle g\rangle-\hat x_i\langle g\,\hat x\rangle\big)\,\delta x_i .
# \end{aligned}$$
#
# In the last step the means change places, since both sides are the product of the same two means:
#
# $$\sum_i g_i\,\langle\delta x\rangle = D\,\langle g\rangle\langle\delta x\rangle
# = \sum_i \langle g\rangle\,\delta x_i ,$$
#
# and likewise for the other. What stands before $\delta x_i$ is the gradient:
#
# $$dx = r\,\big(g-\langle g\rangle-\hat x\,\langle g\,\hat x\rangle\big),\qquad
# d\gamma = \sum dy*\hat x,\qquad d\beta=\sum dy ,$$
#
# the sums over all rows that used the same $\gamma$ and $\beta$. *Why are two means taken away?* Because of
# the two invariances. A shift of $x$ does not change $y$, so the gradient cannot point along $(1,\dots,1)$. A
# stretching of $x$, which moves it along $x$ itself, does not change $y$ either: so the gradient is
# orthogonal to $x$. And as it is orthogonal to $(1,\dots,1)$ already, it is so to $x - \mu$, and to $\hat x$.
# The two terms remove just these parts.
#
# By hand: the row $(1, 1, 5, 5)$ again, $\gamma = 1$, and $dy = (4, 0, 0, 0)$. Here $\langle g\rangle = 1$
# and $\langle g\,\hat x\rangle = -1$. Without its mean $g$ is $(3,-1,-1,-1)$; plus $\hat x$ that makes
# $(2,-2,0,0)$; times $r$, $dx = (1,-1,0,0)$.

# %%
_, saved = ops.layer_norm.forward(row, np.ones(4), eps=1e-12)
dx, _, _ = ops.layer_norm.backward(np.array([4.0, 0.0, 0.0, 0.0]), saved)
print("dx =", dx.round(6) + 0.0)

rng = np.random.default_rng(2)
x, dy = rng.normal(5, 3, size=(2, 8)), rng.normal(size=(2, 8))
gamma, beta = rng.normal(size=(2, 8))
_, saved = ops.layer_norm.forward(x, gamma, beta)
dx, dgamma, dbeta = ops.layer_norm.backward(dy, saved)
x_hat = (x - saved.mean) * saved.rstd
print("of the two rows of dx,")
print("along (1, ..., 1):", *(f"{part:9.0e}" for part in np.sum(dx, axis=1)))
print("along x_hat:      ", *(f"{part:9.0e}" for part in np.sum(dx * x_hat, axis=1)))
for proof in gradcheck.check(ops.layer_norm, {"x": x, "gamma": gamma, "beta": beta}, rng):
    print(f"{proof.input:6} relative error {proof.relative_error:.1e}")
source.show(ops.layer_norm.backward)

# %% [markdown]
# (Along $\hat x$ a trace remains, because $\epsilon$ spoils the second invariance a little.) One thing more
# can be read from $dx$: it carries the factor $r$. If $x$ comes in ten times as large, $y$ is the same and
# $dx$ is ten times smaller: layers that write too large a signal hear a gradient that is as much quieter.
#
# ## Half of it: RMS norm
#
# One may leave the mean alone, and only divide by the root mean square,
#
# $$r = \big(\langle x^2\rangle+\epsilon\big)^{-1/2},\qquad y = \gamma*x\,r$$
#
# (Zhang & Sennrich, "Root mean square layer normalization", 2019). It is a pass over the row less, and
# Llama's models do well with it (Touvron et al., 2023). Its one invariance is the stretching. The picture
# shows three rows, before and after.

# %%
pictures.normalized()

# %% [markdown]
# ## A matter of digits
#
# The variance has two formulas that are equal on paper, $\langle(x-\mu)^2\rangle$ and
# $\langle x^2\rangle-\mu^2$. The second needs one pass over the numbers, and it is a trap. With a mean of
# 1,000 and a deviation of 1, $x^2$ is about a million, and the answer, 1, is the small difference of two
# large numbers, of which float32 keeps seven digits. At 10,000 nothing of it is left. That is why the
# library's norm goes over the row twice.

# %%
rng = np.random.default_rng(3)
print("  mean   two passes   <x²> - mean²     (relative errors of the variance in float32)")
for mean in (0, 10, 100, 1000, 10_000):
    x = (mean + rng.normal(size=1024)).astype(np.float32)
    exact = np.var(x.astype(np.float64))
    centred = x - np.mean(x)
    two_passes, one_pass = np.mean(centred * centred), np.mean(x * x) - np.mean(x) ** 2
    print(f"{mean:6}   {abs(two_passes / exact - 1):10.0e}   {abs(one_pass / exact - 1):12.0e}")

# %% [markdown]
# ## The residual connection
#
# The other trouble was sameness: a layer that replaces its input loses some of it, and the next layer more.
# So let it not replace, but *add* (He et al., "Deep residual learning for image recognition", 2015):
#
# $$y = x + f(x),\qquad dx = dy + J_f^\top dy .$$
#
# The gradient takes two paths, and one of them is empty: it carries $dy$ to the input as it is, without a
# single weight on the way. Through two layers the Jacobians multiply to
#
# $$(1+J_2)(1+J_1) = 1 + J_1 + J_2 + J_2J_1 ,$$
#
# and through $L$ of them to a sum over all $2^L$ ways of passing some layers and going around the others.
# Whatever the layers do, the 1 stays. In the library's backward the first path is not even a copy:

# %%
w = rng.normal(size=(6, 6))
x, dy = rng.normal(size=(2, 3, 6))


def forward(x, w):
    h, layer = ops.linear.forward(x, w)
    h, act = ops.tanh.forward(h)
    y, residual = ops.residual.forward(x, h)
    return y, (layer, act, residual)


def backward(dy, saved):
    layer, act, residual = saved
    dx, dh = ops.residual.backward(dy, residual)
    (dh,) = ops.tanh.backward(dh, act)
    dh, dw, _ = ops.linear.backward(dh, layer)
    return ops.residual.join(dx, dh), dw


_, (_, _, residual) = forward(x, w)
dx_path, dh = ops.residual.backward(dy, residual)
print("the first path carries dy itself:", dx_path is dy)
layer = SimpleNamespace(forward=forward, backward=backward)
for proof in gradcheck.check(layer, {"x": x, "w": w}, rng):
    print(f"{proof.input}: relative error {proof.relative_error:.1e}")

# %% [markdown]
# ## One stack, five ways
#
# Now both inventions, apart and together. Our layer $f$ is a transformer's feed-forward block, two matrices
# with a ReLU between them, with weights such that it multiplies mean squares by a gain $g$. It can stand
# alone, or with a norm $N$, or with a residual connection, or with both. With both there is a choice: the
# norm *before* the layer, on the branch (pre-norm), or *after* the sum, on the path (post-norm, as in the
# first transformer).
#
# What becomes of a mean square of 1, that of the signal after $l$ layers, and that of the gradient there, on
# its way back from layer $L$? Layers and gradients begin independent of each other, so mean squares add where
# paths join:
#
# | stack | $y =$ | signal | gradient |
# |---|---|---|---|
# | plain | $f(x)$ | $g^l$ | $g^{L-l}$ |
# | norm only | $f(N(x))$ | $g$ | $1$ |
# | residual only | $x+f(x)$ | $(1+g)^l$ | $(1+g)^{L-l}$ |
# | norm before | $x+f(N(x))$ | $1+gl$ | $\dfrac{1+gL}{1+gl}$ |
# | norm after | $N(x+f(x))$ | $1$ | $1$ |
#
# (At the very input, before any norm, the signal of "norm only" is still $1$, and its gradient is $g$.) The
# fourth row is worth deriving. Each layer reads a signal of size 1, however large the stream has become,
# and adds $g$ to it: the sum grows evenly, not by factors. Backward the norm divides by that same size, so a
# layer multiplies the gradient's mean square by
#
# $$1+\frac{g}{1+g(l-1)} = \frac{1+gl}{1+g(l-1)} ,$$
#
# and in the product over all layers above $l$ each numerator cancels with the next denominator. For "norm
# only" and "norm after" the norm undoes backward what the layer has done forward.

# %%
STACKS = {
    "plain": ("", False),
    "norm only": ("before", False),
    "residual only": ("", True),
    "norm before": ("before", True),
    "norm after": ("after", True),
}


def layer_forward(x, weights, norm, residual):
    h, ones, before, after = x, np.ones(x.shape[-1]), None, None
    if norm == "before":
        h, before = ops.layer_norm.forward(h, ones)
    h, inside = ops.feed_forward.forward(h, *weights, activation="relu")
    y = x + h if residual else h
    if norm == "after":
        y, after = ops.layer_norm.forward(y, ones)
    return y, (before, inside, after, residual)


def layer_backward(dy, saved):
    before, inside, after, residual = saved
    if after is not None:
        dy, *_ = ops.layer_norm.backward(dy, after)
    dh, dup, ddown, *_ = ops.feed_forward.backward(dy, inside)
    if before is not None:
        dh, *_ = ops.layer_norm.backward(dh, before)
    return (dy + dh if residual else dh), (dup, ddown)


# %%
def new_layers(n_layers, d_model, gain, rng):
    def matrix(gain):
        return Linear((gain / d_model) ** 0.5 * rng.normal(size=(d_model, d_model)))

    return tuple((matrix(2.0), matrix(gain)) for _ in range(n_layers))  # the 2 makes up for the ReLU


def stack_forward(x, layers, kind):
    saved, sizes = [], [size(x)]
    for weights in layers:
        x, saved_layer = layer_forward(x, weights, *kind)
        saved.append(saved_layer)
        sizes.append(size(x))
    return x, saved, sizes


def stack_backward(dx, saved):
    dlayers, sizes = [], [size(dx)]
    for saved_layer in saved[::-1]:
        dx, dlayer = layer_backward(dx, saved_layer)
        dlayers.insert(0, dlayer)
        sizes.insert(0, size(dx))
    return dx, dlayers, sizes


# %% [markdown]
# Here are thirty layers, measured, with the roots of the table as grey lines. The plain stack vanishes at
# gain $\frac14$ and explodes at 2; a residual without a norm explodes at any gain. With a norm, sizes stay in
# bounds. And sameness? The numbers below the picture say how alike the outputs have become at gain 1, for
# inputs that were independent.


# %%
def table(g, L=30):
    n, one = np.arange(L + 1), np.ones(L + 1)  # n: how many layers the signal has passed
    rows = {
        "plain": (g**n, g ** (L - n)),
        "norm only": (np.where(n > 0, g, 1.0), np.where(n > 0, 1.0, g)),
        "residual only": ((1 + g) ** n, (1 + g) ** (L - n)),
        "norm before": (1 + g * n, (1 + g * L) / (1 + g * n)),
        "norm after": (one, one),
    }
    return {name: (signal**0.5, gradient**0.5) for name, (signal, gradient) in rows.items()}


def thirty_layers(kind, gain):
    rng = np.random.default_rng(4)
    x, dy = rng.normal(size=(2, 64, 128))
    y, saved, signal = stack_forward(x, new_layers(30, 128, gain, rng), kind)
    _, _, gradient = stack_backward(dy, saved)
    return y, (signal, gradient)


def five_ways(gain):
    measured = {name: thirty_layers(kind, gain)[1] for name, kind in STACKS.items()}
    return pictures.gradients_by_layer(measured, predicted=table(gain))


knobs.turn(five_ways, gain=[0.25, 1.0, 2.0])

# %%
for name, kind in STACKS.items():
    print(f"{name:14} {alike(thirty_layers(kind, 1.0)[0]):.2f}")

# %% [markdown]
# Only one stack has good sizes and still tells its inputs apart: the one whose path has nothing on it, with
# the norm on the branch. These numbers are of random weights of one width, at one gain: they say where
# learning begins. Where it gets to they do not say. To see what that is worth, let them all learn.
#
# ## Side by side
#
# The task is small: two spiral arms, wound around each other, and each point is to be given to its arm. (A
# third coordinate is always 1, since our layers have no bias.) Twenty layers of width 32, 200 steps of Adam,
# the same for all. They begin at gain 1, and the plain stack gets a second try with gain $\frac14$.


# %%
def spirals(rng, n=64):
    arm = rng.integers(2, size=n)
    turn = np.pi * rng.uniform(0.4, 3.6, size=n)
    angle = turn + np.pi * arm
    points = [turn * np.cos(angle) / 5.5, turn * np.sin(angle) / 5.5, np.ones(n)]
    return np.stack(points, axis=1), arm


def gradients(weights, points, arm, kind):
    into, layers, head = weights
    x, saved_into = ops.linear.forward(points, *into)
    x, saved, _ = stack_forward(x, layers, kind)
    logits, saved_head = ops.linear.forward(x, *head)
    loss, saved_loss = ops.softmax_cross_entropy.forward(logits, arm)
    (dlogits,) = ops.softmax_cross_entropy.backward(1.0, saved_loss)
    dx, *dhead = ops.linear.backward(dlogits, saved_head)
    dx, dlayers, _ = stack_backward(dx, saved)
    _, *dinto = ops.linear.backward(dx, saved_into)
    return loss, (dinto, dlayers, dhead)


# %%
def learn(kind, gain, learning_rate, n_steps=200, D=32):
    rng = np.random.default_rng(5)
    into, head = Linear(rng.normal(size=(3, D))), Linear(0.1 * rng.normal(size=(D, 2)) / D**0.5)
    flat, weights = tree.pack((into, new_layers(20, D, gain, rng), head), np.float64)
    state, losses = adam.init(flat), []
    for _ in range(n_steps):
        loss, dweights = gradients(weights, *spirals(rng), kind)
        gradient, _ = tree.pack(dweights, np.float64)
        flat[:], state = adam.update(flat, gradient, state, learning_rate=learning_rate)
        losses.append(loss)
    return np.array(losses)


def race(learning_rate):
    runs = {f"{name}, gain 1": learn(kind, 1.0, learning_rate) for name, kind in STACKS.items()}
    runs["plain, gain 1/4"] = learn(STACKS["plain"], 0.25, learning_rate)
    return pictures.losses(runs, chance=np.log(2))


knobs.turn(race, learning_rate=[0.001, 0.003])

# %% [markdown]
# What we saw, with this seed and three others: at the higher rate two stacks learn, and they are the two
# whose path is empty; the others stay near the blind guess, or fall back to it. At the lower rate the norm
# after the sum learns too, and so does the plain stack at gain 1, sometimes, with relapses. The norm alone
# learns next to nothing at either. Its sizes were right; what it shares with the plain stack is sameness.
# And the residual alone begins with an absurd loss, since its output exploded, and recovers, because Adam
# divides every gradient by its own size. That is luck of this optimizer and this depth: 256 such layers
# would end near $2^{128}$, where float32 overflows. Good sizes *and* an empty path need no luck.
#
# ## Before or after
#
# Why does it matter where the norm stands? Follow the input $x_0$ itself. With the norm after the sum, and
# gain 1, two equally large parts are added, and the norm divides by $\sqrt2$: through $n$ layers $x_0$ keeps
# the share $2^{-n/2}$, and so does the gradient on its empty path. With the norm on the branch nothing ever
# divides the stream. Its length grows to $\sqrt{1+gn}$, so $x_0$ keeps $1/\sqrt{1+gn}$ of the whole, and the
# gradient's empty path keeps all. The share is the cosine between the input and the stream; below it is
# predicted and measured, and then follows the library's block, which can do both.
#
# In practice models with the norm after the sum want a slow warm-up of the learning rate (Xiong et al., "On
# layer normalization in the transformer architecture", 2020), and most later ones put it before. That has a
# price: the stream grows, each further layer changes it by a smaller part, and one last norm is needed
# before the logits are read.

# %%
from handgrad.model.block import Block


def share(kind, n_layers):
    rng = np.random.default_rng(6)
    start = rng.normal(size=(64, 256))
    stream, _, _ = stack_forward(start, new_layers(n_layers, 256, 1.0, rng), kind)
    return np.mean(start * stream) / (size(start) * size(stream))


print("layers   norm before: predicted, measured   norm after: predicted, measured")
for n in (1, 2, 4, 8):
    before, after = share(STACKS["norm before"], n), share(STACKS["norm after"], n)
    print(f"{n:6}   {(1 + n) ** -0.5:22.2f} {before:9.2f}   {2 ** (-n / 2):21.2f} {after:9.2f}")
source.show(Block._forward_pre, Block._forward_post)

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: the backward of RMS norm
#
# Derive it as above, without the mean, and write it down. `saved` holds $x$, $\gamma$ and $r$ (as `rrms`);
# return $dx$ and $d\gamma$, which is summed over all rows. `average(a)` is the mean over each row, kept as a
# column, and `sum_to(a, shape)` sums down to a shape. The proof judges, on every case of the library's op.


# %% tags=["exercise"]
def rms_norm_backward(dy, saved):
    return ...


# %% tags=["check"]
def scaled(dy, saved):
    return saved.rrms * saved.gamma * dy


def along_x_hat(dy, saved):
    x_hat = saved.x * saved.rrms
    return -saved.rrms * x_hat * average(saved.gamma * dy * x_hat)


terms = {"x": {"r g": scaled, "r x_hat <g x_hat>": along_x_hat}}
exercise.backward(rms_norm_backward, ops.rms_norm, terms=terms)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Layer normalization's backward takes away two terms, one for each of its invariances. Which invariance does
# RMS norm still have, and which term belongs to it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Go through "Its backward, step by step" with $x$ in the place of $c$: here
# $\delta r = -\tfrac12\,r^3\,\delta\langle x^2\rangle$, and $\hat x = x\,r$ changes by the product rule. Then
# multiply by $g_i = \gamma_i\,dy_i$, sum over $i$, and collect what stands before $\delta x_i$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The change is $\delta\hat x = r\,(\delta x-\hat x\,\langle\hat x\,\delta x\rangle)$, and in
# $\sum_i g_i\,\delta\hat x_i$ the two means change places as before; no $\langle g\rangle$ appears. In code
# $\hat x$ is `saved.x * saved.rrms`; $d\gamma$ sums $dy*\hat x$ to the shape of $\gamma$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# With $g = \gamma*dy$ and $\hat x = x\,r$:
# $\delta r = -\frac12r^3\,\delta\langle x^2\rangle = -r^2\langle\hat x\,\delta x\rangle$, so
# $\delta\hat x = r(\delta x-\hat x\langle\hat x\,\delta x\rangle)$, and
# $dx = r\,(g-\hat x\langle g\,\hat x\rangle)$. One invariance, one term.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def rms_norm_backward(dy, saved):
    x, gamma, rrms = saved
    x_hat = x * rrms
    g = gamma * dy
    return rrms * (g - x_hat * average(g * x_hat)), sum_to(dy * x_hat, gamma.shape)


exercise.backward(rms_norm_backward, ops.rms_norm, terms=terms)

# %% [markdown]
# ### Exercise 2: sixteen layers ahead
#
# A stack of sixteen layers, each a product with a $128\times128$ matrix of variance $\sigma^2 = 1/128$ and
# then a ReLU. The input has the mean square 1. Predict the mean square of the output, on average over many
# such stacks. The judge measures two hundred, and accepts what is within a quarter of the result.

# %% tags=["exercise"]
mean_square = ...


# %% tags=["check"]
def measured_mean_square(n_stacks=200, n_layers=16, D=128):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n_stacks, 4, D))
    for _ in range(n_layers):
        x = np.maximum(0, x @ (rng.normal(size=(n_stacks, D, D)) / D**0.5))
    return np.mean(x * x)


exercise.value(mean_square, measured_mean_square, tolerance=0.25)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Follow the product and the ReLU one after the other: the section "What a layer does to a variance" says what
# each does to a mean square.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# One layer multiplies the mean square by the gain $D\sigma^2$ of its product, and then by the share that the
# ReLU keeps. Sixteen layers multiply by that factor sixteen times.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The gain is $128\cdot\frac1{128}$. What the product makes is symmetric about zero, even from inputs that are
# never negative, so each ReLU keeps half of the mean square; raise the factor of a layer to the power 16, and
# take no root, since the mean square itself is asked for.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The product has gain 1, and the ReLU keeps half of the mean square: $2^{-16}\approx1.5\cdot10^{-5}$. (A
# root mean square would be $2^{-8}$.)
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
mean_square = 2.0**-16
exercise.value(mean_square, measured_mean_square, tolerance=0.25)

# %% [markdown]
# ### Exercise 3: a gain for tanh
#
# A plain stack of thirty layers, $x\leftarrow\tanh(xW)$, 128 wide. Find a gain $D\sigma^2$, one number, at
# which a gradient arrives at the input with no less than half, and no more than twice, the size (root mean
# square) with which it began.
# Think first: is it 1, or less, or more?

# %% tags=["exercise"]
gain_for_tanh = ...


# %% tags=["check"]
def what_arrives(gain, n_layers=30, D=128):
    rng = np.random.default_rng(8)
    weights = (gain / D) ** 0.5 * rng.normal(size=(n_layers, D, D))
    x, dx = rng.normal(size=(2, 64, D))
    saved = []
    for w in weights:
        x, saved_tanh = ops.tanh.forward(x @ w)
        saved.append(saved_tanh)
    for w, saved_tanh in zip(weights[::-1], saved[::-1], strict=True):
        dx = ops.tanh.backward(dx, saved_tanh)[0] @ w.T
    return size(dx)


exercise.claim(
    gain_for_tanh, lambda gain: 0.5 <= what_arrives(gain) <= 2, "between half and twice the gradient"
)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# On its way back the gradient is multiplied by the slope of tanh in each layer (lesson 7). How large can that
# slope be, and where?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $z = xW$, a layer multiplies the gradient's mean square by about
# $D\sigma^2\,\langle(1-\tanh^2 z)^2\rangle$. The gain has to make up for the mean of the squared slopes, so
# that the product of thirty such factors stays near 1.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# At gain 1 each factor is below 1, so too little arrives, and at a gain that is far too large the gradient
# grows. Run the check's cell once, print `what_arrives(gain)` for gains from 1 upwards in steps of 0.25, and
# take one for which it lies between 0.5 and 2.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# More than 1. The slope of tanh is 1 at zero and smaller everywhere else, so each layer passes less of the
# gradient than a linear one would. At gain 1 the signal shrinks from layer to layer until tanh is all but
# linear, and up to there much of the gradient is lost. A larger gain keeps the signal from shrinking, and
# makes up for the slopes; from about 2 on it makes up for too much. Anything near 1.5 will do.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
gain_for_tanh = 1.5
exercise.claim(
    gain_for_tanh, lambda gain: 0.5 <= what_arrives(gain) <= 2, "between half and twice the gradient"
)

# %% [markdown]
# ### Make it yours: layer normalization
#
# Write layer normalization with $\epsilon = 10^{-5}$, and its backward. $\beta$ may be `None`.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_norm(x, gamma, beta):
    return ..., ...


def my_norm_backward(dy, saved):
    return ..., ..., ...


# %% tags=["check"]
mine.keep("layer_norm", my_norm, my_norm_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The forward is in the section "Layer normalization", the backward in "Its backward, step by step". Which
# arrays of the forward does the backward use? Save these.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Take both means over the last axis with `average`, and add $\epsilon$ to the variance before the root. Save
# $\hat x$, $r$, $\gamma$ and $\beta$, and begin the backward with $g = \gamma*dy$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In $dx$ two things are taken away from $g$, $\langle g\rangle$ and $\hat x\,\langle g\,\hat x\rangle$, and
# $r$ multiplies the whole difference. `sum_to` brings $dy*\hat x$ to the shape of $\gamma$ and $dy$ to that
# of $\beta$; if $\beta$ is `None`, nothing is added and its gradient is `None`.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# Keep $\hat x$ and $r$; the rest is the formula with its two means.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_norm(x, gamma, beta):
    centred = x - average(x)
    r = 1 / np.sqrt(average(centred**2) + 1e-5)
    y = gamma * centred * r
    return (y if beta is None else y + beta), (centred * r, r, gamma, beta)


def my_norm_backward(dy, saved):
    x_hat, r, gamma, beta = saved
    g = gamma * dy
    dx = r * (g - average(g) - x_hat * average(g * x_hat))
    return dx, sum_to(dy * x_hat, gamma.shape), None if beta is None else sum_to(dy, beta.shape)


mine.keep("layer_norm", my_norm, my_norm_backward)

# %% [markdown]
# ### Make it yours: the residual connection
#
# Write $x + h$, and its backward. It is as short as it looks.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_residual(x, h):
    return ..., ...


def my_residual_backward(dy, saved):
    return ..., ...


# %% tags=["check"]
mine.keep("residual", my_residual, my_residual_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Turn up one element of $x$ by a little. How much does the same element of $y$ rise, and is it any different
# for $h$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $y = x + h$ has the slope 1 in $x$ and the slope 1 in $h$; the chain rule multiplies $dy$ by each. The
# backward uses no array of the forward, so `None` can be saved.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Nothing is divided between the two: $x_i$, turned up by $\epsilon$, makes the loss rise by $\epsilon\,dy_i$,
# and so does $h_i$. Return two gradients, that of $x$ first.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# Both get what comes from above.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_residual(x, h):
    return x + h, None


def my_residual_backward(dy, saved):
    return dy, dy


mine.keep("residual", my_residual, my_residual_backward)

# %% [markdown]
# ## Where next
#
# Attention, feed-forward blocks, norms and residuals: every part is there. Lesson 14, "The whole
# transformer", puts them together.
