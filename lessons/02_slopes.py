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
# # 2. Slopes
#
# *After this lesson you can read a derivative as a slope, a gradient as the steepest way up, measure both
# without deriving anything, with a step whose digits you can trust, and derive the gradient of everything
# that was broadcast.*
#
# A network learns by asking one question of every one of its numbers: *if I turned you up a little, would my
# mistake grow or shrink, and how fast?* The answer is a slope. This lesson is about slopes alone; everything
# after it is about getting millions of them cheaply.

# %%
import numpy as np

from handgrad import gradcheck, ops, shapes
from handgrad.foundations import descent
from handgrad.lessons import exercise, knobs, source
from handgrad.lessons.pictures import arrays as broadcasts
from handgrad.lessons.pictures import slopes as pictures

# %% [markdown]
# ## The slope at a point
#
# Take $f(x) = x^2$ and stand at $x = 1$. Go a distance $h$ to the right; the height changes by
# $f(1+h) - f(1)$. Divided by the distance this is the slope of the straight line through both points, the
# *secant*:
#
# $$\begin{aligned}
# \frac{f(x+h)-f(x)}{h} &= \frac{(x+h)^2-x^2}{h}\\[0.5em]
# &= \frac{2xh+h^2}{h} = 2x + h
# \end{aligned}$$
#
# The shorter the distance, the nearer this comes to $2x$, the slope of the curve itself, which is called its
# *derivative*, $f'(x) = 2x$. The line with that slope through the point is the *tangent*: the straight line
# that the curve looks like from very near. Turn the knob, and watch the one line become the other.


# %%
def square(x):
    return x**2


def secant(h):
    return pictures.secant(square, x=1.0, h=h, window=(-0.5, 2.6))


knobs.turn(secant, h=[1.5, 1.0, 0.5, 0.2, 0.05])

# %% [markdown]
# ## Measuring on both sides
#
# The secant to the right is wrong by exactly $h$ here. One that is centred at the point, from $x-h$ to
# $x+h$, is better, because what bends it up on one side bends it up on the other as well, and the two cancel:
#
# $$\begin{aligned}
# &\frac{f(x+h)-f(x-h)}{2h}\\[0.5em]
# &= f'(x) + \frac{h^2}{6}f'''(x) + \dots
# \end{aligned}$$
#
# For a parabola there is no third derivative, and the centred slope is exact at any $h$. For other functions
# its error shrinks with $h^2$: a tenth of the distance, a hundredth of the error.
#
# So should $h$ be as small as possible? The picture below has the error of measuring the slope of $e^x$ at 1,
# where it is $e$, both ways, from $h = 1$ down to $10^{-16}$. Read it from right to left.

# %%
pictures.error_of_differences(np.exp, np.exp, x=1.0)

# %% [markdown]
# Errors fall as the formula says, and then *rise* again. A float64 carries about 16 digits. When $h$ is
# tiny, $f(x+h)$ and $f(x-h)$ agree in nearly all of them; the subtraction leaves only the last few, which
# are rounding, and dividing by a tiny $h$ makes them big. The error of the formula, $h^2$, and that of
# rounding, $\epsilon/h$, are equally large at about $h = \epsilon^{1/3} \approx 6\cdot10^{-6}$: there the
# measurement is at its best, and good to ten digits or more. That is the step which the library takes:

# %%
source.show(descent.central_differences)

# %% [markdown]
# ## From slope to gradient
#
# A function of two numbers is a surface. At every point it has a slope for every direction one may walk in.
# But two of them are enough to know all: the slope along $x$ and the slope along $y$, the *partial
# derivatives*. Together, as a vector, they are the *gradient*
#
# $$\nabla f = \Big(\frac{\partial f}{\partial x}, \frac{\partial f}{\partial y}\Big),$$
#
# and the slope along a direction $v$ of length 1 is $\langle\nabla f, v\rangle$. Why? Walk a short way $h$
# along $v$: that is $h v_x$ along $x$ and then $h v_y$ along $y$, and both rises add up,
#
# $$f(p + hv) - f(p) \approx \frac{\partial f}{\partial x}\,h v_x + \frac{\partial f}{\partial y}\,h v_y
# = h\,\langle\nabla f, v\rangle .$$
#
# A scalar product is the product of both lengths and the cosine of the angle $\theta$ between them. $v$ has
# the length 1, so
#
# $$\text{slope along } v = |\nabla f|\,\cos\theta .$$
#
# The cosine is largest, 1, where $\theta = 0$: *the gradient points the steepest way up, and its length is
# the slope there*. It is $-1$ straight against the gradient, the steepest way down, and 0 at a right angle.
# Here is the surface that the next lesson walks down,
#
# $$f(x, y) = x^4 + x^2y^2 - y^2 + y^4 + 6,$$
#
# as a map, with its gradients as arrows. Where the arrows vanish the ground is level.

