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
# # 8. Losses
#
# *After this lesson you can derive a loss from what you believe about errors, read it in nats, bits and
# perplexity, derive the gradient p - t of softmax and cross-entropy, and say why the two belong together.*
#
# A network answers, and the answer is wrong. How wrong? Training needs *one number*, and it needs three
# things of it: it must fall as answers get better; it must be lowest where we want the network to end; and
# it must have a slope, because the slope is all that training ever looks at.
#
# To count mistakes is a measure of quality, but no loss. Here a single weight $w$ decides by the sign of
# $wx$. Move it a little, and no answer changes its sign: the slope is exactly zero. The second function is
# the loss that this lesson leads to, for the same answers.

# %%
import numpy as np

import handgrad
from handgrad import gradcheck
from handgrad.foundations import descent
from handgrad.lessons import exercise, knobs, mine, source
from handgrad.lessons.pictures import losses as pictures
from handgrad.ops import cross_entropy, mse, sigmoid, softmax, softmax_cross_entropy
from handgrad.plots import losses as plots

x = np.array([-2.0, -1.0, 0.5, 1.0, 3.0])
labels = np.array([0, 0, 1, 0, 1])


def mistakes(w):
    return np.mean((w * x > 0) != labels)


def loss(w):
    return softmax_cross_entropy.forward(np.stack([0 * x, w * x], axis=1), labels)[0]


w = np.array([-0.7])
for name, measure in {"mistakes": mistakes, "loss": loss}.items():
    (slope,) = descent.central_differences(measure, w)
    print(f"{name:8} {measure(w):.3f}, slope {slope:.3f}")

# %% [markdown]
# ## Squared error, from normal noise
#
# Losses need not be a matter of taste: the common ones follow from beliefs about errors. Suppose that the
# targets $y_1, \dots, y_n$ are numbers, and that each is the true prediction $\hat y_i$ plus noise from a
# normal distribution of width $\sigma$, independent of all others. Then a target is seen with the density
#
# $$p(y_i\mid\hat y_i) = \frac{1}{\sqrt{2\pi\sigma^2}}\;e^{-(\hat y_i-y_i)^2/2\sigma^2}$$

# %%
rng = np.random.default_rng(0)
x = np.sort(rng.uniform(-2, 2, 40))
y = 0.8 * x + 0.5 + 0.5 * rng.normal(size=40)


def line(x):
    return 0.8 * x + 0.5


pictures.normal_noise(x, y, line, deviation=0.5)

# %% [markdown]
# Which predictions make what we saw the likeliest? Those with the largest product of all densities: *maximum
# likelihood*. Its negative logarithm, which turns the product into a sum, is to be as small as possible:
#
# $$\begin{aligned}
# &-\ln\prod_i p(y_i\mid\hat y_i)\\
# &\quad = \frac n2\ln(2\pi\sigma^2) + \frac{1}{2\sigma^2}\sum_i(\hat y_i-y_i)^2
# \end{aligned}$$
#
# The first term does not depend on the predictions, and $\sigma$ only scales the second. What remains to be
# minimized is the sum of the squares; divided by $n$, so that it does not grow with the amount of data, it is
# the *mean squared error* (Legendre, 1805; Gauss, 1809). Let us see that both have their minimum at the same
# line. Among lines $a x + \tfrac12$:

# %%
for a in (0.6, 0.7, 0.8, 0.9, 1.0):
    error, _ = mse.forward(a * x + 0.5, y)
    density = np.exp(-((a * x + 0.5 - y) ** 2) / (2 * 0.5**2)) / np.sqrt(2 * np.pi * 0.5**2)
    print(f"a = {a}: mean squared error {error:.4f}, -ln likelihood {-np.sum(np.log(density)):.4f}")

# %% [markdown]
# Each prediction occurs in one term of the sum alone, so its derivative is easy:
#
# $$L = \frac1n\sum_i(\hat y_i-y_i)^2,\qquad \frac{\partial L}{\partial\hat y_i} = \frac2n\,(\hat y_i-y_i)$$
#
# On paper: the predictions $(1, 3, 0)$ with the targets $(2, 1, 0)$ are off by $(-1, 2, 0)$. The loss is
# $(1+4+0)/3 = \tfrac53$, and the gradient $\tfrac23\,(-1, 2, 0)$. The library returns the gradient of the
# targets too, the same with the other sign: useful where these are learned as well.

