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
# # 6. A tape of your own
#
# *After this lesson you can write down a computation as a graph, put it into an order, carry gradients back
# through it with a program of sixty lines, say what a JVP and a VJP cost, and why this course derives by hand
# all the same.*
#
# In lesson 5 you carried a gradient back through a network, each line of the backward undoing one of the
# forward. The lines were always made in the same way. Could a program make them? It can: PyTorch, JAX and
# TensorFlow do nothing else. This lesson writes such a program, *automatic differentiation*, small enough to
# see all of it.

# %%
import numpy as np

from handgrad import tree
from handgrad.foundations import descent, mlp
from handgrad.lessons import exercise
from handgrad.lessons.pictures import networks as pictures
from handgrad.ops import softmax_cross_entropy
from handgrad.shapes import sum_to

# %% [markdown]
# ## A computation is a graph
#
# Take $L = (ab + b)^2$. Written step by step, with a name for everything in between:
#
# $$u = a\,b,\qquad v = u + b,\qquad L = v \cdot v$$
#
# Each step has made one number out of one or two earlier ones. Draw an arrow from each of them to it, and the
# computation is a *graph*: no arrow leads back, so there are no circles. On each arrow stands a slope, how
# the result answers to that input alone: $\partial u/\partial a = b$, $\partial v/\partial u = 1$ and so on.
# With $a = 2$, $b = 3$:

# %%
GRAPH = {
    "a": (2, {}),
    "b": (3, {}),
    "u": (6, {"a": 3, "b": 2}),
    "v": (9, {"u": 1, "b": 1}),
    "L": (81, {"v": 18}),
}
pictures.graph(GRAPH, heights={"u": 0.75})

# %% [markdown]
# (Both inputs of the last product are $v$, so its two slopes, 9 and 9, are drawn as one.) Lesson 5 said:
# *along a path slopes multiply, where paths meet gradients add.* From $L$ to $b$ there are two paths,
# $18\cdot1\cdot1 + 18\cdot1\cdot2 = 54$; to $a$ there is one, $18\cdot1\cdot3 = 54$. But a graph can have as
# many paths as a transformer has, more than atoms in the world, so nobody walks them one by one. The
# gradients of the nodes are added up instead, node by node: when a node's turn comes, all that comes back to
# it must be there. What order ensures that? One in which every node stands after those that it was made of.
# Walked backwards, each node then comes after all that it went into. Such an order is called *topological*.
#
# The order in which the steps were computed is one. A list of them, written while they are computed, is
# called a *tape*: it is recorded forwards and played backwards.
#
# ## Sixty lines
#
# A `Node` has a value, those it was made of, and for each of them a function that carries a gradient back to
# it. What these functions are is no news: they are the rules of lessons 2 and 5. A sum passes the gradient
# on; a product multiplies it by the other factor; a matrix product multiplies by the other matrix,
# transposed; and `sum_to` sums where something was broadcast.


# %%
class Node:
    """A number or an array, and how it was made."""

    def __init__(self, value, made_of=()):
        self.value = np.asarray(value, dtype=float)
        self.made_of = made_of  # pairs: a node, and what carries a gradient back to it
        self.gradient = np.zeros_like(self.value)

    def __add__(self, other):
        a, b = self, node(other)
        return Node(a.value + b.value, [(a, lambda d: d), (b, lambda d: d)])

    def __mul__(self, other):
        a, b = self, node(other)
        return Node(a.value * b.value, [(a, lambda d: d * b.value), (b, lambda d: d * a.value)])

    def __matmul__(self, other):
        a, b = self, node(other)
        return Node(a.value @ b.value, [(a, lambda d: d @ b.value.T), (b, lambda d: a.value.T @ d)])

    def __sub__(self, other):
        return self + node(other) * -1.0

    def tanh(self):
        y = np.tanh(self.value)
        return Node(y, [(self, lambda d: d * (1 - y * y))])

    def mean(self):
        n = self.value.size
        return Node(self.value.mean(), [(self, lambda d: np.full(self.value.shape, d / n))])


def node(x):
    return x if isinstance(x, Node) else Node(x)


