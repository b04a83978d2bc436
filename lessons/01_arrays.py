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
# # 1. Arrays and broadcasting
#
# *After this lesson you can say which shape comes out of an expression before you run it, write loops over
# rows and columns as single lines, and name the six mistakes that give wrong numbers without an error.*
#
# A transformer reads many texts at once, in each of them many words, and each word is many numbers. Its code
# has hardly a loop all the same: it says `x + bias` and `x @ weight`, and the arrays find out by themselves
# which number meets which. How they do that is a rule short enough for one line, and the source of most
# silent mistakes for those who do not know it. So the course begins with it.

# %%
import timeit

import numpy as np

from handgrad import ops, shapes
from handgrad.lessons import exercise, knobs, source
from handgrad.lessons.pictures import arrays as pictures

# %% [markdown]
# ## Numbers with a shape
#
# An array is a row of numbers in memory, and a *shape*: how to count through them. The shape $(2, 3, 4)$ has
# three *axes*: 2 blocks, in each of them 3 rows, in each row 4 numbers. They are numbered from the left,
# beginning with 0, or from the right, beginning with $-1$: the last axis, along which neighbours in memory
# are neighbours, is axis 2 and also axis $-1$.

# %%
texts = np.arange(24.0).reshape(2, 3, 4)
print(texts)
print("shape", texts.shape, " axes", texts.ndim, " numbers", texts.size, " type", texts.dtype)

# %% [markdown]
# handgrad gives its axes letters. `B T D` is: for each text of the batch (`B`), for each position in it
# (`T`), the numbers that describe that position (`D`). So the array above may be read as 2 texts of 3 words,
# each word 4 numbers. The letters are no more than names, but they are the same names everywhere.
#
# ## Taking a part
#
# An index has one entry for each axis, from the left; what is left out is taken whole. An entry does one of
# four things to its axis:
#
# - an integer takes one place, and *the axis is gone*;
# - a slice `a:b` takes a part, and the axis stays, shorter;
# - `None` puts in a new axis of size 1;
# - `...` stands for as many whole axes as are needed there.
#
# Each time before you move the knob, say which cells will be painted, and which shape they have.

# %%
indices = {
    "texts[1]": np.s_[1],
    "texts[:, 1]": np.s_[:, 1],
    "texts[..., -1]": np.s_[..., -1],
    "texts[:, 1:, :2]": np.s_[:, 1:, :2],
    "texts[0, :, None]": np.s_[0, :, None],
    "texts[texts % 5 == 0]": texts % 5 == 0,
}


def taken(index):
    part = texts[indices[index]]
    return pictures.selection(texts, indices[index], title=f"{index}   shape {part.shape}")


knobs.turn(taken, index=list(indices))

# %% [markdown]
# The last one is a *mask*: an array of true and false, of the same shape. It takes the numbers where it is
# true, wherever they are, so what comes out is one row of them.
#
# ## Element by element
#
# Arithmetic between arrays of one shape pairs the numbers that stand in the same place, and so does every
# function of one number. No sum is taken, nothing moves: `a * b` is *not* the product of matrices.

# %%
a = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
b = np.array([[1.0, 0.0, 1.0], [2.0, 2.0, 0.5]])
print("a + b =\n", a + b)
print("a * b =\n", a * b)
print("a > 2 =\n", a > 2)

# %% [markdown]
# ## Sums along an axis
#
# To sum along axis 0 means: let the index of axis 0 run, and add up.
#
# $$\texttt{a.sum(axis=0)}_j = \sum_i a_{ij},\qquad \texttt{a.sum(axis=1)}_i = \sum_j a_{ij}$$
#
# *The axis that is named is the one that goes.* By hand for the matrix above: the columns sum to
# $1+4=5$, $2+5=7$, $3+6=9$, and the rows to 6 and 15. A mean is the sum divided by the size of the axis that
# went, so the means of the rows are 2 and 5.

# %%
pictures.sums(a, name="a")

