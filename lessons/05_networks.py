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
# # 5. Networks and the chain rule
#
# *After this lesson you can build XOR from three neurons, carry gradients back through a network on paper,
# derive the backward pass of a layer, and train networks that learn XOR and read handwritten digits.*
#
# One perceptron cannot compute XOR, and Lesson 4 proved it. Three can, if two of them feed the third. But
# how could such a network *learn* its weights? Nobody says what the two in the middle should answer, so
# Rosenblatt's rule has nothing to go by. The answer is to ask of every weight in the network the question of
# Lesson 2: if I turned you up a little, would the error grow or shrink, and how fast? This lesson derives
# how one walk back through the network answers it for all weights at once.

# %%
import numpy as np
from sklearn.datasets import load_digits

from handgrad import gradcheck, tree
from handgrad.foundations import descent, mlp
from handgrad.lessons import exercise, knobs, mine, source
from handgrad.lessons.pictures import networks as pictures
from handgrad.ops import linear, linear_stack
from handgrad.parameters import Linear

# %% [markdown]
# ## XOR from three perceptrons
#
# XOR is 1 where at least one input is 1, but not both: it is OR *and* NAND. Each of these three is a matter
# of one line, so write down a perceptron for each:
#
# $$h_1 = \text{OR}:\ 2x_1 + 2x_2 - 1 > 0\qquad
# h_2 = \text{NAND}:\ -2x_1 - 2x_2 + 3 > 0\qquad
# \hat y = \text{AND}:\ 2h_1 + 2h_2 - 3 > 0$$
#
# The first two read the inputs; they are the *hidden layer*. As matrices, with the examples as rows and one
# column of weights for each neuron:


# %%
def step(score):
    return (score > 0).astype(int)


inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
xor = np.array([0, 1, 1, 0])
w1, b1 = np.array([[2, -2], [2, -2]]), np.array([-1, 3])
w2, b2 = np.array([2, 2]), -3

hidden = step(inputs @ w1 + b1)
for x, h, y in zip(inputs, hidden, step(hidden @ w2 + b2), strict=True):
    print(f"x = {x}   OR, NAND = {h}   XOR = {y}")
pictures.hidden_space(inputs, xor, lambda x: step(x @ w1 + b1), (w2, b2), mesh=False)

# %% [markdown]
# The right half shows how the certificate of Lesson 4 was broken. The hidden layer has *moved* the points:
# $(0, 1)$ and $(1, 0)$ have become one and the same, and now a line is enough. Seen from the inputs, on the
# left, two lines have been put together to a strip.
#
# ## Why thresholds cannot learn by slopes
#
# Now forget these weights, draw some at random, and measure how the mean squared error of the network
# changes with each of the nine numbers.


# %%
def error_with_thresholds(v):
    hidden = step(inputs @ v[:4].reshape(2, 2) + v[4:6])
    return np.mean((step(hidden @ v[6:8] + v[8]) - xor) ** 2)


v = np.random.default_rng(0).normal(size=9)
print("error:   ", error_with_thresholds(v))
print("gradient:", descent.central_differences(error_with_thresholds, v))

# %% [markdown]
# The error is far from zero, and its gradient is exactly zero: turning a weight a little turns no answer
# over. As a function of the weights the error is a landscape of terraces, level almost everywhere, with
# cliffs between. There is nothing to walk down.
#
# So the threshold is replaced by a curve that rises smoothly from 0 to 1, the *sigmoid*, or its relative
# that rises from $-1$ to 1, the *hyperbolic tangent*:
#
# $$\sigma(x) = \frac{1}{1+e^{-x}},\quad \sigma' = \sigma\,(1-\sigma)\qquad\qquad
# \tanh x = \frac{e^x - e^{-x}}{e^x + e^{-x}},\quad \tanh' = 1 - \tanh^2$$
#
# Lesson 7 derives both slopes and looks at the curves closely. Nothing is lost by the exchange: a network can
# make its weights large, and with them the curve steep. Turn the knob, and see what steepness costs: where
# the curve is flat, a weight learns nothing.

# %%
knobs.turn(pictures.squashing, steepness=[0.5, 1.0, 2.0, 4.0])