def in_order(end):
    """All nodes that `end` was made of, each after those that it was made of itself; `end` is the last."""
    found, seen = [], set()

    def visit(one):
        if id(one) not in seen:
            seen.add(id(one))
            for parent, _ in one.made_of:
                visit(parent)
            found.append(one)

    visit(end)
    return found


def backward(end):
    """The gradient of `end`, a single number, with respect to every node that it was made of."""
    end.gradient = np.ones_like(end.value)
    for one in reversed(in_order(end)):
        for parent, carry_back in one.made_of:
            parent.gradient = parent.gradient + sum_to(carry_back(one.gradient), parent.value.shape)


# %% [markdown]
# That is all. The graph of above:

# %%
a, b = Node(2.0), Node(3.0)
v = a * b + b
L = v * v
backward(L)
print("L =", L.value, " dL/da =", a.gradient, " dL/db =", b.gradient)
print("in order:", [float(one.value) for one in in_order(L)])

# %% [markdown]
# And the network of lesson 5, which was differentiated by hand there: two layers, tanh, the mean squared
# error. Only its forward is written here. Its gradients should be those of the library, which has them by
# hand.

# %%
rng = np.random.default_rng(0)
layers = mlp.init([3, 5, 2], rng)
x, targets = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))


def loss_of(w1, b1, w2, b2):
    y = (node(x) @ w1 + b1).tanh() @ w2 + b2
    error = y - targets
    return (error * error).mean()


weights = [Node(array) for layer in layers for array in layer]
loss = loss_of(*weights)
backward(loss)
by_hand, dlayers = mlp.gradients(layers, x, targets)
print(f"the losses differ by {abs(loss.value - by_hand):.0e}")
for name, one, theirs in zip(("dW1", "db1", "dW2", "db2"), weights, tree.leaves(dlayers), strict=True):
    print(f"{name} differs by {np.max(np.abs(one.gradient - theirs)):.0e}")

# %% [markdown]
# ## Forwards or backwards: JVP and VJP
#
# A function of $n$ inputs with $m$ outputs has a *Jacobian* $J$ of $m \times n$ slopes. A program has it as a
# product, with a factor for each step: $J = J_3\,J_2\,J_1$. Nobody wants all of $J$. One wants
#
# - $J\,v$: how do the outputs move if the inputs move along $v$? From right to left, $J_3(J_2(J_1 v))$, each
#   product is one of a matrix and a vector, and it can be computed along with the forward. This is *forward
#   mode*, and the product is a *JVP*, a Jacobian-vector product. One run gives one direction of the inputs.
# - $u^\top J$: how does a weighted sum of the outputs answer to each input? From left to right, $((u^\top
#   J_3)J_2)J_1$, again vectors only, but from the end: the forward has to be over, and what its steps need
#   for their slopes has to be kept. This is *reverse mode*, the product is a *VJP*. One run gives all inputs
#   at once, for one output.
#
# A loss is one output, and weights are millions of inputs: so training takes the VJP, and pays for it with
# memory. Here is the other one, as small. A `Dual` is a value and its velocity, and each operation moves
# both.


# %%
class Dual:
    """A value, and how fast it moves."""

    def __init__(self, value, velocity=0.0):
        self.value, self.velocity = np.asarray(value, dtype=float), np.asarray(velocity, dtype=float)

    def __add__(self, other):
        return Dual(self.value + other.value, self.velocity + other.velocity)

    def __mul__(self, other):
        return Dual(self.value * other.value, self.velocity * other.value + self.value * other.velocity)


for name, (da, db) in {"a": (1.0, 0.0), "b": (0.0, 1.0)}.items():
    a, b = Dual(2.0, da), Dual(3.0, db)
    v = a * b + b
    print(f"one run forward, along {name}: dL/d{name} =", (v * v).velocity)