# %%
error, saved = mse.forward(np.array([1.0, 3.0, 0.0]), np.array([2.0, 1.0, 0.0]))
print("loss", error, "\ngradient", mse.backward(1.0, saved)[0])
source.show(mse.forward, mse.backward)

# %%
plots.mse()

# %% [markdown]
# The slope grows with the error, without limit: one target far away pulls as strongly as many near ones.
# Where a single number $c$ has to answer for all, $\sum_i(c-y_i) = 0$ makes it their *mean*. If you do not
# believe in normal noise, you need another loss; exercise 1 has one.
#
# ## Cross-entropy, from the likelihood of classes
#
# Now let the targets be classes: which digit, which next token. The network answers with a probability for
# each of them. Again we ask for the predictions that make what was seen the likeliest. If example $n$ turned
# out to be of class $t_n$, and had been given the probability $p_{n,t_n}$ for it, then
#
# $$L = -\frac1N\ln\prod_n p_{n,t_n} = -\frac1N\sum_n\ln p_{n,t_n}$$
#
# No choice of distribution was needed here: the likelihood of a class is what the network said. Written for a
# target that is itself a distribution, such as the *one-hot* $t = (0, 1, 0)$ for "surely the second", it is
# the *cross-entropy* (Good, "Rational decisions", 1952):
#
# $$L = -\frac1N\sum_n\sum_i t_{ni}\ln p_{ni},\qquad
# \frac{\partial L}{\partial p_{ni}} = -\frac1N\,\frac{t_{ni}}{p_{ni}}$$
#
# On paper: three right answers with the probabilities $\tfrac12$, $\tfrac14$ and $\tfrac18$. Their product is
# $\tfrac1{64}$, and the loss $\tfrac13\ln64 = 2\ln2 \approx 1.386$: as if each had been given their geometric
# mean, $\tfrac14$.

# %%
probs = np.array([[1 / 2, 1 / 2, 0], [1 / 4, 1 / 4, 1 / 2], [1 / 4, 5 / 8, 1 / 8]])
targets = np.eye(3)[[0, 1, 2]]
value, saved = cross_entropy.forward(probs, targets)
print("loss", value, "= 2 ln 2 =", 2 * np.log(2))
print("gradient\n", cross_entropy.backward(1.0, saved)[0] + 0.0)
plots.cross_entropy()

# %% [markdown]
# The probability of the right class alone counts, and only it gets a gradient. To be sure and right costs
# nothing. To be sure and wrong costs without limit, and the slope, $-1/p$, is steepest there.
#
# ## Nats, bits and perplexity
#
# $-\ln p$ is also called the *surprise* of an event (Shannon, "A mathematical theory of communication",
# 1948). With the natural logarithm its unit is the *nat*; with the logarithm to base 2 it is the *bit*, and
# since $\log_2 p = \ln p/\ln 2$, one bit is $\ln2\approx0.693$ nats. Its exponential, $e^L$, is the
# *perplexity*: from how many equally likely options did the network choose, on average? In the example above
# the loss is 2 bits, and the perplexity $e^{2\ln2} = 4$.
#
# Whoever knows nothing gives each of $V$ options the probability $1/V$, and pays $\ln V$: the first number to
# compare a loss with. Equal logits make such a guess.

# %%
print(" options   nats   bits   perplexity")
for vocab_size in (2, 65, 50_257):
    value, _ = softmax_cross_entropy.forward(np.zeros((1, vocab_size)), np.array([1]))
    print(f"{vocab_size:8,} {value:6.3f} {value / np.log(2):6.3f} {np.exp(value):10,.0f}")