# %% [markdown]
# ## A network in formulas
#
# A *feed-forward network* is a stack of layers. Each takes the row $a^{(l-1)}$ of the one before, makes of
# it weighted sums $z^{(l)}$, and applies a curve $f$, its *activation*, to every one of them:
#
# $$a^{(0)} = x,\qquad z^{(l)} = a^{(l-1)}\,W^{(l)} + b^{(l)},\qquad a^{(l)} = f\big(z^{(l)}\big)$$
#
# $W^{(l)}$ has a row for every neuron below and a column for every neuron of this layer. The last layer often
# has no activation, so that it can say any number. Textbooks often write inputs as columns, and then the same
# line reads $z^{(l)} = W^{(l)}a^{(l-1)} + b^{(l)}$, with a matrix that is ours transposed. We put inputs in
# rows, because a batch is then simply more rows.
#
# With a sigmoid, each single neuron is a *logistic regression*: it answers with the probability of a yes,
# $\sigma(w\cdot x + b)$, one half exactly on the perceptron's line. A network is many of them, of which the
# later ones read the answers of the earlier ones.
#
# How does the error at the end depend on a weight in the middle? Only one rule of school mathematics is
# needed.
#
# ## The chain rule: along one path
#
# Let $x$ decide $u$, let $u$ decide $v$, and $v$ the error $L$. Move $x$ by a small $h$: then $u$ moves by
# about $u'h$, so $v$ by about $v'u'h$, and $L$ by about $L'v'u'h$. Slopes multiply, like the ratios of gear
# wheels:
#
# $$\frac{dL}{dx} = \frac{dL}{dv}\cdot\frac{dv}{du}\cdot\frac{du}{dx}$$
#
# On paper: $u = x^2$, $v = 3u - 7$, $L = v^2$, at $x = 2$. Forward, $u = 4$, $v = 5$, $L = 25$. The slopes
# at these places are $du/dx = 2x = 4$, $dv/du = 3$ and $dL/dv = 2v = 10$, so $dL/dx = 10\cdot3\cdot4 = 120$.
#
# ## The chain rule: along several paths
#
# Now let $x$ decide both $u$ and $v$, and both of them decide $L$. Move $x$ by $h$, and change $u$ and $v$
# one after the other. First $u$ alone moves, by $\frac{\partial u}{\partial x}h$, and $L$ with it; then $v$
# moves as well, and $L$ once more. What happened to $L$ is the sum:
#
# $$\frac{dL}{dx} = \frac{\partial L}{\partial u}\frac{\partial u}{\partial x} +
# \frac{\partial L}{\partial v}\frac{\partial v}{\partial x}$$
#
# **Along a path slopes multiply; where paths meet, gradients add.** On paper: $u = x^2$, $v = 3x$, $L = uv$,
# at $x = 2$. Then $u = 4$, $v = 6$; the slopes are $\partial L/\partial u = v = 6$,
# $\partial u/\partial x = 4$, $\partial L/\partial v = u = 4$ and $\partial v/\partial x = 3$. Both results,
# measured:


# %%
def one_path(x):
    return (3 * x[0] ** 2 - 7) ** 2


def two_paths(x):
    return x[0] ** 2 * (3 * x[0])


print("one path:  120, measured", *descent.central_differences(one_path, np.array([2.0])))
print("two paths:  36, measured", *descent.central_differences(two_paths, np.array([2.0])))
pictures.paths({"u": (4, 6), "v": (3, 4)})

# %% [markdown]
# ## Backpropagation by hand
#
# Here is a network to do completely on paper: two inputs, two hidden neurons with tanh, one output. The
# weights of its first layer are multiples of $c = \tfrac12\ln 3 \approx 0.549$, for the sake of
#
# $$\begin{aligned}
# \tanh c &= \frac{e^c - e^{-c}}{e^c + e^{-c}} = \frac{\sqrt3 - 1/\sqrt3}{\sqrt3 + 1/\sqrt3}\\
# &= \frac{3-1}{3+1} = \frac12 .
# \end{aligned}$$
#
# $$W^{(1)} = c\begin{pmatrix}1 & 1\\ 1 & -1\end{pmatrix},\quad b^{(1)} = c\,(-2,\ 0),\qquad
# W^{(2)} = \begin{pmatrix}2\\ -4\end{pmatrix},\quad b^{(2)} = -2$$
#
# The input is $x = (1, 2)$, the target 0, and the error $L = (y - 0)^2$. **Forward:**
#
# $$z_1 = c\,(1 + 2 - 2) = c,\quad z_2 = c\,(1 - 2) = -c,\qquad a_1 = \tfrac12,\quad a_2 = -\tfrac12,$$
#
# $$y = 2\cdot\tfrac12 + (-4)\cdot(-\tfrac12) - 2 = 1,\qquad L = 1 .$$