# %% [markdown]
# With `keepdims=True` the axis stays, with size 1; without it, the same sums come in the shapes $(2,)$ and
# $(3,)$. That looks like a formality. It is not: the kept sums stand *beside* the rows and *below* the
# columns that they belong to, and all that follows lives on that.
#
# ## Broadcasting: finding the rule
#
# What if two shapes differ? Sometimes there is a result and sometimes an error. Let us ask for some pairs,
# and find the rule from the answers.


# %%
def outcome(first, second):
    try:
        return (np.zeros(first) + np.zeros(second)).shape
    except ValueError:
        return "does not fit"


for first, second in [
    ((2, 3), ()), ((2, 3), (3,)), ((2, 3), (2,)), ((2, 3), (2, 1)), ((2, 1), (3,)), ((4, 2, 3), (2, 1)),
    ((4, 2, 3), (4, 3)),
]:  # fmt: skip
    print(f"{first!s:>10} and {second!s:<7} -> {outcome(first, second)}")

# %% [markdown]
# - A single number, of shape `()`, fits everything: it is used in every place.
# - $(3,)$ fits $(2, 3)$, and $(2,)$ does not. So shapes are compared *from the right*: the 3 stands under
#   the 3, and an axis missing on the left does no harm.
# - $(2, 1)$ fits $(2, 3)$. So a size of 1 agrees with every size.
# - $(2, 1)$ and $(3,)$ give $(2, 3)$, which neither of them was: both are stretched.
# - $(4, 2, 3)$ and $(4, 3)$ fail at the middle axis, where 2 meets 4. That the 4 would fit elsewhere does not
#   count: nothing is moved to make things fit.
#
# That is the whole rule. **Align the shapes at the right. On each axis the sizes must be equal, unless one of
# them is 1 or missing: that array is stretched to the size of the other.** Per axis, with a missing one
# counted as 1:
#
# $$\text{size}(m, n) = \begin{cases} m & \text{if } n = 1 \text{ or } n = m\\ n & \text{if } m = 1\\
# \text{none} & \text{else}\end{cases}$$
#
# As a picture, one column for each axis. Dashed boxes are stretched.


# %%
def aligned(pair):
    return pictures.broadcast(*pair)


knobs.turn(
    aligned,
    pair=[
        ((2, 3), (3,)),
        ((2, 3), (2,)),
        ((2, 3), (2, 1)),
        ((4, 1, 3), (5, 1)),
        ((4, 2, 3), (4, 3)),
        ((2, 8, 5, 5), (5, 5)),
        ((2, 1, 1), (3, 1), (4,)),
    ],
)

# %% [markdown]
# Is it really the whole rule? Written down as code it should agree with NumPy on every pair of shapes. We ask
# for 2,000 random ones.


# %%
def broadcast_shape(first, second):
    n_axes = max(len(first), len(second))
    first, second = ((1,) * (n_axes - len(shape)) + shape for shape in (first, second))
    axes = list(zip(first, second, strict=True))
    fits = all(m == n or 1 in (m, n) for m, n in axes)
    return tuple(n if m == 1 else m for m, n in axes) if fits else "does not fit"


rng = np.random.default_rng(0)
pairs = [[tuple(rng.integers(1, 4, size=rng.integers(0, 4))) for _ in range(2)] for _ in range(2000)]
answers = [(broadcast_shape(*pair), outcome(*pair)) for pair in pairs]
print(sum(ours == numpys for ours, numpys in answers), "of", len(answers), "agree")
print(sum(numpys == "does not fit" for _, numpys in answers), "of them do not fit")

# %% [markdown]
# And what is in the result? Along a stretched axis the same number is read again and again. Here a column
# meets a row, and each meets all of the other: a table of sums.

# %%
column, row = np.array([[0.0], [10.0]]), np.array([1.0, 2.0, 3.0])
pictures.stretch(column, row)

# %% [markdown]
# The dashed copies are never made: no memory is filled with them, the stored number is read again.
#
# ## Products of matrices
#
# A product of matrices pairs every row of one with every column of the other, multiplies number by number,
# and sums. In indices, with $K$ as the size that both share:
#
# $$(ab)_{ij} = \sum_{k=1}^{K} a_{ik}\,b_{kj},\qquad (N, K)\ @\ (K, M) \to (N, M)$$
#
# *The axis that both share is summed, and gone.* Choose an element of the result:


# %%
def element(row, column):
    return pictures.product(row=row, column=column)


knobs.turn(element, row=[0, 1], column=[0, 1])

# %% [markdown]
# With what we have, this is no new operation. Put $a$ and $b$ side by side so that the shared axis is in the
# same place, $(N, K, 1)$ and $(1, K, M)$; multiply with broadcasting, which gives $(N, K, M)$; sum along the
# middle. (`@` gets there without writing down all the $N\cdot K\cdot M$ products.)
#
# If there are more than two axes, the last two are the matrices, and all before them are a *batch* of
# matrices, which are multiplied pair by pair, and broadcast by the rule you know. In attention, the queries
# $(B, H, T, K)$ meet the keys, transposed to $(B, H, K, S)$: for every text and every head a table of scores
# $(T, S)$. The letter that occurs in both factors and not in the result is the one that is summed, and
# `np.einsum` lets us write exactly that.

# %%
a = np.array([[1.0, 2.0, 0.0], [3.0, 1.0, 2.0]])
b = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 3.0]])
print("broadcast and summed:", (a[:, :, None] * b[None, :, :]).sum(axis=1).tolist())
print("a @ b:               ", (a @ b).tolist())

B, H, T, S, K = 2, 4, 5, 7, 3
q, k = rng.normal(size=(B, H, T, K)), rng.normal(size=(B, H, S, K))
scores = q @ k.swapaxes(-1, -2)
print("scores", scores.shape)
print("the same by letters:", np.allclose(scores, np.einsum("bhtk,bhsk->bhts", q, k)))

# %% [markdown]
# The layer that occurs most often in a transformer, the *affine* layer, multiplies all rows of a batch with
# one matrix and adds one bias. Here is its forward in handgrad. Read its shapes: `*B M` is any number of axes
# and then $M$, and the bias `N` is stretched along all the others.

# %%
source.show(ops.linear.forward)

# %% [markdown]
# ## Six mistakes
#
# Shapes that do not fit stop the program; that is the harmless kind. The following six run through, and what
# comes out is wrong.
#
# ### 1. A shape of $(n,)$ is taken for a column, or for a row
#
# It is neither: it has one axis. There is nothing to transpose, so `.T` does nothing at all, and `v @ v.T` is
# not the matrix $v v^\top$ but the sum $\langle v, v\rangle$, below $1+4+9+16$.

# %%
v = np.array([1.0, 2.0, 3.0, 4.0])
print("v.T has the shape", v.T.shape)
print("v @ v.T is", v @ v.T)
print("v[:, None] * v has the shape", (v[:, None] * v).shape)

# %% [markdown]
# *Mend it* by saying which you mean: `v[:, None]` is a column, `v[None, :]` a row.
#
# ### 2. A column minus a row
#
# A network gives its predictions as $(n, 1)$, the targets come as $(n,)$. The predictions below are perfect,
# so their mean squared error ought to be zero.

# %%
target = np.array([1.0, 2.0, 3.0, 4.0])
prediction = target[:, None]
error = prediction - target
print("mean squared error", np.mean(error**2), " of an error of shape", error.shape)
print("mended", np.mean((prediction - target[:, None]) ** 2))

# %% [markdown]
# $(4, 1)$ and $(4,)$ gave $(4, 4)$: every prediction minus every target. Its mean is a number like any other,
# and training would make it smaller, by predicting the mean of all targets everywhere. *Mend it* in the same
# way, so that both have one shape. In handgrad every argument has its shape in
# the signature, and the tests check it.
#
# ### 3. A forgotten `keepdims`
#
# Each row is to be divided by its sum, so that every row sums to 1.

# %%
counts = np.array([[1.0, 1.0, 2.0], [3.0, 3.0, 3.0], [0.0, 5.0, 5.0]])
print("rows of the wrong one sum to", (counts / counts.sum(axis=-1)).sum(axis=-1))
print("rows of the mended one to   ", (counts / counts.sum(axis=-1, keepdims=True)).sum(axis=-1))

