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
# # 7. Activations and their slopes
#
# *After this lesson you can derive the slope of every activation that networks use, say where each of them
# lets a gradient die, and carry a gradient back through softmax without building its Jacobian.*
#
# Between two affine layers of a network stands a curve, applied to every number on its own. Why is it there,
# and what makes one curve better than another? Without it two layers are worth no more than one:
#
# $$\begin{aligned}
# &(x W_1 + b_1)\,W_2 + b_2\\
# &\quad = x\,(W_1 W_2) + (b_1 W_2 + b_2)
# \end{aligned}$$
#
# is again affine, and however many one stacks, the whole can only draw straight lines. So $y = f(x)$ has to
# bend. On the way back the chain rule multiplies the gradient from above by the slope of the bend,
#
# $$dx = dy * f'(x),$$
#
# where $*$ is the product element by element. Whether a network learns is therefore a question about $f'$:
# where it is near zero, nothing gets through.

# %%
import numpy as np

from handgrad import gradcheck, ops
from handgrad.foundations import mlp
from handgrad.lessons import exercise, knobs, mine, source
from handgrad.lessons.pictures import activations as pictures
from handgrad.ops import erf, gelu, gelu_tanh, linear, mse, prelu, relu, sigmoid, silu, softmax, tanh
from handgrad.plots import activations as plots

# %% [markdown]
# Here are nine of them on the same scale, each solid, with its slope dashed. Three families are easy to see:
# two curves that flatten on both sides, three that are bent at zero and straight elsewhere, and four that
# round the bend off. A dot marks where a slope is largest. Where it jumps there are two: the full one is the
# slope that the library takes at the bend itself.

# %%
plots.several()

# %% [markdown]
# ## The sigmoid
#
# The logistic sigmoid (Verhulst, 1845) takes any number to one between 0 and 1, which can be read as a
# probability. With the power rule and the chain rule,
#
# $$\begin{aligned}
# f(x) &= \frac{1}{1+e^{-x}} = (1+e^{-x})^{-1},\\[0.5em]
# f'(x) &= \frac{e^{-x}}{(1+e^{-x})^2}\\[0.5em]
# &= \frac{1}{1+e^{-x}}\cdot\frac{e^{-x}}{1+e^{-x}}\\[0.5em]
# &= f(x)\,\big(1-f(x)\big)
# \end{aligned}$$
#
# because $1 - f = (1+e^{-x}-1)/(1+e^{-x})$. The slope follows from the value alone, so the value is all
# that backward needs to keep. On paper: at $x = 0$ the value is $\tfrac12$ and the slope
# $\tfrac12\cdot\tfrac12 = \tfrac14$; at $x = \ln 3$, where $e^{-x} = \tfrac13$, they are $\tfrac34$ and
# $\tfrac34\cdot\tfrac14 = \tfrac3{16} = 0.1875$.

# %%
x = np.array([0.0, np.log(3)])
y, saved = sigmoid.forward(x)
(dx,) = sigmoid.backward(np.ones(2), saved)
print("values", y, "\nslopes", dx)
plots.curve("sigmoid")

# %% [markdown]
# A product $f(1-f)$ of two numbers that sum to one is largest where they are equal: **the slope of a sigmoid
# is never more than a quarter**, and on both sides it goes to zero. The sigmoid *saturates*. In the library
# the formula looks as follows; it is written with $e^{-|x|}$, which is never more than one, so that no $x$
# overflows.

# %%
source.show(sigmoid.forward, sigmoid.backward)

