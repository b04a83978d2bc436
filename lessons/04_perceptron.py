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
# # 4. The perceptron
#
# *After this lesson you can teach one neuron by hand, see its weights as a line, prove that its mistakes come
# to an end, and show by a certificate that no line exists where it fails.*
#
# How can a machine learn if all that it is ever told is *right* or *wrong*? There is no slope in "right" to
# walk down. Frank Rosenblatt's answer ("The perceptron", 1958) is a rule that fits in one line: after a
# mistake, add the example to the weights. Why should that work, how long does it take, and what can it never
# learn? For one neuron all three questions have complete answers, and this lesson proves them.

# %%
import functools
import itertools
import textwrap

import numpy as np
from sklearn.linear_model import Perceptron

from handgrad.foundations import perceptron
from handgrad.lessons import exercise, knobs, source
from handgrad.lessons.pictures import perceptron_steps as steps
from handgrad.plots import perceptron as plots

# %% [markdown]
# ## Score and threshold
#
# A perceptron weighs its inputs $x = (x_1, x_2, \dots)$, adds a constant $b$, its *bias*, and asks on which
# side of zero the *score* lies:
#
# $$\begin{aligned}
# \text{score} &= w\cdot x + b\\
# &= w_1x_1 + w_2x_2 + \dots + b\\[0.5em]
# \hat y &= \begin{cases}1 & \text{score} > 0\\ 0 & \text{else}\end{cases}
# \end{aligned}$$
#
# $\hat y$ is its *prediction*: class 1, or class 0.
#
# The function AND of two inputs is 1 where both are 1. With $w = (2, 2)$ and $b = -3$ a perceptron computes
# it, as you can check in your head:

# %%
inputs = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
w, b = np.array([2, 2]), -3

for x in inputs:
    print(f"x = {x}   score = {w @ x + b:2}   prediction = {int(w @ x + b > 0)}")

# %% [markdown]
# ## The weights stand on a line
#
# Where the score is exactly zero, the answer changes. With two inputs these points form a straight line; with
# three a plane, and so on. If $p$ and $q$ both lie on it, then
#
# $$\begin{aligned}
# w\cdot(p - q) &= (w\cdot p + b) - (w\cdot q + b)\\
# &= 0 - 0 = 0,
# \end{aligned}$$
#
# and $p - q$ points along the line. So $w$ is at a right angle to it: it is the line's *normal*, and it
# points to the side where the score is positive. Now take any $x$, let $p$ be the nearest point on the line,
# and $d$ the distance, positive on the side of $w$. Then $x = p + d\,w/|w|$, and
#
# $$w\cdot x + b = \underbrace{w\cdot p + b}_{0} + d\,\frac{w\cdot w}{|w|} = d\,|w|.$$
#
# Solved for the distance:
#
# $$d = \frac{w\cdot x + b}{|w|}$$
#
# The score is the distance from the line, measured in units of $1/|w|$. The origin has the score $b$. Turn
# both knobs: one rotates the line, the other shifts it.


# %%
def line(angle, bias):
    turn = np.radians(angle)
    return steps.geometry([2 * np.cos(turn), 2 * np.sin(turn)], bias, point=[2.0, 1.0])


knobs.turn(line, angle=[0, 30, 60, 90, 120], bias=[-2.0, 0.0, 2.0])

# %% [markdown]
# ## The rule
#
# Rosenblatt's rule goes through the rows of examples again and again. If a row is right, nothing happens.
# After a mistake the row is added to the weights if its label is 1, and subtracted if it is 0; the bias goes
# up or down by 1. With the sign $y = 1$ for label 1 and $y = -1$ for label 0:
#
# $$w \leftarrow w + y\,x,\qquad b \leftarrow b + y$$
#
# Two small tricks make this shorter. The bias is the weight of an input that is always 1, so we put both into
# one vector $v = (w, b)$ and extend every row to $(x, 1)$. And we multiply each row with its sign, once and
# for all: $r = y\,(x, 1)$ is the *signed row*. A row is right if $v\cdot r > 0$, whatever its label was, and
# the whole rule is
#
# $$\text{if } v\cdot r \le 0:\ \ v \leftarrow v + r .$$
#
# A score of exactly zero counts as a mistake, for either label: on the line is on neither side. A learning
# rate in front of $r$ would change nothing: from zero weights, it makes $v$ longer or shorter all the way,
# and leaves the sign of every product as it is.