# %%
c = np.log(3) / 2
layers = (
    Linear(c * np.array([[1.0, 1.0], [1.0, -1.0]]), c * np.array([-2.0, 0.0])),
    Linear(np.array([[2.0], [-4.0]]), np.array([-2.0])),
)
(w1, b1), (w2, b2) = layers
x, target = np.array([[1.0, 2.0]]), 0.0

z = x @ w1 + b1
a = np.tanh(z)
y = a @ w2 + b2
print(f"z / c = {z / c},  a = {a},  y = {y},  loss = {(y - target) ** 2}")

# %% [markdown]
# **Backward.** We write $dy$ for $\partial L/\partial y$, $dw$ for $\partial L/\partial w$, and so on: each
# gradient has the name of its number, with a $d$. Begin at the end, where $dy = 2(y - 0) = 2$. Now think of
# the network as a graph, and of an edge with the weight $w$ that leads from the value $a$ to the sum
# $z = \dots + wa + \dots$. The chain rule says three things.
#
# * **A weight.** Since $\partial z/\partial w = a$: its gradient is *the value at its start times the
#   gradient at its end*, $dw = a\,dz$. A bias is a weight whose value is 1, so $db = dz$.
# * **A value.** It goes out on several edges, so paths meet: its gradient is *the sum over its edges of
#   weight times gradient at the end*, $da = \sum w\,dz$.
# * **A sum.** Through the activation, $dz = da\cdot f'(z)$, and for tanh $f'(z) = 1 - a^2$.
#
# Take a pencil. At the output, $dz = dy = 2$, as there is no activation:
#
# $$dw^{(2)}_1 = \tfrac12\cdot 2 = 1,\quad dw^{(2)}_2 = -\tfrac12\cdot 2 = -1,\quad db^{(2)} = 2,\qquad
# da_1 = 2\cdot 2 = 4,\quad da_2 = -4\cdot 2 = -8 .$$
#
# Both slopes of tanh are $1 - \tfrac14 = \tfrac34$, so $dz_1 = 3$ and $dz_2 = -6$. These are also the
# gradients of the biases. From here to the weights of the first layer, with $x_1 = 1$ and $x_2 = 2$ at their
# starts:
#
# $$\begin{aligned}
# dW^{(1)} &= \begin{pmatrix}1\cdot 3 & 1\cdot(-6)\\ 2\cdot 3 & 2\cdot(-6)\end{pmatrix}\\[0.5em]
# &= \begin{pmatrix}3 & -6\\ 6 & -12\end{pmatrix},\\[0.5em]
# dx &= c\,\big(3 - 6,\ 3 + 6\big) = c\,(-3,\ 9) .
# \end{aligned}$$
#
# Each gradient was computed once and then shared: what arrives at a neuron, $dz$, serves all the weights
# below it, and nothing above it is looked at again. That is *backpropagation* (Rumelhart, Hinton and
# Williams, "Learning representations by back-propagating errors", 1986): the *reverse mode* of automatic
# differentiation, on a network. Walk through it with the knob.

# %%
STAGES = ["inputs", "forward 1", "forward 2", "dy", "backward 2", "backward 1"]


def passes(stage):
    return pictures.backpropagation(x[0], layers, target, stage=STAGES.index(stage))


knobs.turn(passes, stage=STAGES)