# %% [markdown]
# ## The hyperbolic tangent
#
# The tangent's hyperbolic cousin is centred on zero and goes from $-1$ to 1. By the quotient rule,
#
# $$\begin{aligned}
# f(x) &= \frac{e^x-e^{-x}}{e^x+e^{-x}},\\[0.5em]
# f'(x) &= \frac{(e^x+e^{-x})^2-(e^x-e^{-x})^2}{(e^x+e^{-x})^2}\\[0.5em]
# &= 1-f(x)^2
# \end{aligned}$$
#
# since the derivative of $e^x-e^{-x}$ is $e^x+e^{-x}$, and the other way round. At zero the slope is 1; at
# $x = \ln 2$ the value is $(2-\tfrac12)/(2+\tfrac12) = 0.6$ and the slope $1-0.36 = 0.64$. It is a sigmoid,
# stretched: $\tanh x = 2\,\sigma(2x)-1$. That gives it four times the steepness, and it saturates as well.

# %%
x = np.array([0.0, np.log(2), 3.0])
y, saved = tanh.forward(x)
print("values", y, "\nslopes", *tanh.backward(np.ones(3), saved))
print("by way of the sigmoid", 2 * sigmoid.forward(2 * x)[0] - 1)

# %% [markdown]
# ## Saturation: how a gradient dies on its way
#
# On its way back through eight layers of sigmoids a gradient is multiplied by eight slopes, each at most a
# quarter: by the curves alone it shrinks to $4^{-8} = 1/65{,}536$ or less. The weights in between may help or
# harm, so let us measure what is left: eight hidden layers of width 32 and an output, random data, one
# backward pass, and the length of the gradient of each layer's weight.


# %%
def gradients_of_a_stack(activation):
    rng = np.random.default_rng(2)
    x, target = rng.normal(size=(256, 32)), rng.normal(size=(256, 1))
    layers = mlp.init([32] * 9 + [1], rng, activation=activation)
    _, dlayers = mlp.gradients(layers, x, target, activation=activation)
    return [np.linalg.norm(dlayer.weight) for dlayer in dlayers]


norms = {name: gradients_of_a_stack(name) for name in ("sigmoid", "tanh", "relu")}
for name, lengths in norms.items():
    print(f"{name:8} first layer / last layer: {lengths[0] / lengths[-1]:.1e}")
pictures.gradients_by_layer(norms)

# %% [markdown]
# With sigmoids the first layer hears almost nothing of the mistake, and learns accordingly slowly. This is
# the *vanishing gradient* (Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", 1991). The tangent
# with a slope of one at zero keeps the gradient alive as long as its inputs stay small, which is what its
# initial weights are for (Glorot & Bengio, "Understanding the difficulty of training deep feedforward neural
# networks", 2010).
#
# ## The ReLU, and its kink
#
# The remedy is plain: a curve that cannot saturate above zero, because there it is a straight line (Nair &
# Hinton, "Rectified linear units improve restricted Boltzmann machines", 2010).
#
# $$f(x) = \max(0, x),\qquad f'(x) = \begin{cases}1 & x > 0\\ 0 & x < 0\end{cases}$$
#
# What of the kink? From the left the slope is 0, from the right 1; at zero itself no derivative exists, and
# any number from 0 to 1 may stand in for it (a *subgradient*). One has to choose. A central difference, which
# looks to both sides, would say one half. The library says 0:

# %%
at_zero = np.zeros(1)
y, saved = relu.forward(at_zero)
print("the library's choice:", *relu.backward(np.ones(1), saved))
h = 6e-6
print("central difference:  ", (relu.forward(at_zero + h)[0] - relu.forward(at_zero - h)[0]) / (2 * h))

# %% [markdown]
# Little hangs on the choice: a sum of products is hardly ever exactly zero. But a *proof* by differences must
# keep away from the kink, and the cases on which the ReLU is checked do.
#
# ## Units that die, and the leak that saves them
#
# The price is on the left side. A unit computes $z = xw + b$ and passes on $\max(0, z)$. Suppose that one
# step of training was too long and took $b$ so far down that $z$ is negative for *every* input. Then
# $dz = dy * 0$ is zero in every row, hence $dw = x^\top dz = 0$ and $db = \sum dz = 0$: no gradient will ever
# move it again. It is dead.
#
# A leak keeps it alive (Maas, Hannun & Ng, "Rectifier nonlinearities improve neural network acoustic models",
# 2013): the *leaky ReLU* has a small slope $\alpha$ below zero, 0.01 by default.
#
# $$f(x) = \max(0, x) + \alpha\min(0, x),\qquad f'(x) = \begin{cases}1 & x > 0\\ \alpha & x < 0\end{cases}$$
#
# Let us watch it. A small network with one input and twelve hidden units is to draw a sine. Its first 20
# steps are taken at a `first_rate` that we choose; then 1,000 careful steps with Adam have time to repair the
# damage.