# %%
def signed(inputs, labels):
    """The rows (x, 1), times 1 where the label is 1, and times -1 where it is 0."""
    signs = np.where(np.asarray(labels) > 0, 1, -1)
    return signs[:, None] * np.column_stack([inputs, np.ones(len(inputs), dtype=int)])


def learn(rows, max_passes=1000):
    """The weights before the first update and after each, and the number of the row that caused it."""
    walk, mistaken = [np.zeros_like(rows[0])], []
    for _ in range(max_passes):
        made_before = len(mistaken)
        for number, row in enumerate(rows):
            if walk[-1] @ row <= 0:
                walk.append(walk[-1] + row)
                mistaken.append(number)
        if len(mistaken) == made_before:  # a whole pass without a mistake
            break
    return np.array(walk), mistaken


# %% [markdown]
# Now AND, from zero weights. Follow the first lines of the table with a pencil; the numbers stay small.

# %%
labels = np.array([0, 0, 0, 1])
rows = signed(inputs, labels)
walk, mistaken = learn(rows)
print("update    row  label  score   w1  w2   b")
for n, number in enumerate(mistaken, start=1):
    x, label = inputs[number], labels[number]
    score = walk[n - 1][:2] @ x + walk[n - 1][2]
    w1, w2, b = walk[n]
    print(f"{n:6}  {x}  {label:5}  {score:5}   {w1:2}  {w2:2}  {b:2}")

# %% [markdown]
# Eighteen updates, and every row is right: $w = (3, 2)$, $b = -4$. The walk is no straight way. Update 7
# sends the line far off to the right, so that all four points are class 0, to please the row $(1, 0)$; the
# next update brings it back for $(1, 1)$. Step through it. The ring is the row that was mistaken, the dashed
# line is where the line was before.


# %%
def after(update):
    return steps.after_update(inputs, labels, walk, mistaken, update)


knobs.turn(after, update=list(range(len(walk))))

# %% [markdown]
# Is our `learn` right? The library's perceptron follows the same rule, in whole numbers, so that no rounding
# can change what it finds; and as an outside judge there is that of scikit-learn, which we ask to keep the
# order of the rows. All three should arrive at the same line. Below is the library's pass over the rows.

# %%
library = perceptron.train(inputs, labels)
judge = Perceptron(shuffle=False, tol=None, max_iter=20).fit(inputs, labels)
print("ours:        ", *walk[-1])
print("the library: ", *library.weights, library.bias, "  mistakes in each pass:", library.n_mistakes)
print("scikit-learn:", *judge.coef_[0], *judge.intercept_)
source.show(perceptron._epoch)

# %% [markdown]
# ## Why a step helps
#
# Let a row $r$ be mistaken, so $v\cdot r \le 0$. After the update its own product is
#
# $$\begin{aligned}
# (v + r)\cdot r &= v\cdot r + r\cdot r\\
# &= v\cdot r + |x|^2 + 1 .
# \end{aligned}$$
#
# It grows by $|r|^2$, which is never less than 1: the row moves towards its right side. For a missed
# positive, $w\cdot x$ grows by $x\cdot x$, and the bias adds 1. One step need not be enough: before update 8
# the row $(1,1)$ has the score $-2$; the step adds 3, and it has passed. Had it been at $-5$, it would have
# taken two.
#
# But other rows move too, by $r\cdot r'$, and that may be the wrong way. The table has every row's product
# after the first updates: positive is right. What one update repairs, the next may break.

# %%
print("update  (0,0) (0,1) (1,0) (1,1)")
for n, v in enumerate(walk[:6]):
    products = "".join(f"{product:6}" for product in rows @ v)
    print(f"{n:6} {products}  {np.sum(rows @ v > 0)} right")