# %%
pictures.gradient_field(descent.two_valleys, descent.two_valleys_gradient, window=((-1.2, 1.2), (-1.2, 1.2)))

# %% [markdown]
# The arrows cross every line of equal height at a right angle: along such a line the height does not change,
# so $\cos\theta = 0$. And we can check the derived gradient against a measured one, which
# knows nothing of the derivation:

# %%
point = np.array([0.8, -0.3])
print("derived: ", descent.two_valleys_gradient(point))
print("measured:", descent.central_differences(descent.two_valleys, point))

# %% [markdown]
# This comparison is how every gradient in handgrad is proved, from a single multiplication to GPT-2. One
# thing is smarter there: a network has millions of inputs, and to move each of them would take for ever. So
# the proof moves all of them at once, along a *random direction* $v$, of any length, by a small step
# $h\,v$, and asks whether the output moves by $h\,\langle\nabla f, v\rangle$; and then along three more.
#
# What can it miss? A slip $e$ in the gradient shows as $\langle e, v\rangle$, so it goes unseen only where
# $v$ happens to be at a right angle to $e$, nearly: for a random direction that is rare, and for four of them
# rarer still. But a slip in one number among millions moves $\langle e, v\rangle$ by little, and what is
# smaller than the rounding of the measurement is not seen. And the proof looks at the points and shapes that
# it was given: a case that nobody tried is not proved. How small a slip it finds was measured: see ["What
# proved means"](../../proof.md).

# %%
rng = np.random.default_rng(0)
v = rng.normal(size=2)
h = 6e-6
slope = (descent.two_valleys(point + h * v) - descent.two_valleys(point - h * v)) / (2 * h)
print(f"the surface along v rises by h times {slope:.9f}")
print(f"the gradient says            h times {descent.two_valleys_gradient(point) @ v:.9f}")

# %% [markdown]
# ## Undoing a broadcast
#
# Networks have arrays for points. Training asks for every number of them: if I turn you up a little, how much
# does the loss $L$ rise? For an array $y$ we write the answers as `dy`, an array of the same shape: turned up
# by a small $\epsilon$, the element $y_{ij}$ alone makes $L$ rise by $\epsilon\,dy_{ij}$. This is the
# gradient of $L$ with respect to $y$. What becomes of it on its way back through the broadcasting of lesson
# 1?
#
# Let $y = x + b$ with $x$ of shape $(2, 3)$ and $b$ of shape $(3,)$, and let somebody have told us `dy`. What
# is `db`? With indices one sees where each $b_j$ is used:
#
# $$y_{ij} = x_{ij} + b_j\ \text{ for all } i.$$
#
# Turn up $b_j$ by $\epsilon$. Then $y_{1j}$ rises by $\epsilon$, and so does $y_{2j}$. Each of them makes $L$
# rise, and small rises add up to $\epsilon\,db_j = \epsilon\,dy_{1j} + \epsilon\,dy_{2j}$. So
#
# $$db_j = \sum_i dy_{ij}.$$
#
# **What was copied going forward is summed coming back.**

# %%
broadcasts.copied_and_summed()

# %% [markdown]
# Check the picture with pencil: $1+4=5$, $-2+5=3$, $3-1=2$. Then check the rule by measuring. As the loss we
# take $L = \sum_{ij} dy_{ij}\,y_{ij}$, because for this one the gradient by $y$ is `dy` as given.

# %%
dy = np.array([[1.0, -2.0, 3.0], [4.0, 5.0, -1.0]])
x, b = rng.normal(size=(2, 3)), np.array([10.0, 20.0, 30.0])


def loss(b):
    return np.sum(dy * (x + b))


measured = descent.central_differences(loss, b)
print("measured:", np.round(measured, 6), " summed:", dy.sum(axis=0))

# %% [markdown]
# The rule holds for every broadcast: *sum over every axis that was stretched*, and bring the result to the
# shape that the array had. The library has one function for it, with the rule of broadcasting read backwards:
# axes that were missing, and axes of size 1 that met a larger one.

# %%
for shape in [(), (3,), (2, 1), (1, 3), (2, 3)]:
    print(f"{shape!s:>6}: {shapes.sum_to(dy, shape).tolist()}")
source.show(shapes.sum_to)