# %%
x = np.linspace(-2, 2, 41)[:, None]
target = np.sin(2 * x)


def train(activation, first_rate):
    layers = mlp.init([1, 12, 1], np.random.default_rng(1), activation=activation)
    rough = {"optimizer": "gradient_descent", "learning_rate": first_rate, "n_epochs": 20}
    layers = mlp.train(layers, x, target, activation=activation, **rough).layers
    careful = {"optimizer": "adam", "learning_rate": 0.02, "n_epochs": 1000}
    return mlp.train(layers, x, target, activation=activation, **careful).layers


def after_training(activation, first_rate):
    layers = train(activation, first_rate)
    z, _ = linear.forward(x, *layers[0])
    output = mlp.predict(layers, x, activation=activation)
    return pictures.reach(x[:, 0], z, target=target[:, 0], output=output[:, 0])


knobs.turn(after_training, activation=["leaky_relu", "relu"], first_rate=[0.1, 0.2, 0.3, 0.4])

# %% [markdown]
# On the left is what enters the activation of each hidden unit, over the whole range of inputs: a straight
# line, since there is one input. With the ReLU, raise the rate to 0.4: most lines end up below zero as a
# whole, and stay there through all the careful steps. Where no living unit bends, the network is straight.
# With the leaky ReLU, after the same rough start and the same repair, nearly every unit is reached by some
# input. The gradient of the dead units is not small: it is zero.

# %%
layers = train("relu", first_rate=0.4)
unreached = np.all(linear.forward(x, *layers[0])[0] <= 0, axis=0)
_, dlayers = mlp.gradients(layers, x, target, activation="relu")
print("unreached units:", np.flatnonzero(unreached))
print("their gradients:", dlayers[0].weight[0, unreached], dlayers[0].bias[unreached])

# %% [markdown]
# ## A slope that is learned
#
# How large should $\alpha$ be? Let the network decide: the *parametric ReLU* (He, Zhang, Ren & Sun, "Delving
# deep into rectifiers", 2015, arXiv:1502.01852) has the same formula, but $\alpha$ is a weight, one for each
# channel. So it needs a gradient of its own. In $f = \max(0,x) + \alpha\min(0,x)$ it is a factor, hence
#
# $$\frac{\partial f}{\partial\alpha} = \min(0, x),\qquad d\alpha = \sum dy * \min(0, x),$$
#
# summed over all rows that share the slope, as always where one number is used many times. Turn the slope: at
# 0 you have the ReLU, at 1 no bend at all, at $-1$ the absolute value. The dotted line, how the output
# answers to $\alpha$, does not depend on it.


# %%
def parametric(alpha):
    return plots.curve("prelu", alpha=alpha)


knobs.turn(parametric, alpha=[-1.0, -0.5, 0.0, 0.25, 0.5, 1.0])

# %% [markdown]
# And it learns. Three channels see the same numbers; the first is to become $|x|$, the second the ReLU, the
# third $x$ itself. All three start at 0.25, and the only thing that is trained is $\alpha$.

# %%
channels = np.tile(x, 3)  # (41, 3)
wanted = np.hstack([np.abs(x), np.maximum(x, 0), x])
alpha = np.full(3, 0.25)
for _ in range(50):
    y, saved = prelu.forward(channels, alpha)
    loss, saved_loss = mse.forward(y, wanted)
    dy, _ = mse.backward(1.0, saved_loss)
    _, dalpha = prelu.backward(dy, saved)
    alpha = alpha - 1.0 * dalpha