# %% [markdown]
# The sums have the shape $(3,)$, and a missing axis is put in *at the left*: they become a row, and column
# $j$ is divided by the sum of row $j$. With a matrix of 3 by 4 there would have been an error; that this one
# is square hid it. *Mend it* with `keepdims=True` whenever a sum or mean goes back to where it came from.
#
# ### 4. Writing into a view
#
# A slice is no copy. It is a *view*: the same memory, counted differently.

# %%
weights = np.zeros((2, 3))
first_row = weights[0]
first_row += 1.0
print("a row was taken and changed; weights is now\n", weights)
chosen = weights[[0]]
chosen += 1.0
print("a slice shares memory:", np.shares_memory(weights, first_row))
print("a list of indices does:", np.shares_memory(weights, chosen))

# %% [markdown]
# `+=`, `*=` and `x[...] = ...` write into the memory that is there; `x = x + 1` makes a new array. Indexing
# with a list or a mask copies. *Mend it* with `.copy()` where you mean a copy, or by not writing in place at
# all: no op of handgrad ever writes to its inputs.
#
# ### 5. The type that the numbers happened to have
#
# An array's type is fixed when it is made, and from `[1, 2, 3]` it is that of integers.

# %%
whole = np.array([1, 2, 3])
whole[0] = 0.7
print("0.7 written into integers:", whole)
print("7 // 2 =", 7 // 2, " -7 // 2 =", -7 // 2, " 7 / 2 =", 7 / 2)
pixels = np.array([200, 100], dtype=np.uint8)
print("two pixels of 8 bits, added:", pixels[:1] + pixels[1:])

# %% [markdown]
# The 0.7 was cut off, `//` rounds downwards, and 300 does not fit into 8 bits, so 256 of it are lost.
# *Mend it* by writing `1.0` where you mean a real number, and by `.astype(np.float32)` where data come in.
#
# ### 6. `reshape` where a transpose was meant
#
# Both turn $(2, 3)$ into $(3, 2)$. A transpose exchanges the axes: rows become columns. A reshape leaves the
# numbers in their order and only counts them off anew.

# %%
pictures.reshape_or_transpose(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))

# %% [markdown]
# In a transformer this mistake has a place of its own. Each position's $D$ numbers are cut into $H$ heads of
# $K = D/H$, and the heads are to stand in front of the positions: $(B, T, D) \to (B, H, T, K)$. One reshape
# can produce that shape, and it would mix the words. Below, the first digit of a number is its position, the
# second its place in the vector: every row of a head must keep one first digit.

# %%
words = 10.0 * np.arange(1, 4)[:, None] + np.arange(4)
print("three words of four numbers:\n", words)
print("one reshape, head 0:\n", words[None].reshape(1, 2, 3, 2)[0, 0])
print("split_heads, head 0:\n", shapes.split_heads(words[None], n_heads=2)[0, 0])
source.show(shapes.split_heads)

# %% [markdown]
# First the last axis is cut in two, which a reshape may do, since neighbours stay neighbours; then the axes
# are exchanged. *Mend it* by asking whether the numbers, counted through from first to last, are to come in
# another order: if so, no reshape can do it.
#
# ## Why not a loop?
#
# Every line above could have been loops. Two reasons speak against it. A line without indices has no index
# to get wrong. And a loop in Python decides anew for each number what to do with it, while an operation on
# arrays decides once. How much that is depends on your computer, so let it say:


# %%
def product_with_loops(a, b):
    result = np.zeros((len(a), b.shape[1]))
    for i in range(len(a)):
        for j in range(b.shape[1]):
            for k in range(len(b)):
                result[i, j] += a[i, k] * b[k, j]
    return result


left, right = rng.normal(size=(30, 40)), rng.normal(size=(40, 50))
slow = min(timeit.repeat(lambda: product_with_loops(left, right), number=1, repeat=3))
fast = min(timeit.repeat(lambda: left @ right, number=100, repeat=5)) / 100
print("the same numbers:", np.allclose(product_with_loops(left, right), left @ right))
print(f"with loops {1e3 * slow:.1f} ms, with @ {1e3 * fast:.4f} ms: {slow / fast:,.0f} times as fast")