# %% [markdown]
# After update 3 all four *predictions* are right: the scores are negative, or zero, for the three rows of
# class 0, and positive for $(1, 1)$. Two rows have the product 0, though: their points lie exactly on the
# line. The rule wants every point strictly on its side, so it goes on. (Had it stopped at predictions, a
# change of the last digit of a weight could have turned an answer over.)
#
# So it is not clear at all that this ever ends. It could go round in circles, repairing and breaking. That it
# does end is a theorem.
#
# ## It ends
#
# Suppose that *some* vector separates the rows: there is a $v^*$, of length 1, with
# $v^*\cdot r \ge \gamma > 0$ for every signed row. The number $\gamma$ is its *margin*. Let $R$ be the length
# of the longest row. Novikoff ("On convergence proofs for perceptrons", 1962) follows two numbers during the
# walk from $v_0 = 0$ to $v_M$, where it stands after $M$ mistakes.
#
# **How far $v$ has come along $v^*$.** Each update adds a row, and so at least $\gamma$:
#
# $$\begin{aligned}
# v_M\cdot v^* &= v_{M-1}\cdot v^* + r\cdot v^*\\
# &\ge v_{M-1}\cdot v^* + \gamma .
# \end{aligned}$$
#
# After $M$ of them, $v_M\cdot v^* \ge M\gamma$.
#
# **How long $v$ is.** Updates are made only at mistakes, where $v\cdot r \le 0$:
#
# $$\begin{aligned}
# |v_M|^2 &= |v_{M-1}|^2 + 2\,\underbrace{v_{M-1}\cdot r}_{\le\,0} + |r|^2\\
# &\le |v_{M-1}|^2 + R^2 .
# \end{aligned}$$
#
# After $M$ of them, $|v_M|^2 \le M R^2$.
#
# No vector reaches farther along a direction than it is long, $v\cdot v^* \le |v|$. Both together:
#
# $$M\gamma \;\le\; v_M\cdot v^* \;\le\; |v_M| \;\le\; \sqrt M\,R .$$
#
# Divide the two ends by $\gamma\sqrt M$, and square:
#
# $$M \le \frac{R^2}{\gamma^2}$$
#
# Progress grows like $M$, but length only like $\sqrt M$, and at some $M$ there is no room left between them.
# Nothing in this depends on the order of the rows or on how many there are, only on how wide the gap is,
# compared with the rows.
#
# Any separating vector gives a bound. For AND we know two: the one that was learned, and $(2, 2, -3)$. With
# the second as $v^*$ the proof is also a picture: what the run did stays between the two dashed bounds, and
# it cannot go on beyond the point where they cross.


# %%
def bound(rows, v):
    """Novikoff's bound with the direction of v, which must separate the signed rows."""
    gamma = np.min(rows @ v) / np.linalg.norm(v)
    return np.max(np.sum(rows**2, axis=1)) / gamma**2


print(f"with (3, 2, -4): at most {bound(rows, walk[-1]):.1f} mistakes")
print(f"with (2, 2, -3): at most {bound(rows, np.array([2, 2, -3])):.1f} mistakes")
print(f"made:                    {len(mistaken)}")
steps.squeeze(walk, rows, np.array([2, 2, -3]))

# %% [markdown]
# To see the theorem as a law, let us make sixty sets of random points, each with a random line and a gap of
# its own, from wide to narrow, and count.


# %%
def random_rows(rng):
    """Signed rows (x, 1), none nearer than a random gap to a random plane, and the plane's normal."""
    v = rng.normal(size=3)
    v /= np.linalg.norm(v)
    rows = np.column_stack([rng.uniform(-1, 1, size=(400, 2)), np.ones(400)])
    distances = rows @ v
    apart = np.abs(distances) > 10 ** rng.uniform(-2, -0.4)
    return (np.sign(distances)[:, None] * rows)[apart], v