print("learned slopes:", np.round(alpha, 6) + 0.0)

# %% [markdown]
# ## The bend rounded off
#
# Many transformers prefer the bend without a kink. The *GELU* (Hendrycks & Gimpel, "Gaussian error linear
# units", 2016, arXiv:1606.08415) multiplies $x$ by the chance $\Phi(x)$ that a standard normal number is
# smaller than $x$. $\Phi$ is the integral of the bell curve $\varphi$, so $\Phi' = \varphi$, and the product
# rule gives
#
# $$f(x) = x\,\Phi(x),\qquad f'(x) = \Phi(x) + x\,\varphi(x),\qquad
# \varphi(x) = \frac{e^{-x^2/2}}{\sqrt{2\pi}}$$
#
# The integral is known to computers as the error function, of slope
# $\operatorname{erf}'(u) = \tfrac{2}{\sqrt\pi}\,e^{-u^2}$: with $u = x/\sqrt2$ the chain rule confirms that
#
# $$\Phi(x) = \tfrac12\Big(1+\operatorname{erf}\frac{x}{\sqrt2}\Big),\qquad
# \Phi'(x) = \tfrac12\cdot\frac{2}{\sqrt\pi}\,e^{-x^2/2}\cdot\frac{1}{\sqrt2} = \varphi(x)$$
#
# The *SiLU*, also called swish, puts the sigmoid in the place of $\Phi$ (Elfwing, Uchibe & Doya, 2017,
# arXiv:1702.03118); with $\sigma' = \sigma(1-\sigma)$,
#
# $$\begin{aligned}
# f(x) &= x\,\sigma(x),\\[0.5em]
# f'(x) &= \sigma(x) + x\,\sigma(x)\big(1-\sigma(x)\big)\\[0.5em]
# &= \sigma(x)\,\big(1 + x\,(1-\sigma(x))\big)
# \end{aligned}$$

# %%
x = np.linspace(-4, 4, 80_001)
for name, op in {"gelu": gelu, "silu": silu}.items():
    (slope,) = op.backward(np.ones_like(x), op.forward(x)[1])
    print(f"{name}: steepest at {x[slope.argmax()]:.3f}, with slope {slope.max():.4f}")
pictures.compare(["relu", "gelu", "silu"])

# %% [markdown]
# Both slopes pass zero on the left and grow beyond one on the right: for the GELU
# $f'' = 2\varphi - x^2\varphi$ vanishes at $x = \pm\sqrt2$, and there the slope is at its largest and its
# most negative. Far to the left they vanish too, but no sharp border separates the dead from the living.
#
# Two more belong here. The error function has no elementary formula; Hendrycks and Gimpel also give a form of
# the GELU by the hyperbolic tangent, which GPT-2 uses. Product and chain rule, with $t = \tanh u$:
#
# $$\begin{aligned}
# f(x) &= \tfrac12 x\,(1+t),\\[0.5em]
# u &= \sqrt{2/\pi}\,(x + 0.044715\,x^3),\\[0.5em]
# u' &= \sqrt{2/\pi}\,(1+3\cdot0.044715\,x^2),\\[0.5em]
# f'(x) &= \tfrac12(1+t) + \tfrac12 x\,(1-t^2)\,u'
# \end{aligned}$$
#
# The *squared ReLU* (So et al., "Primer", 2021, arXiv:2109.08668) smooths the kink by squaring: for
# $f(x) = \max(0,x)^2$ the slope $f'(x) = 2\max(0,x)$ is continuous. And in newer models you meet activations
# in *gated* form, as $f(xW_g) * (xW_u)$: one projection, through the activation, opens and closes another.
# With the SiLU for $f$ this is called SwiGLU (Shazeer, "GLU variants improve transformer", 2020,
# arXiv:2002.05202), and its backward is the product rule once more.
#
# Every slope so far has now been derived. Here is the judge who knows none of the derivations: a random
# direction, a measured slope along it, and what backward says.