# %% [markdown]
# ## The same in matrices
#
# A layer of real size has thousands of edges, and many examples go through it at once, one in each row:
# $z_{nj} = \sum_i x_{ni}W_{ij} + b_j$. Let $dz$ be given, an array of the shape of $z$, and count paths.
#
# The weight $W_{ij}$ acts on $z_{nj}$ in *every row* $n$, each time with the slope $x_{ni}$. The bias $b_j$
# acts on the same sums, with the slope 1. The input $x_{ni}$ acts on $z_{nj}$ for *every neuron* $j$, with
# the slope $W_{ij}$. Paths add up, and each sum is a product of matrices:
#
# $$dW_{ij} = \sum_n x_{ni}\,dz_{nj} = (x^\top dz)_{ij},\qquad
# db_j = \sum_n dz_{nj},\qquad
# dx_{ni} = \sum_j dz_{nj}\,W_{ij} = (dz\,W^\top)_{ni}$$
#
# If you forget which side is transposed, the shapes remind you. With $B$ rows, $M$ inputs and $N$ neurons,
# $dW$ must be $(M, N)$, and of $x: (B, M)$ and $dz: (B, N)$ only $x^\top dz$ makes that. These three lines
# are the whole backward pass of a layer. Written for layer $l$, with the activation in front, they are the
# recursion in which textbooks state *backpropagation*: begin with $dz^{(L)}$ at the last layer, and for
# $l = L, \dots, 1$
#
# $$dW^{(l)} = a^{(l-1)\top} dz^{(l)},\qquad db^{(l)} = \sum_n dz^{(l)}_n,\qquad
# dz^{(l-1)} = \big(dz^{(l)}\,W^{(l)\top}\big) * f'\big(z^{(l-1)}\big) .$$
#
# So our network's way back is its way forward, read from below, each
# line undoing one; the numbers should be those on your paper. Below it is the library's layer
# (`product_over_rows` is $x^\top dz$, `sum_to` the sum over rows).
#
# A weight that is itself a sum, $W' = W + s\,A\,B$, needs no new idea: the paths to $A$ and $B$ lead on from
# $dW'$, and by the same rule $dA = s\,dW' B^\top$ and $dB = s\,A^\top dW'$. With narrow $A$ and $B$ and a
# frozen $W$ that is LoRA, by which a large model learns with few numbers (`handgrad train --lora 8`).

# %%
dy = 2 * (y - target)
dw2, db2, da = a.T @ dy, dy.sum(axis=0), dy @ w2.T  #     undoes y = a @ w2 + b2
dz = da * (1 - a**2)  #                                   undoes a = tanh(z)
dw1, db1, dx = x.T @ dz, dz.sum(axis=0), dz @ w1.T  #     undoes z = x @ w1 + b1
names, gradients = ("dw2", "db2", "da", "dz", "dw1", "db1", "dx/c"), (dw2, db2, da, dz, dw1, db1, dx / c)
for name, gradient in zip(names, gradients, strict=True):
    print(f"{name:5}", *gradient.ravel().round(12))
source.show(linear.backward)

# %% [markdown]
# Three witnesses who know nothing of each other: the pencil, the library's `linear_stack.backward`, and a
# measurement that moves each weight a little.

# %%
on_paper = [3, -6, 6, -12, 3, -6, 1, -1, 2]
output, saved = linear_stack.forward(x, layers)
_, dlayers = linear_stack.backward(2 * (output - target), saved)
from_library, _ = tree.pack(dlayers, np.float64)


def loss_of(flat):
    output, _ = linear_stack.forward(x, tree.views(flat, layers))
    return np.sum((output - target) ** 2)


flat, _ = tree.pack(layers, np.float64)
measured = descent.central_differences(loss_of, flat)
print("on paper:", *on_paper)
print("library: ", *from_library.round(12))
print("measured:", *measured.round(8))

# %% [markdown]
# For networks too big for a pencil there is the proof of Lesson 2: along random directions, does the
# output move as the gradient says? Here it is for a network with three hidden layers. Its forward is a loop
# over the layers, and its backward the same loop from the last to the first.

# %%
rng = np.random.default_rng(0)
bigger = {"x": rng.normal(size=(8, 10)), "layers": mlp.init([10, 20, 20, 20, 3], rng)}
for proof in gradcheck.check(linear_stack, bigger, rng):
    print(f"{proof.input:16} {'proved' if proof.passed else 'wrong'}")
source.show(linear_stack.forward, linear_stack.backward)