# %% [markdown]
# Stretching and summing belong together so closely that one identity holds for all $b$ and $dy$,
# whatever they are. Take the sum of all products of `dy` with the stretched $b$, and pull out $b_j$, which
# does not depend on $i$:
#
# $$\begin{aligned}
# \langle dy, \text{stretched } b\rangle &= \sum_{i}\sum_{j} dy_{ij}\,b_j\\
# &= \sum_j \Big(\sum_i dy_{ij}\Big) b_j = \langle \text{summed } dy, b\rangle
# \end{aligned}$$
#
# It can be read in both directions, so there is a second rule in it: *the gradient of a sum is a broadcast.*
# What was summed going forward is copied coming back, since every element that went into the sum raises it
# equally.
#
# You have met the place where this is used: `z + bias` in the affine layer. Its `backward` ends with
# `sum_to(dz, bias.shape)`, and handgrad's proof, which measures every gradient along random directions,
# says whether that is right. (How `dx` and `dweight` are derived is for a later lesson.)

# %%
dy, b = rng.normal(size=(4, 5, 6)), rng.normal(size=(5, 1))
stretched, summed = np.sum(dy * b), np.sum(shapes.sum_to(dy, b.shape) * b)
print(f"the identity: b stretched {stretched:.9f}, dy summed {summed:.9f}")
inputs = {"x": rng.normal(size=(2, 3, 5)), "weight": rng.normal(size=(5, 4)), "bias": rng.normal(size=4)}
for proof in gradcheck.check(ops.linear, inputs, rng):
    print(f"{proof.input:>6}: derived {proof.derived:+.9f}  measured {proof.measured:+.9f}")

# %% [markdown]
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: a derivative on paper
#
# Derive $f'(x)$ of $f(x) = \dfrac{1}{1 + x^2}$, on paper, and let the function return it. The judge
# measures the slope of $f$.


# %% tags=["exercise"]
def slope_of_bump(x):
    return ...


# %% tags=["check"]
def bump(x):
    return 1 / (1 + x**2)


def measured_slope(x):
    return (bump(x + 6e-6) - bump(x - 6e-6)) / 1.2e-5


exercise.function(slope_of_bump, measured_slope, -2.0, 0.0, 0.5, 3.0)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Give the inside a name: with $u = 1 + x^2$ the function is $1/u$. How much does $u$ change when $x$ rises a
# little, and how much does $1/u$ change when $u$ does?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The secant of “The slope at a point” gives both slopes. For the outer function it is
# $\big(\tfrac{1}{u+k} - \tfrac1u\big)/k = -\tfrac{1}{u\,(u+k)}$ with a small $k$; the slope by $x$ is the
# product of the outer and the inner slope.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# When $x$ rises by a small $h$, $u$ rises by about $k = 2xh$, and $1/u$ changes by about $-k/u^2$. Insert the
# first into the second, divide by $h$ and replace $u$. As a check, to the right of 0 the bump falls, so the
# slope there is negative.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# With $u = 1 + x^2$ a small $h$ moves $u$ by $k \approx 2xh$, and $k$ moves $1/u$ by
# $\frac1{u+k}-\frac1u = \frac{-k}{u(u+k)} \approx -k/u^2$. Both together, divided by $h$:
# $-2x/(1+x^2)^2$. (Lesson 5 makes a rule of that, the chain rule.)
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def slope_of_bump(x):
    return -2 * x / (1 + x**2) ** 2


exercise.function(slope_of_bump, measured_slope, -2.0, 0.0, 0.5, 3.0)


# %% [markdown]
# ### Exercise 2: measure a gradient
#
# Write central differences yourself, for a function `f` that takes an array `x` of any length and returns a
# number. Move one coordinate at a time, by `h` to either side. Return the gradient, an array as long as `x`.


# %% tags=["exercise"]
def measured_gradient(f, x, h=6e-6):
    return ...


# %% tags=["check"]
def judge_gradient(answer):
    def f(x):
        return np.sum(np.sin(x)) * x[0]

    return exercise.function(
        answer,
        descent_gradient,
        (f, np.array([0.3, 1.0])),
        (f, np.array([2.0, -1.0, 0.5])),
        (descent.two_valleys, point),
    )


def descent_gradient(f, x):
    return descent.central_differences(f, x)