# %% [markdown]
# Two inputs took two runs; the tape took one for both. That is the factor between measuring a gradient and
# computing it, which lesson 5 counted: a JVP is a measurement without rounding. The proof of lesson 2
# compares the two modes: it *measures* $J\,v$ along a random $v$, and asks whether $\langle u, J v\rangle$
# equals $\langle u^\top J, v\rangle$, which the backward says.
#
# ## Why by hand, all the same
#
# With sixty lines the machine differentiates whatever we write. So why does this library not use them?
#
# - **To understand.** A tape is right without anyone knowing why. Whoever has derived $dS = P * (dP -
#   \operatorname{rowsum}(dP * P))$ knows when attention learns nothing.
# - **For fewer steps.** The tape keeps every value between two operations and visits each twice. By hand
#   softmax and cross-entropy become $p - t$: one subtraction in place of five steps, and no overflow in them.
#   Count it below.
# - **For memory.** By hand we choose what is kept and what is computed again. Lesson 11 never stores
#   attention's matrix of probabilities.
# - **To be proved.** A formula that stands in one place can be proved there, once. (A tape's rules can, too:
#   they are what exercise 1 asks for.)
#
# PyTorch and JAX do both: they have a tape, and under it, for what counts, backwards derived by hand, such as
# that of attention.


# %%
def exp(a):
    y = np.exp(a.value)
    return Node(y, [(a, lambda d: d * y)])


def log(a):
    return Node(np.log(a.value), [(a, lambda d: d / a.value)])


def total(a):
    return Node(a.value.sum(), [(a, lambda d: np.full(a.value.shape, d))])


def pick(a, i):
    return Node(a.value[i], [(a, lambda d: d * (np.arange(a.value.size) == i))])


def in_steps(logits, target):
    """Softmax and cross-entropy of one row, as steps."""
    return log(total(exp(logits))) - pick(logits, target)


for numbers in ([2.0, 1.0, 0.0], [1000.0, 1.0, 0.0]):
    logits = Node(numbers)
    with np.errstate(over="ignore", invalid="ignore"):
        loss = in_steps(logits, 1)
        backward(loss)
    value, saved = softmax_cross_entropy.forward(np.array([numbers]), np.array([1]))
    (by_hand,) = softmax_cross_entropy.backward(1.0, saved)
    nodes, of_tape = len(in_order(loss)), logits.gradient.round(4)
    print(f"the tape, {nodes} nodes: loss {loss.value:.4f}, gradient {of_tape}")
    print(f"by hand:           loss {value:.4f}, gradient {by_hand[0].round(4)}")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: a new operation
#
# Teach the tape the ReLU, $\max(x, 0)$ number by number: `relu` takes a `Node` and returns one.


# %% tags=["exercise"]
def relu(a):
    return ...


# %% tags=["check"]
def judge_relu(answer):
    def slopes(x):
        start = Node(x)
        end = answer(start)
        if end is ...:
            return ...
        backward(total(end * [1.0, -2.0, 3.0]))
        return end.value, start.gradient

    slopes.__name__ = "relu"

    def measured(x):
        slopes = descent.central_differences(lambda x: np.maximum(x, 0.0) @ [1.0, -2.0, 3.0], x)
        return np.maximum(x, 0.0), slopes

    return exercise.function(slopes, measured, np.array([1.5, -2.0, 0.3]), np.array([-1.0, 4.0, 2.0]))


judge_relu(relu)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The ReLU keeps numbers above zero and makes all others 0. What does the method `tanh` of `Node` give to the
# new node, and what is the slope of the ReLU on either side of zero?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The value is `np.maximum` of `a.value` and 0. The list `made_of` needs one pair: the node `a`, and a
# function of `d` that returns `d` times the slope. Without this pair no gradient reaches `a`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The slope is 1 where `a.value > 0` and 0 elsewhere. In a product with `d`, the array of this comparison
# counts as ones and zeros, so it can stand where `tanh` has `1 - y * y`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The value is the larger of $a$ and 0. Back goes the gradient where $a$ was above zero, and nothing
# elsewhere.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def relu(a):
    return Node(np.maximum(a.value, 0.0), [(a, lambda d: d * (a.value > 0))])


judge_relu(relu)

# %% [markdown]
# ### Exercise 2: how many paths
#
# Gradients add up over paths, and `backward` never walks one. How many would there be? Write `n_paths`, which
# returns how many paths lead from the node `end` back to nodes that were made of nothing. It may visit each
# node once only, so use `in_order`. (A node that uses the same node twice has two arrows to it.)