# %% [markdown]
# ## What no model can go below
#
# Can the loss reach zero? If the same beginning of a sentence is followed now by one word and now by
# another, no model can be certain and right. Let the truth be a distribution $p$, from which targets are
# drawn, and let the model say $q$. On average it pays
#
# $$\begin{aligned}
# H(p, q) &= -\sum_i p_i\ln q_i\\
# &= \underbrace{-\sum_i p_i\ln p_i}_{H(p)} + \underbrace{\sum_i p_i\ln\frac{p_i}{q_i}}_{D(p\,\|\,q)}
# \end{aligned}$$
#
# The first part, the *entropy*, is a property of the truth, and no model changes it. The second is the
# *Kullback-Leibler divergence* ("On information and sufficiency", 1951), the price of being wrong about the
# distribution. It is never negative. A logarithm lies below its tangent at 1, $\ln u\le u-1$, so (with sums
# over all $i$ that occur, $p_i > 0$)
#
# $$\begin{aligned}
# -D(p\,\|\,q) &= \sum_i p_i\ln\frac{q_i}{p_i}\\
# &\le \sum_i p_i\Big(\frac{q_i}{p_i}-1\Big)\\
# &= \sum_i q_i - \sum_i p_i \le 0,
# \end{aligned}$$
#
# with equality only if every $q_i/p_i$ is 1. So **cross-entropy is lowest where the model tells the truth**,
# which is what we asked of a loss. Turn the truth about a coin that shows heads with probability $p$:

# %%
knobs.turn(pictures.divergence, p=[0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95])

# %% [markdown]
# Training lowers the cross-entropy; the entropy stays. When you compare models, differences are what counts,
# and they are differences of divergence.
#
# ## Softmax and cross-entropy in one
#
# The probabilities come out of a softmax of *logits* $z$, and training wants the gradient by the logits.
# Take one row. The last lesson gave the way back through softmax, $dz_j = p_j\,(dp_j - \sum_i dp_i\,p_i)$,
# and this one $dp_i = -t_i/p_i$. Put the one into the other:
#
# $$\begin{aligned}
# dz_j &= p_j\Big(-\frac{t_j}{p_j} + \sum_i\frac{t_i}{p_i}\,p_i\Big)\\
# &= -t_j + p_j\sum_i t_i = p_j - t_j
# \end{aligned}$$
#
# because the targets sum to one. The quotient is gone, and so is the Jacobian. The same comes out
# without them, from $-\ln p_t = \ln\sum_k e^{z_k} - z_t$: the derivative of the first term by $z_j$ is
# $e^{z_j}/\sum_k e^{z_k} = p_j$, that of the second 1 at the target and 0 elsewhere. For $N$ rows, of whose
# losses one takes the mean,
#
# $$dz = \frac{p - t}{N}$$
#
# The whole gradient of a language model starts from this difference between what it said and what came. It
# sums to zero; in one row it is never longer than $\sqrt2$; and it is zero only where $p = t$. On paper: the
# logits $(\ln 3, 0)$ give $p = (\tfrac34, \tfrac14)$. If the second class is right, the loss is $\ln4$ and
# the gradient $(\tfrac34, -\tfrac34)$.

# %%
logits = np.array([[np.log(3), 0.0]])
value, saved = softmax_cross_entropy.forward(logits, np.array([1]))
print("loss", value)
print("gradient, in one step:", *softmax_cross_entropy.backward(1.0, saved)[0])

probs, saved_softmax = softmax.forward(logits)
_, saved_entropy = cross_entropy.forward(probs, np.array([[0.0, 1.0]]))
dprobs, _ = cross_entropy.backward(1.0, saved_entropy)
print("in two, by -t/p first:", *softmax.backward(dprobs, saved_softmax)[0])

# %% [markdown]
# Turn the logit of the right class, and watch what is left to learn. While it is far too low its gradient is
# nearly $-1$, and the wrong classes share the blame in proportion to their probabilities.


# %%
def logit_of_the_target(z):
    return plots.gradient([2.0, z, 0.0, -1.0], target=1)


knobs.turn(logit_of_the_target, z=[-4.0, -2.0, 0.0, 1.0, 2.0, 4.0, 6.0])

# %% [markdown]
# ## Why they belong together: rounding
#
# The first reason is in the computer. Take the logits $(1000, 0)$, and let the second class be right. The
# loss is $\ln(e^{1000} + e^0) - 0$, which is 1000 to all digits, and the gradient is $(1, -1)$. Here they are
# in two steps, softmax first and then the logarithm, and in one:

# %%
logits, targets, one_hot = np.array([[1000.0, 0.0]]), np.array([1]), np.array([[0.0, 1.0]])
with np.errstate(over="ignore", invalid="ignore"):
    naive = np.exp(logits) / np.sum(np.exp(logits))