judge_gradient(measured_gradient)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Use the centred formula of “Measuring on both sides” once for each coordinate. Which coordinates must stay
# where they are while one is measured?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For each $i$, evaluate `f` at two points that differ from `x` only in coordinate $i$, one by $+h$ and one by
# $-h$. Divide the difference of the two values by the distance between the two points, and collect the
# results in an array.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In a loop over `i`, make `step = np.zeros(len(x))` and set `step[i] = h`. The entry for `i` is
# `(f(x + step) - f(x - step)) / (2 * h)`; the sums are new arrays, so `x` itself stays as it is.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# A row of the identity matrix, times $h$, is a step along one coordinate.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def measured_gradient(f, x, h=6e-6):
    steps = h * np.eye(len(x))
    return np.array([(f(x + step) - f(x - step)) / (2 * h) for step in steps])


judge_gradient(measured_gradient)

# %% [markdown]
# ### Exercise 3: when half the digits are gone
#
# Networks run in float32, whose $\epsilon$ is about $1.2\cdot10^{-7}$. Which step $h$, to the nearest power
# of ten, measures the slope of $e^x$ at 1 best *in float32*? Estimate it first, from $\epsilon^{1/3}$. Write
# it as a number, such as `1e-5`.

# %% tags=["exercise"]
best_step = ...


# %% tags=["check"]
def error_in_float32(h):
    x, h = np.float32(1.0), np.float32(h)
    return abs((np.exp(x + h) - np.exp(x - h)) / (np.float32(2) * h) - np.e)


def best_of_all():
    steps = [10.0**power for power in range(-8, 0)]
    return min(steps, key=error_in_float32)


exercise.value(best_step, best_of_all)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# In “Measuring on both sides” two errors compete: one shrinks with $h$, the other grows as $h$ shrinks. What
# does the second depend on that float32 changes?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The errors $h^2$ and $\epsilon/h$ are equal at $h = \epsilon^{1/3}$. Insert the $\epsilon$ of float32, which
# is much larger than that of float64, and round the result to a power of ten.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Write $1.2\cdot10^{-7}$ as $120\cdot10^{-9}$; its cube root is nearly $5$ times that of $10^{-9}$. Powers of
# ten are compared by ratio, so the border between two neighbours is at $\sqrt{10} \approx 3.2$ times the
# smaller one.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $\epsilon^{1/3} \approx 5\cdot10^{-3}$, so a hundredth; and even so only four digits are
# right. That is why handgrad proves its gradients in float64, and trains in float32.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
best_step = 0.01
exercise.value(best_step, best_of_all)

# %% [markdown]
# ### Exercise 4: a gradient of your own
#
# An affine layer's bias is a row. Some networks add a value to every *position* as well, which is a column:
#
# $$y_{tj} = x_{tj} + r_j + c_t,$$
#
# where $x$ has the shape $(T, D)$, the row $r$ $(D,)$ and the column $c$ $(T, 1)$. Given `dy` $(T, D)$,
# derive the gradients of all three. Each has the shape of the array that it belongs to. (`saved` is `None`:
# you need nothing from the forward.) The judge is the proof that handgrad runs on its own ops.


# %% tags=["exercise"]
def add_row_and_column_backward(dy, saved):
    dx, drow, dcolumn = ..., ..., ...
    return dx, drow, dcolumn


# %% tags=["check"]
def add_row_and_column(x, row, column):
    return x + row + column, None


x, row, column = np.ones((4, 3)), np.array([1.0, -2.0, 0.5]), np.ones((4, 1))
added = {"x": x, "row": row, "column": column}
exercise.gradient(add_row_and_column, add_row_and_column_backward, **added)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# “Undoing a broadcast” asks of each number in which elements of the result it occurs. Ask that of one $r_j$,
# one $c_t$ and one $x_{tj}$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Each gradient is the sum of `dy` over the elements of $y$ in which the number occurs: $r_j$ is in $y_{tj}$
# for all $t$, $c_t$ is in $y_{tj}$ for all $j$, and $x_{tj}$ is in one element only. It is a sum, not a mean.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In `dy` the index $t$ runs along axis 0 and $j$ along axis 1, and the axis named in `sum` is the one that
# vanishes. `drow` then has the shape $(D,)$ at once; `dcolumn` has to be $(T, 1)$, so its sum needs
# `keepdims=True`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $x_{tj}$ is used once. $r_j$ is used in every row, so sum over $t$; $c_t$ in every column, so
# sum over $j$, and keep the axis. `shapes.sum_to(dy, shape)` would do both.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def add_row_and_column_backward(dy, saved):
    return dy, dy.sum(axis=0), dy.sum(axis=1, keepdims=True)


exercise.gradient(add_row_and_column, add_row_and_column_backward, **added)

# %% [markdown]
# ## Where next
#
# You know what a gradient is, and can measure one. The next lesson, *Walking downhill*, follows gradients
# step by step to low places, and finds out what can go wrong on the way.