# %% [markdown]
# ## How many digits
#
# One more thing belongs to an array: how precisely its numbers are written. A float64 takes 8 bytes and has
# about 16 digits, a float32 takes 4 and has about 7. The digits are *relative*: between a number and the next
# one that can be written there is a gap, and the gap grows with the number.

# %%
pictures.gaps_between_floats()

# %% [markdown]
# The gap at 1 is called $\epsilon$: $2^{-52}$ for float64, $2^{-23}$ for float32. At $2^{24}$ the staircase
# of float32 climbs above the dotted line: from there on the gap is 2, and adding 1 does nothing. So it
# matters in which order one sums: adding a million tenths one by one brings each of them to a sum that is
# already large, where it loses digits. NumPy's `sum` adds within small groups, and then the groups, so that
# numbers of like size meet.
#
# Networks run in float32: half the bytes take about half the time to read. handgrad's proofs are made in
# float64, since a slip must not hide in rounding. A formula has to keep the type that it is given, and one
# way to lose it is a number that is itself a NumPy float64, such as `np.sqrt(4.0)` or an element of a float64
# array: it makes everything float64 that it touches. A number of Python's own does not.

# %%
for name in ("float32", "float64"):
    big = np.full(1, 2**24, dtype=name)
    print(f"{name}: eps {np.finfo(name).eps:.2g}, 2^24 + 1 - 2^24 = {(big + 1 - big)[0]:g}")
tenths = np.full(1_000_000, 0.1, dtype=np.float32)
print("a million tenths: one by one", np.cumsum(tenths)[-1], " in groups", tenths.sum())
print("times 2.0:", (tenths * 2.0).dtype, "  times np.sqrt(4.0):", (tenths * np.sqrt(4.0)).dtype)

# %% [markdown]
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: say the shape
#
# Let `x` have the shape $(8, 5, 16)$, `w` $(16, 3)$, `b` $(3,)$, `m` $(5, 1)$. Write down the shapes of the
# following six, or `"error"`, before you run any of them:
#
# 1. `x @ w + b`
# 2. `x.mean(axis=1)`
# 3. `x - x.mean(axis=1)`
# 4. `x * m`
# 5. `x[:, -1, None] * b[:, None]`
# 6. `x @ x.swapaxes(1, 2)`

# %% tags=["exercise"]
answer = (
    ...,
    ...,
    ...,
    ...,
    ...,
    ...,
)


# %% tags=["check"]
def shape_or_error(expression):
    x, w, b, m = np.ones((8, 5, 16)), np.ones((16, 3)), np.ones(3), np.ones((5, 1))
    try:
        return expression(x, w, b, m).shape
    except ValueError:
        return "error"


def computed_shapes():
    return [
        shape_or_error(lambda x, w, b, m: x @ w + b),
        shape_or_error(lambda x, w, b, m: x.mean(axis=1)),
        shape_or_error(lambda x, w, b, m: x - x.mean(axis=1)),
        shape_or_error(lambda x, w, b, m: x * m),
        shape_or_error(lambda x, w, b, m: x[:, -1, None] * b[:, None]),
        shape_or_error(lambda x, w, b, m: x @ x.swapaxes(1, 2)),
    ]


exercise.value(answer, computed_shapes)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go from the inside out, and note the shape after each index, mean and product. Each of the six needs only
# “Taking a part”, “Sums along an axis”, “Products of matrices” and the rule of broadcasting.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A product sums the last axis of the left array with the last but one of the right array; both vanish, and
# the axes before them stay. A mean without `keepdims` loses its axis, and only then are the shapes aligned at
# the right.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# For 3, write the shape of 2 under $(8, 5, 16)$, flush right, and compare column by column. For 5, the index
# leaves $(8, 1, 16)$, and `b[:, None]` is a column. For 6, the 8 is a batch of products of $(5, 16)$ with its
# transpose.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# (1) The product replaces 16 by 3, and the bias is stretched. (2) Axis 1 goes. (3) $(8, 16)$
# under $(8, 5, 16)$: 8 meets 5, an error, since `keepdims` is missing. (4) $(5, 1)$ is stretched along the
# first and the last axis. (5) The integer takes axis 1 away and `None` puts a new one in, $(8, 1, 16)$; it
# meets $(3, 1)$. (6) For each of the 8, $(5, 16)$ times $(16, 5)$.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
answer = ((8, 5, 3), (8, 16), "error", (8, 5, 16), (8, 3, 16), (8, 5, 5))
exercise.value(answer, computed_shapes)