# %%
for name in (*plots.NAMES, "erf", "gated"):
    op, rng = ops.ALL[name], np.random.default_rng(0)
    proofs = [proof for case in op.cases(rng) for proof in gradcheck.check(op, case, rng)]
    worst = max(proof.relative_error for proof in proofs)
    print(f"{name:13} {'proved' if all(p.passed for p in proofs) else 'WRONG'}, error {worst:.0e}")
apart = gelu.forward(x)[0] - gelu_tanh.forward(x)[0]
print(f"GELU and its form by tanh differ by at most {np.abs(apart).max():.1e}")

# %% [markdown]
# ## Softmax: scores become shares
#
# At the end of a classifier, and inside attention, a row of numbers has to become a distribution: positive
# numbers that sum to one. The exponential makes them positive, the division makes them sum to one (Bridle,
# "Probabilistic interpretation of feedforward classification network outputs", 1990):
#
# $$f_i(x) = \frac{e^{x_i}}{\sum_k e^{x_k}}$$
#
# Unlike all curves so far it does not work element by element: every output depends on every input. Only
# differences count. Add the same $c$ to all inputs, and $e^c$ can be taken out above and below, where it
# cancels. This is more than a curiosity: it is the cure for overflow.


# %%
def naive_softmax(x):
    with np.errstate(over="ignore", invalid="ignore"):
        return np.exp(x) / np.sum(np.exp(x))


x = np.array([2.0, 1.0, 0.0])
print("of x:              ", softmax.forward(x)[0])
print("of x + 100:        ", softmax.forward(x + 100)[0])
print("of x + 1000:       ", softmax.forward(x + 1000)[0])
print("of x + 1000, naive:", naive_softmax(x + 1000))

# %% [markdown]
# $e^{1000}$ is far beyond the largest float64, about $1.8\cdot10^{308}$, and infinity divided by infinity
# is not a number. Subtract the largest input first, and every exponent is zero or less: nothing can
# overflow, and the largest term of the sum is exactly 1, so that it cannot vanish either.

# %%
source.show(softmax.forward)

# %% [markdown]
# (The two `where` are for a row of nothing but $-\infty$: attention has such rows where a mask hides every
# token.)
#
# ### Temperature
#
# Between two outputs the ratio is $f_i/f_j = e^{x_i-x_j}$. Divide the inputs by a *temperature* $\tau$, and
# the ratio becomes $e^{(x_i-x_j)/\tau}$. Below one, differences grow: in the limit of zero the largest takes
# all. Above one they shrink, and in the limit all are equal. When a language model writes, this is the knob
# that makes it cautious or bold.


# %%
def shares(temperature):
    return pictures.temperature([2.0, 1.0, 0.5, 0.0, -1.0], temperature)


knobs.turn(shares, temperature=[0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 20.0])

# %% [markdown]
# ### Its Jacobian
#
# Each of the $D$ outputs has a slope for each of the $D$ inputs: a matrix,
# $J_{ij} = \partial f_i/\partial x_j$. With $S = \sum_k e^{x_k}$, whose derivative by $x_j$ is $e^{x_j}$,
# and $\delta_{ij}$, which is 1 for $i = j$ and 0 otherwise, the quotient rule says
#
# $$J_{ij} = \frac{\delta_{ij}\,e^{x_i}\,S - e^{x_i}\,e^{x_j}}{S^2} = f_i\,(\delta_{ij} - f_j)$$
#
# On paper: $x = (\ln 3, 0)$ gives $f = (\tfrac34, \tfrac14)$, so that $J_{11} = \tfrac34\cdot\tfrac14 =
# \tfrac3{16}$, $J_{12} = -\tfrac34\cdot\tfrac14 = -\tfrac3{16}$, and the second row is the first with the
# signs turned. That is the sigmoid's slope at $\ln 3$, and no accident: the softmax of $(x, 0)$ *is* the
# sigmoid of $x$.