print("naive probabilities:", naive)

probs, saved_softmax = softmax.forward(logits)
value, saved = cross_entropy.forward(probs, one_hot)
(dlogits,) = softmax.backward(cross_entropy.backward(1.0, saved)[0], saved_softmax)
print(f"stable softmax, then the logarithm: loss {value:.1f}, gradient {dlogits[0] + 0.0}")

value, saved = softmax_cross_entropy.forward(logits, targets)
(dlogits,) = softmax_cross_entropy.backward(1.0, saved)
print(f"both in one:                        loss {value:.1f}, gradient {dlogits[0]}")

# %% [markdown]
# The naive softmax overflows. The stable one survives, but the small probability, $e^{-1000}$, is rounded to
# zero. Its logarithm would be $-\infty$; the library's plain cross-entropy puts the smallest normal number
# in its place, so that the loss is finite, and wrong. Worst of all, the way back through softmax multiplies
# by probabilities that are now 1 and 0, and the gradient is zero where it should be largest: the example
# that is most wrong teaches nothing.
#
# In one, the logarithm and the exponential cancel before anything is rounded. With $m = \max_k z_k$,
#
# $$\begin{aligned}
# \ln\sum_k e^{z_k} &= \ln\Big(e^m\sum_k e^{z_k-m}\Big)\\
# &= m + \ln\sum_k e^{z_k-m},
# \end{aligned}$$
#
# where no exponent is above zero, and the sum is at least 1. This is known as the *log-sum-exp* trick. In the
# library:

# %%
source.show(softmax_cross_entropy.forward, softmax_cross_entropy.backward)

# %% [markdown]
# ## Why they belong together: learning
#
# The second reason is in the slopes. One output, $p = \sigma(z)$, is to become 1. (This is a softmax of two
# logits, $z$ and 0.) Squared error and cross-entropy both have their minimum there. By the logit,
#
# $$\frac{d}{dz}(p-1)^2 = 2\,(p-1)\,p\,(1-p),\qquad \frac{d}{dz}(-\ln p) = -\frac{p\,(1-p)}{p} = p-1$$
#
# If the answer is as wrong as can be, $p\approx0$, the slope of cross-entropy is nearly $-1$. That of squared
# error contains the slope of the sigmoid, $p\,(1-p)$, as a factor, and vanishes: it is flat where one must
# get away from. In cross-entropy the quotient $1/p$ cancels this factor. It is, so to speak, the loss
# that undoes the saturation of its own softmax.

# %%
pictures.through_sigmoid()

# %% [markdown]
# The dotted line counts mistakes, as at the beginning of this lesson. Now train both side by side, from the
# same logit, with 200 steps of gradient descent at the rate 1. Set the knob to $-1$, where squared error is a
# little slower, and then make the beginning worse.


# %%
def slope_of_squared_error(z):
    y, saved = sigmoid.forward(z)
    _, saved_loss = mse.forward(y, np.ones(1))
    return sigmoid.backward(mse.backward(1.0, saved_loss)[0], saved)[0]


def slope_of_cross_entropy(z):
    _, saved = softmax_cross_entropy.forward(np.array([[0.0, z[0]]]), np.array([1]))
    return softmax_cross_entropy.backward(1.0, saved)[0][:, 1]


def learn(slope, z, n_steps=200):
    probs = []
    for _ in range(n_steps):
        probs.append(sigmoid.forward(z)[0][0])
        z = z - 1.0 * slope(z)
    return np.array(probs)


def side_by_side(first_logit):
    slopes = {"squared error": slope_of_squared_error, "cross-entropy": slope_of_cross_entropy}
    return pictures.learning({name: learn(slope, np.array([first_logit])) for name, slope in slopes.items()})


knobs.turn(side_by_side, first_logit=[-6.0, -4.0, -3.0, -2.0, -1.0])

# %% [markdown]
# With more than one weight the picture is the same. Eight points lie on a line, six of them on the side where
# one would expect them, and $p = \sigma(wx + b)$. On both maps the walk begins at the same bad weights, the
# open circle, and takes 100 steps, to the full one. Cross-entropy is a bowl, and steep far out: it leads in
# from anywhere. Squared error is a plateau with a valley, and the walk does not leave the plateau.