rng = np.random.default_rng(0)
sets = [random_rows(rng) for _ in range(60)]
bounds = np.array([bound(rows, v) for rows, v in sets])
made = np.array([len(learn(rows)[1]) for rows, _ in sets])
print(np.sum(made <= bounds), "of 60 runs kept the bound")
steps.mistakes_and_bounds(bounds, made)

# %% [markdown]
# Narrow gaps take longer, and no run is beyond the bound. Most are far below it: it is a promise about the
# worst case. The worst case exists, though, and Exercise 2 asks you to find it.
#
# ## What the bias is for
#
# Leave the bias out, and the line is $w\cdot x = 0$: it must pass through the origin, whatever the weights
# are. AND then asks for three things at once,
#
# $$w_2 \le 0,\qquad w_1 \le 0,\qquad w_1 + w_2 > 0,$$
#
# of which the first two contradict the third. Which functions remain? There are $2^4 = 16$ functions of two
# inputs that are 0 or 1, one for each way to fill the four rows of a table. The cell tries all whole weights
# from $-5$ to 5, without a bias and with one, and then draws all sixteen as the perceptron learns them.

# %%
numbers = range(-5, 6)
tried = np.array(list(itertools.product(numbers, numbers, numbers)))
answers = tried @ np.column_stack([inputs, np.ones(4, dtype=int)]).T > 0
found = {
    "without a bias": {tuple(row) for row in answers[tried[:, 2] == 0]},
    "with a bias": {tuple(row) for row in answers},
}
for way, tables in found.items():
    names = [f.name for f in perceptron.boolean_functions() if tuple(f.labels > 0) in tables]
    print(textwrap.fill(f"{way}, {len(names)} of 16: {', '.join(names)}", 90), end="\n\n")
plots.boolean_functions()

# %% [markdown]
# Without a bias the score of $(0, 0)$ is 0, so all eight functions that are 1 there are lost at once, and XOR
# and AND are the other two. With a bias, two of the sixteen are still missing: XOR, which is 1 where exactly
# one input is 1, and XNOR, its opposite. Might larger weights do it, or fractions?
#
# ## Why not XOR
#
# Follow the rule on XOR, with all four steps of the first pass:

# %%
xor = np.array([0, 1, 1, 0])
xor_rows = signed(inputs, xor)
xor_walk, _ = learn(xor_rows, max_passes=1)
for row, v in zip(xor_rows, xor_walk[1:], strict=True):
    print(f"plus the row {row!s:>10}  gives {v!s:>10}")

# %% [markdown]
# Every row was mistaken, and at the end of the pass the weights are back at zero. The next pass will be the
# same, and the one after it: the perceptron goes round in a circle for ever. And the circle is more than bad
# luck. Four steps that lead back to the start add up to nothing,
#
# $$1\cdot r_1 + 1\cdot r_2 + 1\cdot r_3 + 1\cdot r_4 = 0 ,$$
#
# and that is a proof that *no* weights exist. For if some $v$ had $v\cdot r_i > 0$ for all four, then also
#
# $$\begin{aligned}
# 0 &< v\cdot r_1 + v\cdot r_2 + v\cdot r_3 + v\cdot r_4\\
# &= v\cdot(r_1 + r_2 + r_3 + r_4)\\
# &= v\cdot 0 = 0 ,
# \end{aligned}$$
#
# which is absurd. The multipliers $(1, 1, 1, 1)$ are a *certificate*: whoever doubts can add four rows. In
# general any $\lambda_i \ge 0$, not all zero, with $\sum_i\lambda_i r_i = 0$ will do, by the same lines.
#
# The certificate has a picture. Sort the sum by class: the last coordinate says that the $\lambda$ of both
# classes have the same sum, and the others say that the weighted means of the two classes are *the same
# point*. If a line had class 1 on one side, all mixtures of its points would be on that side; likewise class
# 0. The common point would have to be on both.

# %%
result = perceptron.train(inputs, xor)
print(textwrap.fill(result.explanation, 90))
print("certificate:", result.certificate)
print("sum of the signed rows, exactly:", *perceptron.certificate_sum(inputs, xor, result.certificate))
plots.decision_line(inputs, xor, result, title="XOR: (½, ½) is the middle of both classes")