# %%
print(softmax.jacobian(np.array([np.log(3), 0.0])))
plots.jacobian([2.0, 1.0, 0.0, -1.0])

# %% [markdown]
# Read a row: its own input pushes an output up, every other pulls it down. Rows sum to zero because a shift
# of all inputs changes nothing; columns sum to zero because the outputs always sum to one; and the matrix is
# symmetric. Strong entries sit where probabilities are undecided: once one of them is near 1, all entries
# are small. Softmax saturates too.
#
# ### Backward without the matrix
#
# Backward needs not $J$ itself but its product with the gradient from above. Put the formula in, and the
# delta picks one term out of the first sum. (Such a product, of a vector from the left with a Jacobian, is a
# *VJP*, a vector-Jacobian product. Every `backward` in this course is one.)
#
# $$\begin{aligned}
# dx_j &= \sum_i dy_i\,J_{ij}\\
# &= \sum_i dy_i f_i\delta_{ij} - \sum_i dy_i f_i f_j\\
# &= f_j\,\big(dy_j - \langle dy, f\rangle\big)
# \end{aligned}$$
#
# $\langle dy, f\rangle$ is the average of $dy$ with the probabilities as weights: what counts for an input
# is by how much its own $dy$ differs from that average. $D$ multiplications for the average and $D$ for the
# rest do what the matrix would have done with $D^2$.

# %%
rng = np.random.default_rng(3)
x, dy = rng.normal(size=6), rng.normal(size=6)
_, saved = softmax.forward(x)
print("by the formula:", *softmax.backward(dy, saved))
print("by the matrix: ", dy @ softmax.jacobian(x))
vocab_size = 50_257  # GPT-2's tokens
print(f"one row of float32: {4 * vocab_size / 1e6:.1f} MB; its Jacobian: {4 * vocab_size**2 / 1e9:.0f} GB")
source.show(softmax.backward, softmax.jacobian)

# %% [markdown]
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: steeper, and sooner flat
#
# Let $f(x) = \tanh(3x)$. What is its largest slope, and what is its slope at $x = 1$? Derive both on paper,
# and write two numbers; the second may be a formula with `np.tanh`. The judge measures.

# %% tags=["exercise"]
largest_slope = ...
slope_at_one = ...


# %% tags=["check"]
def measured_slopes():
    places, h = np.array([*np.linspace(-2, 2, 401), 1.0]), 6e-6
    slopes = (np.tanh(3 * (places + h)) - np.tanh(3 * (places - h))) / (2 * h)
    return slopes.max(), slopes[-1]


exercise.value((largest_slope, slope_at_one), measured_slopes)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section *The hyperbolic tangent* has the slope of $\tanh u$ by $u$. What does the chain rule add when
# $u$ is not $x$ itself?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $u = 3x$ the slope is $f'(x) = \tanh'(u)\cdot u'(x)$. The first factor is taken at $u$, not at $x$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\tanh'(u) = 1-\tanh^2u$ is largest where $\tanh u$ is zero; multiply that largest value by $u'$. For
# $x = 1$ compute $u$ first, then $1-\tanh^2u$, then multiply by $u'$ again.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The chain rule brings a factor 3, so $f'(x) = 3\,(1-\tanh^2(3x))$: largest at zero, where it
# is 3. At $x = 1$ less than a hundredth of that is left, $3\,(1-\tanh^2 3)$, while $\tanh x$ itself still
# has the slope $1-\tanh^2 1$, which is 0.42. A factor before the curve makes it steeper, and lets it
# saturate sooner.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
largest_slope = 3.0
slope_at_one = 3 * (1 - np.tanh(3) ** 2)
exercise.value((largest_slope, slope_at_one), measured_slopes)