# %% [markdown]
# ### Exercise 2: standardize the columns
#
# Shift and scale every column of a matrix so that its mean is 0 and its mean square is 1, without a loop. It
# should work for a transposed matrix in the same way, where the columns are the other axis: let `axis` say
# along which one the mean is taken. Return the new matrix, of the same shape.


# %% tags=["exercise"]
def standardized(x, axis=0):
    return ...


# %% tags=["check"]
def standardized_with_loops(x, axis=0):
    columns = x.T if axis == 0 else x
    done = [[(value - np.mean(c)) / np.std(c) for value in c] for c in columns]
    return np.transpose(done) if axis == 0 else np.array(done)


table = np.array([[1.0, 10.0, -3.0], [2.0, 14.0, 0.0], [6.0, 12.0, 1.0]])
exercise.function(standardized, standardized_with_loops, table, (table, 1), (table[:2], 1))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Each mean must meet the column that it was taken from, and no other. Which shape does it need for that? “A
# forgotten `keepdims`”, the third of the six mistakes, is about this.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Work in two steps, both along `axis`: first subtract the mean; then find the mean square of what is left,
# and from it the number to divide by. Both means must keep their axis.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Dividing a column by $k$ divides its mean square by $k^2$. So if the mean square after the shift is $s$, the
# divisor is $\sqrt{s}$ and not $s$; write both means with `axis=axis, keepdims=True`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Subtract the mean first; then the mean of the squares is what has to become 1, so divide by
# its root. `keepdims=True` makes the same line work for both axes. This is layer normalization without its
# two parameters: there, the axis is the last one.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def standardized(x, axis=0):
    centred = x - x.mean(axis=axis, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=axis, keepdims=True))


exercise.function(standardized, standardized_with_loops, table, (table, 1), (table[:2], 1))

# %% [markdown]
# ### Exercise 3: all distances at once
#
# Given $n$ points as `x` $(n, D)$ and $m$ points as `y` $(m, D)$, return the $(n, m)$ table of their
# distances $\sqrt{\sum_d (x_{id} - y_{jd})^2}$, without a loop.


# %% tags=["exercise"]
def distances(x, y):
    return ...


# %% tags=["check"]
def distances_with_loops(x, y):
    return np.array([[np.sqrt(np.sum((one - other) ** 2)) for other in y] for one in x])


some, others = np.random.default_rng(1).normal(size=(4, 3)), np.random.default_rng(2).normal(size=(4, 3))
exercise.function(distances, distances_with_loops, (some, others), (some[:2], others))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# “Products of matrices” writes a product with broadcasting: it gives both arrays three axes and sums one of
# them. Which three axes does this task have, and which of them is summed?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Make all differences at once, with the shape $(n, m, D)$. For that, `x` needs a new axis where `y` has its
# points, and `y` one where `x` has them; then square, sum along $D$ and take the root.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `x[:, None, :]` puts the points of `x` along axis 0 and leaves axis 1 for those of `y`, which needs its
# `None` in front. After the subtraction, sum the squares with `axis=-1`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The result has the axes $n, m$, and $D$ is summed: so bring $x$ to $(n, 1, D)$, $y$ to
# $(1, m, D)$, and sum along the last one.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def distances(x, y):
    difference = x[:, None, :] - y[None, :, :]
    return np.sqrt((difference**2).sum(axis=-1))


exercise.function(distances, distances_with_loops, (some, others), (some[:2], others))


# %% [markdown]
# ## Where next
#
# You know which number meets which. The next lesson, *Slopes*, is about what a gradient is, and how to
# measure one without deriving anything.