# %% [markdown]
# This is no accident of XOR. A theorem of Gordan (1873) says that of two things exactly one is always there:
# a $v$ that is positive on every row, or a certificate. (That they cannot both be there is what we have
# proved.) And the perceptron finds whichever it is: Block and Levin (1970) proved that its weights stay
# bounded even where it fails, so on whole numbers they must return some day to a place where they were, and
# the mistakes in between are the multipliers. That is how the library finds them.
#
# So every question "can a line do it?" gets an answer with a proof. Let us ask it for all 256 functions of
# *three* inputs, and check every certificate by its sum.

# %%
corners = np.array(list(itertools.product((0, 1), repeat=3)))
tables = list(itertools.product((0, 1), repeat=8))
results = [perceptron.train(corners, table) for table in tables]
impossible = [(t, r.certificate) for t, r in zip(tables, results, strict=True) if not r.separable]
sums = [perceptron.certificate_sum(corners, table, certificate) for table, certificate in impossible]
print(len(tables) - len(impossible), "are learned;", len(impossible), "are proved impossible")
print("all certificates add up to zero:", not np.any(sums))

# %% [markdown]
# Of two inputs 14 of 16, of three only 104 of 256, and the share goes on shrinking. Minsky and Papert's book
# *Perceptrons* (1969) is about such limits. The way out, more than one layer of neurons, was known; a rule to
# train them became common knowledge only with Rumelhart, Hinton and Williams in 1986.
#
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: a step that is long enough
#
# One update need not repair its row. Write an update that always does: to a mistaken row it takes a step
# along $r$ that is exactly so long that the new product $v\cdot r$ is 1; where the product is positive it
# leaves $v$ alone. Return the new $v$. Derive the length of the step first. (The judge looks at two numbers:
# the new product, and how far the step strays from the direction of $r$.)


# %% tags=["exercise"]
def long_enough(v, r):
    return ...


# %% tags=["check"]
def judge_steps(answer):
    @functools.wraps(answer)
    def product_and_side_step(v, r):
        new = answer(v, r)
        if new is ...:
            return ...
        across = (new - v) - (new - v) @ r / (r @ r) * r  # what is not along r
        return new @ r, np.round(np.linalg.norm(across), 9)

    def wanted(v, r):
        return (v @ r if v @ r > 0 else 1.0), 0.0

    pairs = np.random.default_rng(1).normal(size=(20, 2, 3))
    return exercise.function(product_and_side_step, wanted, *map(tuple, pairs))


judge_steps(long_enough)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section "Why a step helps" computes the product of a row after the step $r$. How does that line change
# if the step is a multiple of $r$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Write the new vector as $v + \eta\,r$ with an unknown number $\eta$, require that its product with $r$ is 1,
# and solve for $\eta$. Do this only where $v\cdot r \le 0$; elsewhere return $v$ itself.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Multiplied out, the condition is $v\cdot r + \eta\,(r\cdot r) = 1$. The gap $1 - v\cdot r$ is not yet
# $\eta$: one whole $r$ raises the product by $r\cdot r$, which need not be 1, so divide the gap by it.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# We want $(v + \eta r)\cdot r = 1$, so $\eta = \dfrac{1 - v\cdot r}{r\cdot r}$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def long_enough(v, r):
    if v @ r > 0:
        return v
    return v + (1 - v @ r) / (r @ r) * r


judge_steps(long_enough)

# %% [markdown]
# ### Exercise 2: the worst case
#
# Find an array of signed rows on which the perceptron makes at least five mistakes, and *exactly* as many as
# the bound $R^2/\gamma^2$ of the best direction allows, and let `worst` be that array. (Here a
# row need not end in 1 or $-1$: choose any numbers, in as many dimensions as you like.) The proof tells you
# where to look: when is each of its inequalities an equality?

# %% tags=["exercise"]
worst = ...