# %% tags=["exercise"]
def n_paths(end):
    return ...


# %% tags=["check"]
def squared(n):
    """A number that is multiplied with itself n times over: 2^n paths."""
    one = Node(1.0)
    for _ in range(n):
        one = one * one
    return one


def residual(n):
    """x + f(x), n times."""
    one = Node(0.1)
    for _ in range(n):
        one = one + one.tanh()
    return one


def by_walking(end):
    return sum(by_walking(parent) for parent, _ in end.made_of) if end.made_of else 1


long = {60: squared(60), 100: residual(100)}


def by_formula(end):
    """Two paths a step where they are too many to walk."""
    return next((2**n for n, one in long.items() if one is end), None) or by_walking(end)


ends = (squared(3), residual(4), loss_of(*weights), *long.values())
exercise.function(n_paths, by_formula, *ends)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Suppose you knew for every parent of a node how many paths lead back from it. How many lead back from the
# node itself, and how many should be counted for a node made of nothing?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Go through `in_order(end)` from its beginning: there the parents of a node come before it. Keep a dictionary
# `paths` from `id(node)` to a number of paths, and compute each entry from earlier ones: their sum over the
# pairs in `made_of`.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The entry of the node `one` is `sum(paths[id(parent)] for parent, _ in one.made_of)`, in which a parent that
# was used twice counts twice. For a node made of nothing this sum is 0, but its entry must be 1, so treat
# that case on its own. The entry of `end` is the answer.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Along the order, each node's paths are the sum of those of its parents, and a node made of nothing has one.
# A residual stack of 100 layers has $2^{100}$ of them; the order has 201 nodes.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def n_paths(end):
    paths = {}
    for one in in_order(end):
        paths[id(one)] = sum(paths[id(parent)] for parent, _ in one.made_of) if one.made_of else 1
    return paths[id(end)]


exercise.function(n_paths, by_formula, *ends)

# %% [markdown]
# ### Exercise 3: a layer in forward mode
#
# Let $y = \tanh(xW + b)$, and let $x$, $W$ and $b$ move with the velocities $\dot x$, $\dot W$ and $\dot b$.
# Return $y$ and its velocity.


# %% tags=["exercise"]
def layer_jvp(x, w, b, x_dot, w_dot, b_dot):
    return ..., ...


# %% tags=["check"]
def by_measuring(x, w, b, x_dot, w_dot, b_dot, h=6e-6):
    def y(t):
        return np.tanh((x + t * x_dot) @ (w + t * w_dot) + b + t * b_dot)

    return y(0.0), (y(h) - y(-h)) / (2 * h)


shapes = [(4, 3), (3, 2), (2,)]
arrays = [tuple(rng.normal(size=shape) for shape in shapes * 2) for _ in range(2)]
exercise.function(layer_jvp, by_measuring, *arrays)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The class `Dual` shows how a sum and a product move. Which sum and which product are in $xW + b$, and which
# of their parts move?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Take the steps of the forward in their order: first $z = xW + b$ and its velocity $\dot z$, then
# $y = \tanh z$ and its velocity. The product needs the product rule, as both factors move; the tanh needs the
# chain rule along one path.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Multiply out: $(x + t\,\dot x)(W + t\,\dot W) = xW + t\,(\dot x W + x \dot W) + t^2\,\dot x \dot W$. The
# velocity of the product is the factor of $t$. Add $\dot b$, then multiply the whole, element by element, by
# the slope of tanh, $1 - y^2$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# A product moves because either factor does: $\dot z = \dot x W + x \dot W + \dot b$. Then the slope of tanh:
# $\dot y = (1 - y^2) * \dot z$. No transpose occurs. The transposes of lesson 5 come from reading the same
# slopes from the other end.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def layer_jvp(x, w, b, x_dot, w_dot, b_dot):
    y = np.tanh(x @ w + b)
    return y, (1 - y * y) * (x_dot @ w + x @ w_dot + b_dot)


exercise.function(layer_jvp, by_measuring, *arrays)

# %% [markdown]
# ## Where next
#
# You know what a tape would do with every formula of this course. From here on we do it by hand. Lesson 7,
# *Activations and their slopes*, begins with the curves.