# %% [markdown]
# What does it cost? The product $xW$ takes $BMN$ multiplications, and each of $x^\top dz$ and $dz\,W^\top$
# takes as many. So the gradient of *all* weights costs about twice a forward pass, while measuring them
# takes two forward passes *for each weight*. That factor is why networks can be trained at all.
#
# ## XOR, learned
#
# Now let random weights walk downhill. The loss is the mean squared error over the four rows, so $dy =
# \frac{2}{4}(y - \text{target})$. Forward, backward, and then the step of lesson 3 for every weight and bias,
# $W^{(l)} \leftarrow W^{(l)} - \eta\,dW^{(l)}$ and $b^{(l)} \leftarrow b^{(l)} - \eta\,db^{(l)}$, again and
# again. That is all of it:

# %%
rows, targets = inputs.astype(float), xor[:, None].astype(float)
start = mlp.init([2, 2, 1], np.random.default_rng(1))

(w1, b1), (w2, b2) = tree.map(np.copy, start)
for _ in range(4000):
    a = np.tanh(rows @ w1 + b1)
    y = a @ w2 + b2
    dy = 2 * (y - targets) / len(rows)
    dz = dy @ w2.T * (1 - a**2)
    w2, b2 = w2 - 0.2 * a.T @ dy, b2 - 0.2 * dy.sum(axis=0)
    w1, b1 = w1 - 0.2 * rows.T @ dz, b1 - 0.2 * dz.sum(axis=0)
print("the answers after 4,000 steps:", y.ravel().round(3) + 0.0)

# %% [markdown]
# Plain descent gets there, slowly. `mlp.train` is the same loop for any number of layers, with Adam for its
# steps unless it is told otherwise:

# %%
trained = mlp.train(start, rows, targets, n_epochs=300, learning_rate=0.03)
print("before:", mlp.predict(start, rows).ravel().round(3) + 0.0)
print("after: ", mlp.predict(trained.layers, rows).ravel().round(3) + 0.0)
pictures.training({"XOR": trained.losses})

# %% [markdown]
# First the loss lies on a plateau: there all four answers are not far from one half, and no small change
# helps much. Then the hidden neurons find their places. (The dents farther down are the optimizer's
# momentum, which carries it past the bottom and back.) What places? Draw the hidden space again, and stop
# the training at various steps. The mesh over the inputs shows how the layer bends the plane, and the output
# cuts it, as always, by one straight line.


# %%
def after(steps):
    layers = start
    if steps:
        layers = mlp.train(start, rows, targets, n_epochs=steps, learning_rate=0.03).layers
    (w1, b1), (w2, b2) = layers
    return pictures.hidden_space(inputs, xor, lambda x: np.tanh(x @ w1 + b1), (w2[:, 0], b2[0]), cut=0.5)


knobs.turn(after, steps=[0, 20, 40, 60, 80, 100, 150, 300])

# %% [markdown]
# It is our construction by hand, made smooth: the sheet is bent until $(0, 1)$ and $(1, 0)$ lie together on
# one side of the line. Nobody told the hidden neurons what to answer. The gradient did.
#
# ## Why not start from zero?
#
# The perceptron began with zero weights. Let a network try. With $W^{(1)} = W^{(2)} = 0$ and no biases, all
# $a = \tanh 0 = 0$, so $dW^{(2)} = a^\top dy = 0$; and $da = dy\,W^{(2)\top} = 0$, so $dW^{(1)} = 0$ as
# well. Only the last bias can learn, and the best it can say is the mean of the targets.
#
# Other equal weights are hardly better. If two hidden neurons have the same weights in and the same weight
# out, they have the same $z$ and $a$, so their outgoing weights get the same gradient; and they have the
# same $da$ and $dz$, so their incoming weights do, too. They stay twins at every step, and twins are worth
# one neuron.


# %%
def train_from(value):
    layers = tree.map(lambda leaf: np.full(leaf.shape, value), start)
    return mlp.train(layers, rows, targets, n_epochs=1000, learning_rate=0.03)


for value in (0.0, 0.5):
    result = train_from(value)
    answers = mlp.predict(result.layers, rows).ravel().round(3) + 0.0
    print(f"from {value}: loss {result.losses[-1]:.4f}, answers", answers)
    print("          the two hidden neurons:", *result.layers[0].weight.T.round(3))