# %% tags=["check"]
def reaches_the_bound(rows):
    rows = np.array(rows, dtype=float)
    steps_taken, mistakes = learn(rows)
    v = steps_taken[-1]  # where the bound is reached, this is along the best direction
    return np.all(rows @ v > 0) and len(mistakes) >= 5 and np.isclose(len(mistakes), bound(rows, v))


exercise.claim(worst, reaches_the_bound, "five or more mistakes, and as many as the bound")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The proof in "It ends" has an inequality for the progress along $v^*$, one for the length of $v$, and one
# that joins the two. What does each of them throw away, and when is that nothing?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Nothing is lost if every mistake has $r\cdot v^* = \gamma$, $v\cdot r = 0$ and $|r| = R$, and if $v$ points
# along $v^*$ at the end. Here $v$ is the sum of the rows added so far: what makes its product with the next
# row zero?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# If all rows are at right angles to each other, each has the product 0 with the sum of those before it, and
# is added once. If they also have the same length $R$, their sum has the same product $R^2$ with every one of
# them. Right angles between $n$ vectors need at least $n$ dimensions.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Length: $|v|^2$ must grow by all of $R^2$ each time, so all rows on which it errs are equally long, and
# $v\cdot r = 0$ at each mistake. Progress: every row must have the same product with $v^*$. Rows that are at
# right angles to each other do both: the rows of the identity matrix. The perceptron adds each once, and
# arrives at $(1, \dots, 1)$; with $n$ rows, $R = 1$ and $\gamma = 1/\sqrt n$, so the bound is $n$.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
worst = np.eye(7)
exercise.claim(worst, reaches_the_bound, "five or more mistakes, and as many as the bound")

# %% [markdown]
# ### Exercise 3: a certificate of your own
#
# Three points of class 1 and one of class 0, as below. Prove that no line separates them: find a multiplier
# for each row, a whole number not below 0, in the order of the rows, so that the signed rows, times their
# multipliers, add up to zero. A sketch helps.

# %% tags=["exercise"]
points = np.array([[0, 0], [4, 0], [0, 4], [1, 1]])
point_labels = np.array([1, 1, 1, 0])
certificate = (..., ..., ..., ...)


# %% tags=["check"]
def proves_it(multipliers):
    if any(multiplier != int(multiplier) for multiplier in multipliers):
        raise ValueError("multipliers are whole numbers here: multiply all of them by the same one")
    total = perceptron.certificate_sum(points, point_labels, multipliers)
    return min(multipliers) >= 0 and max(multipliers) > 0 and not any(total)


exercise.claim(certificate, proves_it, "a sum of signed rows that is zero, with multipliers not below 0")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section "Why not XOR" says what a certificate means for the points: the weighted means of the two
# classes are the same point. Class 0 has only one point here; where does it lie among the three of class 1?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Call the multipliers $\lambda_1, \dots, \lambda_4$. Each of the three coordinates of the signed rows must
# add up to zero, with a minus before $\lambda_4$. This gives an equation for $x_1$, one for $x_2$, and one
# for the 1 at the end of the row, which is easily forgotten.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The equations are $4\lambda_2 = \lambda_4$, $4\lambda_3 = \lambda_4$ and
# $\lambda_1 + \lambda_2 + \lambda_3 = \lambda_4$. Choose a $\lambda_4$ for which the first two have whole
# solutions; the third then gives $\lambda_1$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The point $(1, 1)$ lies inside the triangle of the others, so it is a mixture of them. To get
# each coordinate, a quarter of $(4, 0)$ and a quarter of $(0, 4)$; the half that remains falls to $(0, 0)$.
# Times 4, to have whole numbers: 2, 1, 1, and 4 for the point itself. To see it, add a cell with
# `plots.decision_line(points, point_labels, perceptron.train(points, point_labels))`.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
certificate = (2, 1, 1, 4)
exercise.claim(certificate, proves_it, "a sum of signed rows that is zero, with multipliers not below 0")

# %% [markdown]
# ## Where next
#
# One neuron cannot compute XOR, three can. Lesson 5, *Networks and the chain rule*, builds them by hand, and
# then finds the rule that trains them.