# %%
x = np.array([-3.0, -2.0, -1.0, -0.5, 0.5, 1.0, 2.0, 3.0])
labels = np.array([0, 0, 0, 1, 0, 1, 1, 1])


def squared_error_of(weights):
    return mse.forward(sigmoid.forward(weights[0] * x + weights[1])[0], 1.0 * labels)[0]


def cross_entropy_of(weights):
    logits = np.stack([0 * x, weights[0] * x + weights[1]], axis=1)
    return softmax_cross_entropy.forward(logits, labels)[0]


maps = {"squared error": squared_error_of, "cross-entropy": cross_entropy_of}
walks = {
    name: descent.minimize(surface, (-5, 4), learning_rate=0.5, max_steps=100)
    for name, surface in maps.items()
}
pictures.surfaces(maps, walks, window=((-7, 5), (-5, 6)), axes_names=("$w$", "$b$"))

# %% [markdown]
# ## Targets that do not count
#
# Texts have different lengths, and what fills up the shorter ones should teach nothing. Such targets are
# marked with $-1$. They are left out of the sum *and* of the number $N$ by which it is divided; otherwise a
# batch with much filling would look better than it is, and learn more slowly.

# %%
rng = np.random.default_rng(1)
logits, targets = rng.normal(size=(5, 4)), np.array([2, -1, 0, -1, 3])
value, saved = softmax_cross_entropy.forward(logits, targets)
print("loss with two targets at -1:", value)
print("loss without these rows:    ", softmax_cross_entropy.forward(logits[[0, 2, 4]], targets[[0, 2, 4]])[0])
print("gradient by row:", np.linalg.norm(softmax_cross_entropy.backward(1.0, saved)[0], axis=1).round(3))

# %% [markdown]
# Now let others judge what we derived: the proof by central differences, and torch.

# %%
for name, op in {"mse": mse, "cross_entropy": cross_entropy, "both in one": softmax_cross_entropy}.items():
    proofs = [proof for case in op.cases(rng) for proof in gradcheck.check(op, case, rng)]
    print(f"{name:14} {'proved' if all(proof.passed for proof in proofs) else 'WRONG'}")
try:
    import torch
except ImportError:
    print("torch is not installed: skipped")
else:
    theirs = torch.tensor(logits, requires_grad=True)
    torch.nn.functional.cross_entropy(theirs, torch.tensor(targets), ignore_index=-1).backward()
    (ours,) = softmax_cross_entropy.backward(1.0, saved)
    print("gradient like torch's:", np.allclose(ours, theirs.grad.numpy(), rtol=1e-10, atol=1e-15))

# %% [markdown]
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: a loss that forgives outliers
#
# Huber's loss ("Robust estimation of a location parameter", 1964) is a parabola near the target and a
# straight line beyond a distance $\delta$. With $d = \hat y - y$,
#
# $$L = \frac1n\sum_i h(d_i),\qquad h(d) = \begin{cases}\tfrac12d^2 & |d|\le\delta\\
# \delta\,\big(|d|-\tfrac12\delta\big) & |d|>\delta\end{cases}$$
#
# Derive $h'$, and write the backward. `saved` is the pair of $d$, an array, and $\delta$; `dloss` is the
# gradient from above, one number. Return a tuple of one gradient, that of `prediction`.


# %% tags=["exercise"]
def huber(prediction, *, targets, delta):
    d = prediction - targets
    outside = delta * (np.abs(d) - delta / 2)
    return np.mean(np.where(np.abs(d) <= delta, d**2 / 2, outside)), (d, delta)


def huber_backward(dloss, saved):
    return ...


# %% tags=["check"]
def judge_huber(backward):
    prediction, targets = 2 * np.random.default_rng(2).normal(size=(2, 4, 3))
    d = prediction - targets
    terms = {
        "inside, d / n": lambda dloss, saved: dloss * np.where(np.abs(d) <= 0.8, d, 0) / d.size,
        "outside, delta sign(d) / n": lambda dloss, saved: (
            dloss * np.where(np.abs(d) > 0.8, 0.8 * np.sign(d), 0) / d.size
        ),
    }
    return exercise.gradient(
        huber, backward, terms={"prediction": terms}, prediction=prediction, targets=targets, delta=0.8
    )