# %% [markdown]
# One tanh neuron rises along $w$ and is constant across it, so what it answers lies above or below
# $\tfrac12$ on the two sides of a line, and Lesson 4 says that this is no XOR. That is why weights begin as
# random numbers: they break the symmetry. How *large* they should be is a question of its own; `mlp.init`
# follows Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks"
# (2010).
#
# ## What one hidden layer can do
#
# How much can be computed in this way? One steep sigmoid is a step. A second one adds another step beside it,
# up or down, as its outgoing weight says. So with enough of them one builds a staircase along any curve, and
# the more steps, the closer it comes. This is the idea behind the theorem of *universal approximation*: one
# hidden layer, wide enough, comes as near to any continuous function as one likes, on a bounded range
# (Cybenko, "Approximation by superpositions of a sigmoidal function", 1989; Hornik, Stinchcombe and White,
# "Multilayer feedforward networks are universal approximators", 1989). It says that good weights exist. It
# does not say how wide is wide enough, nor that descent finds them.


# %%
def hills(x):
    return np.sin(7 * x) * (1 - x) + x


def following(neurons):
    return pictures.staircase(hills, n_neurons=neurons)


knobs.turn(following, neurons=[1, 3, 7, 15, 40])

# %% [markdown]
# ## Handwritten digits
#
# Nothing in the derivation asked how many neurons there are. scikit-learn comes with 1,797 images of
# handwritten digits, 8 by 8 pixels each (Alpaydin and Kaynak, "Optical recognition of handwritten digits",
# 1998). A network with 64 inputs, 32 hidden neurons and 10 outputs, one for each digit, shall read them; the
# largest output is its answer.
#
# For classes one uses another loss than the squared error, the *cross-entropy*. Softmax makes the ten
# outputs, the logits, into probabilities, and the loss is $-\ln p$ of the right digit, in nats: 0 for
# certainty, and $\ln 10 \approx 2.303$ for a blind guess. Its gradient is as plain as it could be, and
# Lesson 8 derives it:
#
# $$p_k = \frac{e^{z_k}}{\sum_j e^{z_j}},\qquad L = -\ln p_{\text{right}},\qquad
# dz_k = p_k - \begin{cases}1 & \text{if } k\text{ is right}\\ 0 & \text{otherwise}\end{cases}$$
#
# A fifth of the images is held out: the network never trains on them. Beside it we train a network without a
# hidden layer.

# %%
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.data))
held_out, seen = order[:360], order[360:]
pixels = digits.data / 16  # from 0 to 1


def train_digits(widths):
    layers = mlp.init(widths, np.random.default_rng(1))
    passes = {"n_epochs": 20, "batch_size": 50, "rng": np.random.default_rng(2)}
    return mlp.train(layers, pixels[seen], digits.target[seen], loss="softmax_cross_entropy", **passes)


def accuracy(layers, numbers):
    answers = mlp.predict(layers, pixels[numbers]).argmax(axis=1)
    return f"{np.mean(answers == digits.target[numbers]):.1%}"


trainings = {"no hidden layer": train_digits([64, 10]), "32 hidden": train_digits([64, 32, 10])}
for name, training in trainings.items():
    print(f"{name:16}", accuracy(training.layers, seen), "of the seen images are read right,", end=" ")
    print(accuracy(training.layers, held_out), "of the held-out ones")
    print(f"{'':16} first loss {training.losses[0]:.2f}, after 20 passes {training.losses[-29:].mean():.3f}")
curves = {name: training.losses.reshape(20, -1).mean(axis=1) for name, training in trainings.items()}
pictures.training(curves, xlabel="pass over the images", ylabel="cross-entropy (nats)")

# %% [markdown]
# Both begin near the blind guess. Without a hidden layer, ten planes in a space of 64 dimensions read most
# digits already. The hidden layer brings the loss on the seen images much lower. On the held-out ones it
# gains less: one image more or less is 0.28 % there, so the two networks are only a few images apart. Which
# ones does the larger network get wrong? (Twelve are shown at most.)

# %%
reader = trainings["32 hidden"].layers
answers = mlp.predict(reader, pixels[held_out]).argmax(axis=1)
wrong = np.flatnonzero(answers != digits.target[held_out])[:12]
pictures.digits(
    digits.images[held_out[wrong]],
    [f"{digits.target[held_out[i]]}, read as {answers[i]}" for i in wrong],
)