# %% [markdown]
# ### Exercise 2: a swish with a learned slope
#
# Ramachandran, Zoph & Le ("Searching for activation functions", 2017, arXiv:1710.05941) gave the swish a
# weight: $f(x) = x\,\sigma(\beta x)$, with one $\beta$ for all elements. Derive both gradients, and return
# $dx$ and $d\beta$. The second has the shape of $\beta$, a single number.


# %% tags=["exercise"]
def swish(x, beta):
    sigma, _ = sigmoid.forward(beta * x)
    return x * sigma, (x, beta, sigma)


def swish_backward(dy, saved):  # saved is (x, beta, sigma); return dx, dbeta
    return ...


# %% tags=["check"]
def judge_swish(backward):
    x = np.random.default_rng(4).normal(size=(3, 5))
    terms = {
        "sigma": lambda dy, saved: dy * saved[2],
        "beta x sigma (1 - sigma)": lambda dy, saved: dy * saved[1] * saved[0] * saved[2] * (1 - saved[2]),
    }
    return exercise.gradient(swish, backward, terms={"x": terms}, x=x, beta=np.array(1.7))


judge_swish(swish_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# For $\beta = 1$ this is the SiLU of the section *The bend rounded off*: at which places of its derivation
# does $\beta$ come in? For $d\beta$ compare the section *A slope that is learned*, where many elements share
# one number too.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Write $u = \beta x$. By $x$ the product rule gives two terms, $\sigma(u)$ and
# $x\,\sigma'(u)\,\partial u/\partial x$; by $\beta$ only $x\,\sigma'(u)\,\partial u/\partial\beta$ is left.
# Multiply both by $dy$, and sum the second over all elements.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\partial u/\partial x = \beta$ and $\partial u/\partial\beta = x$, so $d\beta$ has $x$ as a factor twice.
# `sigma` is saved, so $\sigma'(u)$ is `sigma * (1 - sigma)`, and `np.sum` without an axis makes $d\beta$ a
# single number.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# With $\sigma' = \sigma(1-\sigma)$, the product rule and the chain rule give
# $\partial f/\partial x = \sigma + \beta x\,\sigma(1-\sigma)$. By $\beta$ the inner derivative is $x$, so
# $\partial f/\partial\beta = x\cdot\sigma(1-\sigma)\cdot x$; and because every element uses the same $\beta$,
# $d\beta$ is the sum of $dy$ times that over all elements.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def swish_backward(dy, saved):
    x, beta, sigma = saved
    slope = sigma * (1 - sigma)
    dx = dy * (sigma + beta * x * slope)
    dbeta = np.sum(dy * x * x * slope)
    return dx, dbeta


judge_swish(swish_backward)


# %% [markdown]
# ### Exercise 3: the logarithm of softmax
#
# Losses want not probabilities but their logarithms, $y_i = \ln f_i(x) = x_i - \ln\sum_k e^{x_k}$. Derive the
# Jacobian $\partial y_i/\partial x_j$, multiply it by $dy$ on paper, and write the backward, for any number
# of rows. It returns a tuple of one gradient, `(dx,)`. `saved` is the output $y$: what is $f$ in terms of it?


# %% tags=["exercise"]
def log_softmax(x):
    shifted = x - np.max(x, axis=-1, keepdims=True)
    y = shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))
    return y, y


def log_softmax_backward(dy, saved):
    return ...


# %% tags=["check"]
def judge_log_softmax(backward):
    x = np.random.default_rng(5).normal(size=(3, 4))
    terms = {
        "dy": lambda dy, y: dy,
        "f sum dy": lambda dy, y: -np.exp(y) * dy.sum(axis=-1, keepdims=True),
    }
    return exercise.gradient(log_softmax, backward, terms={"x": terms}, x=x)