judge_huber(huber_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# As with the squared error, each prediction occurs in one term of the sum alone. What is the slope of $h$ on
# the parabola, and what on the straight line, left and right?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# By the chain rule $\partial L/\partial\hat y_i = h'(d_i)/n$, since $\partial d_i/\partial\hat y_i = 1$; then
# multiply by `dloss`. The forward takes `np.mean` over all elements, so $n$ is `d.size`, not the number of
# rows.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The half before $d^2$ cancels the 2 that the power rule brings. On the straight line only $|d|$ depends on
# $d$: its slope is `np.sign(d)`, and the factor $\delta$ stays. `np.where` chooses between the two as in the
# forward.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Inside, $h' = d$. Outside, $h' = \delta\cdot\operatorname{sign}d$. Both at once: $d$, clipped
# to the range from $-\delta$ to $\delta$; and then divided by $n$. An outlier pulls with $\delta/n$, however
# far away it is.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def huber_backward(dloss, saved):
    d, delta = saved
    return (dloss * np.clip(d, -delta, delta) / d.size,)


judge_huber(huber_backward)

# %% [markdown]
# ### Exercise 2: the loss before the first step
#
# A transformer over $V = 1000$ tokens has random weights, so small that its logits are nearly equal. Predict
# its loss in nats, and its perplexity. Later it has learned one thing only: that half of the tokens never
# occur. How many nats has it gained? The judge makes such a model and measures; five per cent more or less
# are forgiven.

# %% tags=["exercise"]
loss_at_first = ...
perplexity_at_first = ...
gain = ...


# %% tags=["check"]
def measured_losses():
    config = handgrad.ModelConfig(vocab_size=1000, context_length=32, n_layers=1, d_model=32)
    token_ids = np.random.default_rng(3).integers(1000, size=(16, 33))
    weights = handgrad.init(config)
    value, _ = handgrad.loss_and_gradients(config, weights, token_ids[:, :-1], token_ids[:, 1:])
    knows_half = np.where(np.arange(1000) < 500, 0.0, -100.0)[None]
    later, _ = softmax_cross_entropy.forward(knows_half, np.array([7]))
    return value, np.exp(value), np.log(1000) - later


exercise.value((loss_at_first, perplexity_at_first, gain), measured_losses, tolerance=0.05)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section *Nats, bits and perplexity* says what a network pays that knows nothing. Between how many
# equally likely tokens does the later model still choose?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Equal logits give each of $V$ tokens the probability $1/V$, so the loss is $-\ln(1/V)$, with the natural
# logarithm, and the perplexity is $e$ to the power of that loss. Later there are $V/2$ tokens in the place of
# $V$; the gain is the first loss minus the second.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The gain is a difference of two logarithms, $\ln V - \ln(V/2)$, hence the logarithm of a quotient from which
# $V$ cancels. For the perplexity put $L = \ln V$ into $e^L$: the exponential undoes the natural logarithm.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# A guess among 1000 costs $\ln1000\approx6.91$ nats, and its perplexity is 1000. A guess among half of
# them costs $\ln500 = \ln1000-\ln2$: to halve the options is always worth $\ln2\approx0.69$ nats, one bit. A
# model whose loss begins far above $\ln V$ is not ignorant, but wrong with confidence: its first weights are
# too large.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
loss_at_first = np.log(1000)
perplexity_at_first = 1000
gain = np.log(2)
exercise.value((loss_at_first, perplexity_at_first, gain), measured_losses, tolerance=0.05)

# %% [markdown]
# ### Exercise 3: label smoothing
#
# A one-hot target is never reached: logits would have to be infinite. *Label smoothing* (Szegedy et al.,
# "Rethinking the Inception architecture", 2015, arXiv:1512.00567) asks for a little less: the right class of
# $V$ gets $1-\epsilon+\epsilon/V$, each other $\epsilon/V$. Here is its forward. Derive the gradient by the
# logits, and write the backward, which returns a tuple of this one gradient.


# %% tags=["exercise"]
def smoothed(logits, *, targets, eps):
    probs, _ = softmax.forward(logits)
    wanted = (1 - eps) * np.eye(logits.shape[-1])[targets] + eps / logits.shape[-1]
    return -np.sum(wanted * np.log(probs)) / len(targets), (probs, targets, eps)


def smoothed_backward(dloss, saved):
    return ...


# %% tags=["check"]
def judge_smoothed(backward):
    logits, targets = np.random.default_rng(4).normal(size=(3, 5)), np.array([4, 0, 2])
    one_hot = np.eye(5)[targets]
    terms = {
        "p / N": lambda dloss, saved: dloss * saved[0] / 3,
        "(1 - eps) / N at the targets": lambda dloss, saved: -dloss * 0.9 * one_hot / 3,
        "eps / V N everywhere": lambda dloss, saved: -dloss * np.full((3, 5), 0.1 / 5) / 3,
    }
    return exercise.gradient(
        smoothed, backward, terms={"logits": terms}, logits=logits, targets=targets, eps=0.1
    )


judge_smoothed(smoothed_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go through the derivation in the section *Softmax and cross-entropy in one* again. What does it need to know
# about the targets, and is that still true of the rows of `wanted`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For one row with the targets $t_i$ the loss is $-\sum_i t_i\ln p_i$, and exercise 3 of lesson 7 has the
# Jacobian $\delta_{ij} - p_j$ of $\ln p_i$. Sum $-t_i$ times it over $i$, multiply by `dloss`, and divide by
# the number of rows, as the forward does.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The delta leaves $-t_j$, and the other term is $p_j\sum_i t_i$, where the sum of a row of `wanted` has
# $1-\epsilon$ once and $\epsilon/V$ from each of the $V$ classes. `wanted` is not saved: build it from
# `targets` and `eps` as in the forward, with $V$ from `probs.shape[-1]`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The derivation of $p - t$ used only that the targets sum to one. Smoothed targets do:
# $(1-\epsilon)\cdot1 + V\cdot\epsilon/V = 1$. So nothing changes but $t$, and the gradient is zero at
# finite logits, where the probabilities are the smoothed targets.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def smoothed_backward(dloss, saved):
    probs, targets, eps = saved
    n_rows, vocab_size = probs.shape
    wanted = (1 - eps) * np.eye(vocab_size)[targets] + eps / vocab_size
    return (dloss * (probs - wanted) / n_rows,)


judge_smoothed(smoothed_backward)

# %% [markdown]
# ### Make it yours: the loss
#
# Write softmax and cross-entropy in one, for `logits` $(\dots, V)$ and `targets`, integers $(\dots)$: the
# mean over all rows. (No target is left out.) `dloss` is the gradient from above, one number.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_loss(logits, targets):
    return ..., ...


def my_loss_backward(dloss, saved):
    return (...,)


# %% tags=["check"]
mine.keep("softmax_cross_entropy", my_loss, my_loss_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section *Why they belong together: rounding* says why no logarithm of a rounded probability may occur,
# and exercise 3 of lesson 7 has the logarithm of softmax. Which of its entries does the loss use in each row?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# In one row the loss is $\ln\sum_k e^{z_k-m} - (z_t-m)$ with $m$ the largest logit, and the result is the
# mean over all $N$ rows. So the backward has a factor $1/N$ too: `dloss` times $(p-t)/N$, for which $p$ and
# the targets have to be saved.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# If `logs` is the logarithm of softmax, `np.take_along_axis(logs, targets[..., None], axis=-1)` are its
# entries at the targets. The one-hot rows are `np.eye(V)[targets]`, of the shape of $p$. `targets` may have
# more than one axis, so $N$ is `targets.size`, not `len(targets)`.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# The mean over the $N$ rows of $\ln\sum_k e^{z_k - m} + m - z_t$, and $(p - t)/N$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_loss(logits, targets):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(logs, targets[..., None], axis=-1).mean(), (np.exp(logs), targets)


def my_loss_backward(dloss, saved):
    p, targets = saved
    return (dloss * (p - np.eye(p.shape[-1])[targets]) / targets.size,)


mine.keep("softmax_cross_entropy", my_loss, my_loss_backward)

# %% [markdown]
# ## Where next
#
# You now know how a network bends, what it offers in the end, and how that is judged. Lesson 9, *Tokens*,
# turns to its beginning, and to texts.
