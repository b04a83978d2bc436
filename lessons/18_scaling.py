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
# # 18. Scaling
#
# *After this lesson you can measure how a model's loss falls with its size, its data and its arithmetic, fit
# a law to it, predict a run before it is made, and say which size makes the most of a given time.*
#
# Twice as large a model: how much better is it? For large models the answer decides where millions go, and it
# was found by training small ones: losses fall along smooth curves, *scaling laws*, over many powers of ten
# (Kaplan et al., "Scaling laws for neural language models", 2020,
# [arXiv:2001.08361](https://arxiv.org/abs/2001.08361)). On your computer there is room for two of these
# powers. That is enough to see the curves, and to test a prediction.

# %%
import numpy as np

from handgrad import engines
from handgrad import tokenizer as tokenizers
from handgrad.data import batches, corpus
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.lessons import exercise, knobs
from handgrad.lessons.pictures import scaling as pictures
from handgrad.model.config import preset
from handgrad.model.count import count
from handgrad.model.init import init
from handgrad.training import evaluate

# %% [markdown]
# ## Five sizes
#
# The preset `nano` at five widths, all else alike: four layers, a context of 64 characters, batches of 12.
# $N$ is the number of weights in matrices, those that are multiplied with every token. A training step costs
# about six operations for each of them and each token (lesson 14), so $D$ tokens cost
#
# $$C \approx 6\,N\,D .$$
#
# The learning rate stays constant, and so every point on the way is a finished training of fewer tokens. It
# is smaller for wider models, in which more weights move an output at once. Small models get more steps.

# %%
text = corpus.embedded().text
tokenizer = tokenizers.train("characters", [text])
learned, unseen = batches.split(tokenizer.encode(text), 64)
nano = preset("nano").replace(vocab_size=tokenizer.vocab_size)
STEPS = {16: 1280, 32: 1280, 48: 640, 64: 320, 96: 320}  # for each width
AT = (80, 160, 320, 640, 1280)  # the steps after which we look


def train(width):
    """(N, D, loss) after each of the steps in AT."""
    config = nano.replace(d_model=width)
    training = engines.training(config, State(init(config, 2)), OptimizerSettings(), batch_size=12)
    rng, points, n = np.random.default_rng(2), [], count(config).matrix_parameters
    for step in range(1, STEPS[width] + 1):
        training.step(*batches.draw(learned, 12, 64, rng), 0.12 / width * min(1.0, step / 20))
        if step in AT:
            loss = evaluate.loss(training, unseen, batch_size=64, n_windows=128)
            points.append((n, step * 12 * 64, loss))
    return points


points = {width: train(width) for width in STEPS}
print("      N   " + "".join(f"{at * 12 * 64:>10,}" for at in AT) + "   tokens")
for row in points.values():
    print(f"{row[0][0]:8,}  " + "".join(f"{loss:10.3f}" for _, _, loss in row))
pictures.by_compute(points)

# %% [markdown]
# Each curve is one size. With little arithmetic the smallest is ahead: it has made the most steps for it. But
# its curve flattens, as so few weights hold no more. The second one's is steeper, and goes on to below where
# the first one ends. The turn of the larger ones comes further right, with more arithmetic than this page
# has. The best that can be had for each amount is the lower edge of all curves.
#
# ## A law
#
# Hoffmann et al. ("Training compute-optimal large language models", 2022,
# [arXiv:2203.15556](https://arxiv.org/abs/2203.15556)) describe such losses by three terms:
#
# $$L(N, D) = E + \frac{A}{N^\alpha} + \frac{B}{D^\beta}$$
#
# $E$ is what no model can go below, the entropy of the text (lesson 8). The second term is what a model of
# this size cannot hold, even after unlimited training; the third is what has not been learned yet from so
# little data. To fit: for given exponents the law is *linear* in $E$, $A$ and $B$, so least squares gives
# these; and the exponents we try out on a grid.


# %%
def fit(points):
    """E, A, alpha, B, beta with the smallest squared error."""
    n, d, losses = np.array(points, dtype=float).T
    best = (np.inf,)
    for alpha in np.linspace(0.1, 1.5, 29):
        for beta in np.linspace(0.1, 1.5, 29):
            terms = np.stack([np.ones_like(n), n**-alpha, d**-beta], axis=1)
            scale = np.abs(terms).max(axis=0)
            found, *_ = np.linalg.lstsq(terms / scale, losses)
            error = np.sum((terms / scale @ found - losses) ** 2)
            if error < best[0] and np.all(found >= 0):
                best = (error, *(found / scale), alpha, beta)
    _, E, A, B, alpha, beta = best
    return E, A, alpha, B, beta


def law(n, d, E, A, alpha, B, beta):
    return E + A / n**alpha + B / d**beta


*smaller, largest = points.values()
seen = [point for row in smaller for point in row]
found = fit(seen)
print("E = {:.2f}, A = {:.3g}, alpha = {:.2f}, B = {:.3g}, beta = {:.2f}".format(*found))

# %% [markdown]
# The largest size was left out of the fit. Does the law predict it?

# %%
for n, d, loss in largest:
    print(f"N = {n:,}, D = {d:7,}: predicted {law(n, d, *found):.3f}, measured {loss:.3f}")