# %% [markdown]
# Some of these would give you trouble, too. What is worth remembering is how little it took: the program
# that learned this is the one that you did with a pencil.
#
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: a way around
#
# Here is a layer that adds its result to its input, as every block of a transformer does. Derive its
# backward, and return the gradients of `x`, `weight1` and `weight2`, in this order. Count the paths from $x$
# to $y$.


# %% tags=["exercise"]
def forward(x, weight1, weight2):
    hidden = np.tanh(x @ weight1)
    return x + hidden @ weight2, (x, weight1, weight2, hidden)


def backward(dy, saved):  # saved is the tuple that forward returned
    return ...


# %% tags=["check"]
rng = np.random.default_rng(0)
arrays = {
    "x": rng.normal(size=(5, 3)),
    "weight1": rng.normal(size=(3, 4)),
    "weight2": rng.normal(size=(4, 3)),
}
terms = {
    "x": {
        "dy, on the way around": lambda dy, saved: dy,
        "of the way through the tanh": lambda dy, saved: dy @ saved[2].T * (1 - saved[3] ** 2) @ saved[1].T,
    }
}
without = {"x": {"the slope of the tanh": lambda dy, saved: dy + dy @ saved[2].T @ saved[1].T}}
exercise.gradient(forward, backward, terms=terms, without=without, **arrays)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section "The chain rule: along several paths" says what happens where paths meet. By which two ways does
# $x$ reach $y$, and what is the slope of the one that passes no weight?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Go back as in "The same in matrices": through `hidden @ weight2`, then through the tanh, whose slope
# `hidden` tells, then through `x @ weight1`. Each product gives two gradients, one for its weight and one to
# carry on; at $x$ add those of both ways.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Below the tanh, the gradient is `dz = (dy @ weight2.T) * (1 - hidden**2)`. The gradient of `weight1` is a
# product of `x` and `dz`, and its shape, $(3, 4)$, tells which of them to transpose. What `dz` sends on to
# $x$ is only one of the two parts of its gradient.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Backwards: through `weight2`, through the tanh, through `weight1`; and $x$ has a second path,
# the direct one, with the slope 1, so $dy$ itself is added.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def backward(dy, saved):
    x, weight1, weight2, hidden = saved
    dhidden = dy @ weight2.T
    dz = dhidden * (1 - hidden**2)
    return dy + dz @ weight1.T, x.T @ dz, hidden.T @ dy


exercise.gradient(forward, backward, terms=terms, without=without, **arrays)

# %% [markdown]
# ### Exercise 2: XNOR by hand
#
# XNOR is 1 where both inputs are equal. Find the weights of a network of thresholds with two hidden neurons,
# without training. In the place of the dots, in this order: $W^{(1)}$, a list of two rows with two numbers
# each; $b^{(1)}$ and $w^{(2)}$, lists of two numbers; and $b^{(2)}$, one number. Which two questions would
# you let the hidden neurons answer?

# %% tags=["exercise"]
xnor = (..., ..., ..., ...)


# %% tags=["check"]
def computes_xnor(weights):
    w1, b1, w2, b2 = map(np.array, weights)
    return np.array_equal(step(step(inputs @ w1 + b1) @ w2 + b2), 1 - xor)


exercise.claim(xnor, computes_xnor, "1 where both inputs are equal, for all four rows,")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section "XOR from three perceptrons" makes XOR from two questions, each of which one line can answer.
# For which two rows is XNOR 1, and can a line cut off each of them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Let one hidden neuron be 1 only at $(1, 1)$, and the other only at $(0, 0)$. The output must be 1 where at
# least one of them is. AND, the output of XOR's network, asks for both at once, which never happens here.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# With the weights 2 and 2, the scores of the four rows are $b$, $2 + b$, $2 + b$ and $4 + b$; with $-2$ and
# $-2$, they are $b$, $b - 2$, $b - 2$ and $b - 4$. For each neuron, the output too, choose $b$ so that only
# the wanted scores are above zero. The weights of one hidden neuron are a column of $W^{(1)}$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Equal means: both, or none. So let the hidden neurons be AND, $2x_1 + 2x_2 - 3 > 0$, and NOR,
# $-2x_1 - 2x_2 + 1 > 0$, and the output OR. (Another way: keep the hidden layer of XOR, and make the output
# NAND.)
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
xnor = ([[2, -2], [2, -2]], [-3, 1], [2, 2], -1)
exercise.claim(xnor, computes_xnor, "1 where both inputs are equal, for all four rows,")