judge_log_softmax(log_softmax_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# $y_i$ is a difference of two terms. Which of the inputs $x_j$ does each of the two depend on?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The Jacobian is $\delta_{ij}$ minus the slope of $\ln S$ by $x_j$, where $S = \sum_k e^{x_k}$ and the chain
# rule gives $(\partial S/\partial x_j)/S$. Put it into $dx_j = \sum_i dy_i\,\partial y_i/\partial x_j$, where
# the delta picks one term.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The slope of $\ln S$ by $x_j$ is the same for every $i$, so it can be taken out of the sum over $i$. What
# stays in the sum is $dy$ of one row: `np.sum(dy, axis=-1, keepdims=True)`. The factor before it is a
# softmax, and `np.exp(saved)` is that softmax. Return a tuple, `(dx,)`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The derivative of $\ln\sum_k e^{x_k}$ by $x_j$ is $e^{x_j}/\sum_k e^{x_k} = f_j$, so the
# Jacobian is $\delta_{ij} - f_j$, and
#
# $$dx_j = \sum_i dy_i\,(\delta_{ij} - f_j) = dy_j - f_j\sum_i dy_i$$
#
# with $f = e^y$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def log_softmax_backward(dy, saved):
    f = np.exp(saved)
    return (dy - f * np.sum(dy, axis=-1, keepdims=True),)


judge_log_softmax(log_softmax_backward)

# %% [markdown]
# ### Make it yours: the GELU
#
# Write $x\,\Phi(x)$ and its backward. `erf.forward(u)[0]` is the error function.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_gelu(x):
    return ..., ...


def my_gelu_backward(dy, saved):
    return (...,)


# %% tags=["check"]
mine.keep("gelu", my_gelu, my_gelu_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section *The bend rounded off* has every formula that you need. Which arrays of the forward does the
# slope use again? Save those.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Forward: $\Phi$ from the error function at $u = x/\sqrt2$, then $x\,\Phi$. Backward: the product rule gives
# one term with $\Phi$ and one with its slope $\varphi$, and $dy$ multiplies their sum.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The bell curve is $e^{-x^2/2}$ divided by `np.sqrt(2 * np.pi)`; without this root $\varphi$ is not the slope
# of $\Phi$. With $x$ and $\Phi$ saved, the gradient is $dy$ times $\Phi + x\,\varphi$, in a tuple of one.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# $\Phi(x) = \frac12(1 + \operatorname{erf}(x/\sqrt2))$, and $f' = \Phi + x\varphi$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_gelu(x):
    cdf = (1 + erf.forward(x / np.sqrt(2))[0]) / 2
    return x * cdf, (x, cdf)


def my_gelu_backward(dy, saved):
    x, cdf = saved
    return (dy * (cdf + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),)


mine.keep("gelu", my_gelu, my_gelu_backward)

# %% [markdown]
# ### Make it yours: softmax
#
# Write softmax along the last axis, and its backward without the Jacobian.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_softmax(x):
    return ..., ...


def my_softmax_backward(dy, saved):
    return (...,)


# %% tags=["check"]
mine.keep("softmax", my_softmax, my_softmax_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section *Backward without the matrix* ends in a formula without $x$. So what does backward need from the
# forward?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Forward, in each row: subtract the largest, take the exponential, divide by the sum of the row. Backward:
# $dx_j = f_j\,(dy_j - \langle dy, f\rangle)$, where $\langle dy, f\rangle$ is a sum over the last axis.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# With $y$ for the saved output, $\langle dy, f\rangle$ is `np.sum(dy * y, axis=-1, keepdims=True)`, one
# number for each row. The largest and the sum in the forward need `axis=-1, keepdims=True` as well, and
# backward returns a tuple.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# Subtract the largest first; backward needs the result alone.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def my_softmax_backward(dy, y):
    return (y * (dy - np.sum(dy * y, axis=-1, keepdims=True)),)


mine.keep("softmax", my_softmax, my_softmax_backward)

# %% [markdown]
# ## Where next
#
# Softmax has given the network a distribution to offer. Lesson 8, *Losses*, says how to judge it by one
# number, and why the logarithm of the softmax is half of the loss that every language model is trained with.