pictures.fitted(points, lambda n, d: law(n, d, *found))

# %% [markdown]
# Look at what it gets right and what not. Four sizes are few, and five numbers fitted to them are many; the
# further one looks ahead, the less they bind, and another seed moves $\alpha$ and $E$ a good deal. Published
# laws are fitted to hundreds of runs, and are still argued about. In particular nobody should read the
# entropy of a text from such an $E$.
#
# ## The best size for a given time
#
# You have time for $C$ operations. Small model, much data, or the other way round? Put $D = C/6N$ into the
# law and differentiate by $N$:
#
# $$\frac{d}{dN}\Big(\frac{A}{N^\alpha} + B\,\Big(\frac{6N}{C}\Big)^{\beta}\Big)
# = -\frac{\alpha A}{N^{\alpha+1}} + \frac{\beta B}{N}\Big(\frac{6N}{C}\Big)^{\beta} = 0
# \quad\Rightarrow\quad N^{\alpha+\beta} = \frac{\alpha A}{\beta B}\Big(\frac{C}{6}\Big)^{\beta}$$
#
# so that the best size grows as $C^{\beta/(\alpha+\beta)}$. Where both exponents are alike, that is the root:
# ten times the arithmetic is best spent on a model $\sqrt{10}$ times as large, with $\sqrt{10}$ times the
# data. That is what Hoffmann et al. found for large models, about 20 tokens for each weight. Turn the time:


# %%
def best_size(operations):
    return pictures.valley(operations, lambda n, d: law(n, d, *found))


knobs.turn(best_size, operations=[1e10, 1e11, 1e12])

# %% [markdown]
# The valley is flat: a model half or twice as large as the best one is hardly worse. On a processor there is
# more to it, since small models use it less well, and a text that is too short is read again and again. That
# is why `handgrad train --minutes` measures your machine, and chooses by what was measured.
#
# ## Exercises
#
# ### Exercise 1: how long will it take?
#
# A model of $N$ weights is trained on $D$ tokens by a machine that makes $P$ operations a second. Return the
# hours.


# %% tags=["exercise"]
def hours(n, d, p):
    return ...


# %% tags=["check"]
def by_steps(n, d, p):
    """Forward two operations a weight and token, backward four; a step at a time."""
    return sum((2 + 4) * n * d / 100 / p for _ in range(100)) / 3600


exercise.function(hours, by_steps, (8e5, 1.5e6, 1e11), (124e6, 2.5e9, 3e14))


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# "Five sizes" gives the operations of a training run, and lesson 14 counts them in "Six operations a weight".
# How long do they take on a machine with a given speed, and in which unit is the answer wanted?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# First the operations: for every weight and every token two in the forward pass, and in the backward pass
# twice as many. Operations over operations a second are seconds.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The seconds are $C/P$, with the $C$ of "Five sizes", which has the backward pass in it. An hour has 3600
# seconds, so divide by that.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $6ND/P$ seconds. GPT-2's smallest model with twenty tokens a weight takes about five hours of a GPU that
# reaches $10^{14}$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def hours(n, d, p):
    return 6 * n * d / p / 3600


exercise.function(hours, by_steps, (8e5, 1.5e6, 1e11), (124e6, 2.5e9, 3e14))

# %% [markdown]
# ### Exercise 2: the best size
#
# Write the formula of above: the $N$ that makes the loss smallest for $C$ operations. The judge looks for it
# along a line.


# %% tags=["exercise"]
def best(c, A, alpha, B, beta):
    return ...


# %% tags=["check"]
def by_looking(c, A, alpha, B, beta):
    n = np.geomspace(1e2, 1e12, 2_000_001)
    return n[np.argmin(A / n**alpha + B * (6 * n / c) ** beta)]


laws = (1e18, 400.0, 0.34, 410.0, 0.28), (1e15, 50.0, 0.5, 900.0, 0.5)
exercise.function(best, by_looking, *laws, tolerance=1e-4)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Reread the derivation in "The best size for a given time": its last line has a power of $N$. What remains to
# be done to get $N$ itself?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The slope is zero where $\alpha A\,N^{-\alpha} = \beta B\,(6N/C)^{\beta}$. Bring all powers of $N$ to one
# side, and only then take the root. $E$ is gone, since it does not depend on $N$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $N^{\alpha+\beta}$ is a product of two factors, $\alpha A/(\beta B)$ and $(C/6)^\beta$. Raise each to the
# power $1/(\alpha+\beta)$. The second has an exponent already, and the two exponents multiply: $\beta$ comes
# on top, not $\alpha$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $N = \Big(\frac{\alpha A}{\beta B}\Big)^{1/(\alpha+\beta)}(C/6)^{\beta/(\alpha+\beta)}$. (The first set of
# numbers is that of Hoffmann et al., rounded.)
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def best(c, A, alpha, B, beta):
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (c / 6) ** (beta / (alpha + beta))


exercise.function(best, by_looking, *laws, tolerance=1e-4)

# %% [markdown]
# ## Where next
#
# You know what more arithmetic buys. Lesson 19, *From formulas to speed*, asks how a machine does more of it.