# %% [markdown]
# ### Exercise 3: why a curve is needed
#
# Two layers without an activation between them are no better than one. Show it: return the weight and the
# bias, in this order, of the *one* layer that computes the same. The judge feeds zeros and unit vectors to
# the two, and so measures what the one must be.


# %% tags=["exercise"]
def combined(w1, b1, w2, b2):
    return ..., ...


# %% tags=["check"]
def by_measuring(w1, b1, w2, b2):
    def two_layers(x):
        return (x @ w1 + b1) @ w2 + b2

    bias = two_layers(np.zeros(len(w1)))
    return two_layers(np.eye(len(w1))) - bias, bias


rng = np.random.default_rng(0)
shapes = [((2, 3), 3, (3, 1), 1), ((4, 5), 5, (5, 3), 3)]
networks = [tuple(rng.normal(size=shape) for shape in four) for four in shapes]
exercise.function(combined, by_measuring, *networks)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write both layers as in "A network in formulas", and put the first into the second, with no $f$ between
# them. Which part of the result depends on $x$, and which does not?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Multiply $(xW_1 + b_1)\,W_2 + b_2$ out. The matrix by which $x$ is multiplied is the new weight. The rest,
# which is the result for $x = 0$, is the new bias, and it has a part from each of the two biases.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The second layer multiplies all that it gets from the first, so $b_1$ arrives as $b_1W_2$, one number for
# each output; add the bias that comes after it. The new weight is a product of two matrices, in the order in
# which $x$ meets them.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $(xW_1 + b_1)\,W_2 + b_2 = x\,(W_1W_2) + (b_1W_2 + b_2)$. However many layers one stacks,
# without a curve between them they can draw one line, and no XOR.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def combined(w1, b1, w2, b2):
    return w1 @ w2, b1 @ w2 + b2


exercise.function(combined, by_measuring, *networks)

# %% [markdown]
# ### Make it yours: the affine layer
#
# Write $z = xW + b$ and its backward, for $x$ with any number of axes in front, $(\dots, M)$. The bias may be
# `None`: then there is nothing to add, and its gradient is `None`.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_linear(x, weight, bias):
    z = ...
    return z, (x, weight, bias)


def my_linear_backward(dz, saved):  # saved is (x, weight, bias)
    return ..., ..., ...


# %% tags=["check"]
mine.keep("linear", my_linear, my_linear_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section "The same in matrices" has the three gradients for an $x$ with two axes; what is a row if there
# are more? For the bias, recall "Undoing a broadcast" in lesson 2: over which axes was it stretched?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The products $xW$ and $dz\,W^\top$ concern the last axis alone, and `@` takes any axes in front. $dW$ and
# $db$ are sums over rows, so turn $x$ and $dz$ into matrices first, with a row for every place along the axes
# in front.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `x.reshape(-1, x.shape[-1])` puts all rows of $x$ below each other; do the same with $dz$. Then $dW$ is one
# product, of shape $(M, N)$, and $db$ is the sum of all these rows of $dz$, of shape $(N,)$. Ask
# `bias is None` in the forward and in the backward.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# Flatten the axes in front: then $dW = x^\top dz$ sums over all rows, and so does $db$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_linear(x, weight, bias):
    z = x @ weight
    return (z if bias is None else z + bias), (x, weight, bias)


def my_linear_backward(dz, saved):
    x, weight, bias = saved
    rows, drows = x.reshape(-1, x.shape[-1]), dz.reshape(-1, dz.shape[-1])
    return dz @ weight.T, rows.T @ drows, None if bias is None else drows.sum(axis=0)


mine.keep("linear", my_linear, my_linear_backward)

# %% [markdown]
# ## Where next
#
# Every line of a backward was made from a line of the forward, in the same way each time. Lesson 6, *A tape
# of your own*, lets a program do it.
