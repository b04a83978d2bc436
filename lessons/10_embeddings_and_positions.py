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
# # 10. Embeddings and positions
#
# *After this lesson you can turn a text into vectors and derive the gradient of the table they come from,
# show that attention without positions sees a set, and derive why sines, cosines and rotations tell it
# distances.*
#
# Everything in a network is multiplied and added, and a letter can be neither. So the first question of a
# language model is: which numbers stand for a token? And there is a second one, which is easily overlooked.
# Attention, the part of a transformer in which tokens look at each other, does not know in which order they
# came. How does it learn that *dog bites man* is not *man bites dog*? (If you would rather meet attention
# before the cure of its blindness, read lesson 11 first: it needs one line of this one, how
# the gradients of equal rows are summed, and that in an exercise.)

# %%
import numpy as np

from handgrad import gradcheck
from handgrad.lessons import exercise, knobs, mine, source
from handgrad.lessons.pictures import positions as pictures
from handgrad.ops import attention, embedding, learned_position, rope, sinusoidal_position
from handgrad.plots import positions as plots
from handgrad.tokenizer.characters import CharacterTokenizer

# %% [markdown]
# ## From text to numbers
#
# A tokenizer cuts the text into tokens, and gives each kind of token a number, its *id*. Here a token is a
# character, and its id is its place in the alphabet of the text.

# %%
tokenizer = CharacterTokenizer.train(["banana"])
token_ids = tokenizer.encode("banana")
print("alphabet: ", tokenizer.characters)
print("token ids:", token_ids)

# %% [markdown]
# An id is a name, not a quantity: `n` is not twice `b` because 2 is twice 1. So ids are not to be calculated
# with. They select: there is a table $W$ with a row of $D$ numbers for each of the $V$ tokens of the
# vocabulary, and the token with the id $v$ enters the network as row $v$. That row is its *embedding*. At
# first the rows are random. They are learned like every other weight, and tokens that play similar roles tend
# to end up with similar rows.
#
# ## A row of a table is a product
#
# Write each token as a row of zeros with a single one, at the place of its id. This is its *one-hot* row; all
# of them together are the matrix $E$, with $E_{tv} = 1$ where $id_t = v$. Multiplied with the table, a
# one-hot row picks one of its rows and adds nothing to it:
#
# $$y_{td} = \sum_v E_{tv}\,W_{vd} = W_{id_t,\,d},\qquad\text{that is,}\ \ y = E\,W .$$

# %%
weight = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]])
one_hot = np.eye(3)[token_ids]
y, saved = embedding.forward(weight, token_ids)
print("the library takes rows:", y.tolist())
print("the product is the same:", np.array_equal(one_hot @ weight, y))
plots.lookup(weight, token_ids, vocabulary=list(tokenizer.characters))

# %% [markdown]
# Nobody computes the product, since reading a row is so much cheaper. But now we know what an embedding *is*:
# an affine layer without bias on one-hot rows. That saves us a derivation.
#
# ## The gradient goes home
#
# Backward, $dy$ comes in: for each position of the text a row, which says how the loss changes with the
# vector there. $W_{vd}$ is in every $y_{td}$ with the factor $E_{tv}$, so
#
# $$dW_{vd} = \sum_t E_{tv}\,dy_{td} = \sum_{t:\ id_t = v} dy_{td},\qquad\text{that is,}\ \ dW = E^\top dy .$$
#
# Each row of $dy$ goes home to the row of the table that its token came from, and where a token occurs more
# than once, its rows add up. In *banana* the first row of the gradient, that of `a`, is a sum of three:
# $(2, 1) + (2, -1) + (1, 0) = (5, 0)$.

# %%
dy = np.array([[1.0, 0.0], [2.0, 1.0], [0.0, 3.0], [2.0, -1.0], [1.0, 1.0], [1.0, 0.0]])
pictures.scatter(dy, token_ids, vocabulary=list(tokenizer.characters))

# %% [markdown]
# A token that does not occur gets a row of zeros: rare tokens learn rarely. And there is a trap here, into
# which many fall who write this in NumPy. `dweight[token_ids] += dy` reads each row, adds, and writes it
# back; with an id that occurs twice, the second result replaces the first.
#
# The library's forward takes rows, and its backward is the product of the formula, because that reads as it
# was derived and runs on every kind of array. (The CPU engine that trains has a loop of its own for it.) The
# factor `scale` is one, or $\sqrt{D}$ as in the original transformer (Vaswani et al., "Attention is all you
# need", 2017, section 3.4).

# %%
dweight = np.zeros_like(weight)
dweight[token_ids] += dy
print("+= keeps the last only:", dweight.tolist())
dweight = np.zeros_like(weight)
np.add.at(dweight, token_ids, dy)
print("add.at adds all:       ", dweight.tolist())
print("the library:           ", embedding.backward(dy, saved)[0].tolist())
source.show(embedding.forward, embedding.backward)

# %% [markdown]
# ## Attention sees a set
#
# The next lesson takes attention apart. Here we need one line of it. Each token $i$ has a query $q_i$, a key
# $k_i$ and a value $v_i$, computed from its vector alone, and its output is a mean of all values:
#
# $$y_i = \sum_j p_{ij}\,v_j,\qquad p_{ij} = \frac{e^{s_{ij}}}{\sum_{j'} e^{s_{ij'}}},\qquad
# s_{ij} = \frac{q_i\cdot k_j}{\sqrt{d}}$$
#
# Look for the position in this formula. There is none: $i$ and $j$ are names under the sum sign, and a sum
# does not change with the order of its terms. In matrices: let $\Pi$ permute rows, so that $\Pi X$ is the
# text in another order. Queries, keys and values are permuted alike, and the scores become
# $\Pi Q\,(\Pi K)^\top = \Pi\,(QK^\top)\,\Pi^\top$. Softmax works on each row by itself, wherever the row
# stands and however its entries are ordered, so the probabilities become $\Pi P\,\Pi^\top$, and with
# $\Pi^\top\Pi = 1$
#
# $$\begin{aligned}
# Y(\Pi X) &= \Pi P\,\Pi^\top\,\Pi V\\
# &= \Pi\,P V = \Pi\,Y(X) .
# \end{aligned}$$
#
# The same outputs, in the other order. This is called *permutation equivariance*. In words: a letter sees the
# *set* of letters around it. To such an attention *listen* and *silent* are one and the same.
#
# A generating model has the causal mask, with which each token sees only itself and the tokens before it.
# That tells something: the first token sees one, the last sees all. But of what comes before it, each token
# still sees the set alone: *enlist* and *silent* both end in `t`, and this `t` cannot tell them apart.

# %%
alphabet = CharacterTokenizer.train(["listen"])
rng = np.random.default_rng(0)
table = rng.normal(size=(alphabet.vocab_size, 8))


def attend(word, *, causal=False):
    x = embedding.forward(table, alphabet.encode(word))[0][None, None]  # one text, one head
    y, _ = attention.forward(x, x, x, causal=causal)
    return dict(zip(word, y[0, 0], strict=True))


one, other = attend("listen"), attend("silent")
for letter in "listen":
    print(f"{letter} differs by at most {np.max(np.abs(one[letter] - other[letter])):.1g}")
one, other = attend("enlist", causal=True), attend("silent", causal=True)
print(f"with the mask, the last t by at most {np.max(np.abs(one['t'] - other['t'])):.1g}")

# %% [markdown]
# (What remains is in the sixteenth digit: rounding does see the order of a sum.)
#
# So the position must be put into the vectors themselves. One could add the number $pos$ to each of them. But
# it grows without end, and drowns what the token means. One could add a wave, $\sin pos$, which stays small.
# But a wave comes back: $\sin 44$ is nearly $\sin 0$. The idea that works is older than computers: a clock
# has several hands.
#
# ## Waves of many lengths
#
# Vaswani et al. (2017, section 3.5) add to the vector at position $pos$ the row $PE(pos)$, made of pairs of a
# sine and a cosine with one *frequency* $\omega_i$ a pair:
#
# $$PE(pos, 2i) = \sin(\omega_i\,pos),\qquad PE(pos, 2i+1) = \cos(\omega_i\,pos),\qquad
# \omega_i = b^{-2i/d},\qquad i = 0, \dots, \tfrac d2 - 1$$
#
# with the *base* $b = 10{,}000$. A wave returns when its angle has grown by $2\pi$, so pair $i$ has the
# wavelength
#
# $$\lambda_i = \frac{2\pi}{\omega_i} = 2\pi\,b^{2i/d}.$$
#
# The first pair returns after $2\pi$ positions. From pair to pair the wavelength grows by the same factor
# $b^{2/d}$, and would reach $2\pi b$ at $i = d/2$, one step beyond the last pair. With $d = 8$ the factor is
# 10.
#
# Each pair (sine, cosine) is the tip of a hand on a dial, with the sine to the right and the cosine upwards:
# at position 0 it points to twelve (dashed), and it turns as the hands of a clock do. Above each dial is the
# angle, full turns included. Move through the text.


# %%
def clocks(position):
    return pictures.clocks(position, d_model=8)


d = 8
print("wavelengths:", *(f"{2 * np.pi * 10_000 ** (i / d):.1f}" for i in range(0, d, 2)))
knobs.turn(clocks, position=[0, 1, 2, 3, 6, 12, 25, 50, 100, 250, 500, 1000])

# %% [markdown]
# The fast hand tells neighbours apart, and the slow ones tell early from late. Here, for $d = 32$, are all
# components of a hundred positions, each position a column. Sines and cosines alternate, hence the stripes.
# Turn the base: when it is small, all waves are short, and distant columns become hard to tell apart. When
# it is large, the lower half hardly moves within a hundred positions: it is there for longer texts.


# %%
def waves(base):
    return plots.sinusoid(100, 32, base=base)


knobs.turn(waves, base=[2.0, 10.0, 100.0, 1000.0, 10_000.0])

# %% [markdown]
# There is nothing to learn in these waves, and since $y = x + PE$ adds a constant, the backward is $dx = dy$.
#
# ## A shift is a rotation
#
# Why sines *and* cosines? Go $k$ positions further. The addition theorems say what becomes of a pair:
#
# $$\begin{aligned}
# &\sin\omega(pos + k)\\
# &\ = \phantom{-}\cos\omega k\,\sin\omega pos + \sin\omega k\,\cos\omega pos\\[0.5em]
# &\cos\omega(pos + k)\\
# &\ = -\sin\omega k\,\sin\omega pos + \cos\omega k\,\cos\omega pos
# \end{aligned}$$
#
# The new pair is a matrix times the old pair,
#
# $$\begin{aligned}
# &\begin{pmatrix}\sin\omega(pos+k)\\ \cos\omega(pos+k)\end{pmatrix}\\
# &\quad = \begin{pmatrix}\cos\omega k & \sin\omega k\\ -\sin\omega k & \cos\omega k\end{pmatrix}
# \begin{pmatrix}\sin\omega pos\\ \cos\omega pos\end{pmatrix},
# \end{aligned}$$
#
# and $pos$ does not occur in the matrix. It turns the hand by $\omega k$ clockwise, wherever the hand stands.
# So "three tokens earlier" is one and the same linear map for all positions, and a linear map is what the
# weights of a query can learn. With a sine alone there would be no such matrix. We check it for pair 1 and
# all positions at once:

# %%
PE = sinusoidal_position.table(50, d)
pair, k = 1, 3
angle = k * 10_000 ** (-2 * pair / d)
turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
columns = [2 * pair, 2 * pair + 1]
moved = PE[:-k, columns] @ turn.T  # each row is a pair: turn @ row
print(f"largest difference: {np.max(np.abs(moved - PE[k:, columns])):.0e}")
source.show(sinusoidal_position.table)

# %% [markdown]
# ## Products that know the distance alone
#
# Attention compares vectors by scalar products. What is the product of two positions $p$ and $q$? Pair by
# pair, with the addition theorem once more, read from right to left:
#
# $$\begin{aligned}
# &PE(p)\cdot PE(q)\\
# &= \sum_i \big(\sin\omega_i p\sin\omega_i q + \cos\omega_i p\cos\omega_i q\big)\\
# &= \sum_i \cos\omega_i(p - q)
# \end{aligned}$$
#
# Only the difference is left. The product is largest, $d/2$, at distance zero, where every cosine is one, and
# it is the same forwards and backwards. On the left all products of 64 positions: every diagonal has one
# colour. On the right three of its rows, against the distance: one curve, the sum of cosines.

# %%
pictures.similarity(64, 64)

# %% [markdown]
# So much for the positions by themselves. What attention really multiplies is a query and a key, made of
# token *and* position by learned matrices. With $A = W_Q W_K^\top$ and $x + PE$ for the vectors, its score is
# a sum of four:
#
# $$\begin{aligned}
# &(x_p + PE_p)\,A\,(x_q + PE_q)^\top\\
# &\quad = x_p A\,x_q^\top + x_p A\,PE_q^\top\\
# &\quad\ {}+ PE_p\,A\,x_q^\top + PE_p\,A\,PE_q^\top
# \end{aligned}$$
#
# Vectors are rows here, as in the code. For a general $A$ none of the last three depends on $p - q$ alone.
# The model *may* learn to see distances; nothing makes it.
#
# ## Learned positions
#
# If the model must learn what to do with positions, it may as well learn the positions. GPT-2 has a second
# table $P$, with a row for each place instead of each token: $y_{bt} = x_{bt} + P_t$ (Gehring et al.,
# "Convolutional sequence to sequence learning", 2017). Row $t$ is added in every sequence $b$ of the batch,
# and what is copied forward is summed backward:
#
# $$dx_{bt} = dy_{bt},\qquad dP_t = \sum_b dy_{bt} .$$
#
# With a batch of two sequences of three tokens, and a $dy$ of ones, each of the three rows in use gets 2; the
# rows for places that no sequence reached get nothing. That is the price: a place that training never showed
# has a row that is still random, and behind the last row there is none.

# %%
_, saved = learned_position.forward(np.zeros((2, 3, 4)), np.zeros((5, 4)))
_, dplaces = learned_position.backward(np.ones((2, 3, 4)), saved)
print(dplaces)
source.show(learned_position.forward, learned_position.backward)

# %% [markdown]
# ## Turning queries and keys
#
# Sinusoids have the property that we want, distance alone, and lose it in the sum. Su et al. ("RoFormer:
# Enhanced transformer with rotary position embedding", 2021) keep it, by *multiplying* instead of adding.
# They leave the vectors alone until queries and keys are there, and then turn these, pair by pair, by the
# angle $\theta_i = pos\cdot b^{-2i/d}$, where $d$ is now the width of a head:
#
# $$\begin{pmatrix}y_{2i}\\ y_{2i+1}\end{pmatrix} =
# \begin{pmatrix}\cos\theta_i & -\sin\theta_i\\ \sin\theta_i & \cos\theta_i\end{pmatrix}
# \begin{pmatrix}x_{2i}\\ x_{2i+1}\end{pmatrix}$$
#
# This time counterclockwise, a convention. Lengths stay, and the meaning of a vector is in the lengths of its
# pairs and in where they point at position 0 (dashed).


# %%
def turned(position):
    return plots.rotation(np.array([1.0, 0.2, 0.5, -0.5, 0.9, 0.8]), position=position, base=100.0)


knobs.turn(turned, position=[0, 1, 2, 3, 4, 5, 6, 10, 20, 30])

# %% [markdown]
# Why this does it: let $R(\theta)$ be the matrix that turns by $\theta$. Turning back is its transpose,
# $R(\theta)^\top = R(-\theta)$, and two turns make one, $R(\alpha)R(\beta) = R(\alpha + \beta)$. A query at
# position $m$ and a key at position $n$ have, of one pair with the frequency $\omega$, the score
#
# $$\begin{aligned}
# &\big(R(m\omega)\,q\big)\cdot\big(R(n\omega)\,k\big)\\
# &\quad = q^\top R(m\omega)^\top R(n\omega)\,k\\
# &\quad = q^\top R\big((n - m)\,\omega\big)\,k .
# \end{aligned}$$
#
# The two positions have become their difference. With lengths and angles one sees even more: if $q$ points in
# direction $\alpha$ and $k$ in direction $\beta$, both are turned, and the angle between them is what counts,
#
# $$|q|\,|k|\,\cos\big(\alpha - \beta + (m - n)\,\omega\big).$$
#
# The weights choose lengths and directions, hence the distance at which this pair answers loudest. We try it
# with the library: the same query and key, at four pairs of positions. The first three pairs are 3 apart, and
# have the same score; the last is 2 apart, and has another. Below are all distances, for another query and
# key, of three pairs.

# %%
q, k = rng.normal(size=(2, 8))


def score(m, n):
    (q_turned,), _ = rope.forward(q[None], offset=m)
    (k_turned,), _ = rope.forward(k[None], offset=n)
    return q_turned @ k_turned


for m, n in ((7, 4), (107, 104), (5007, 5004), (7, 5)):
    print(f"query at {m}, key at {n}: {score(m, n):.12f}")
pictures.relative_scores()

# %% [markdown]
# This curve, unlike that of the sinusoids, is not the same forwards and backwards, and its hills may lie at
# any distance: that depends on $q$ and $k$. Only queries and keys are turned. Values are not: they say *what*
# a token has to give, and the distance has done its work when the scores are there.
#
# ## The way back is the turn back
#
# Backward, $y = Rx$ gives $dx = R^\top dy$, as for every product with a matrix, and the transpose of a
# rotation is the rotation back. So the backward of RoPE is RoPE with the opposite angle: nothing to derive,
# and it keeps lengths as well. No gradient vanishes or grows on its way through it.
#
# In the code, `frequencies` gives each pair its $b^{-2i/K}$. Its `scaling`, which is off here, slows pairs
# down where a model shall read longer texts than it learned from: then positions turn no further than before.

# %%
x = rng.normal(size=(1, 4, 6))
y, saved = rope.forward(x, offset=10)
(back,) = rope.backward(y, saved)
print(f"turned and turned back, x is off by {np.max(np.abs(back - x)):.0e}")
source.show(rope.forward, rope.turn, rope.backward)

# %% [markdown]
# The proof, for all four ways in which this lesson put numbers into vectors, on every case that the library
# tests them with:

# %%
for op in (embedding, sinusoidal_position, learned_position, rope):
    name = op.__name__.split(".")[-1]
    proofs = [proof for inputs in op.cases(rng) for proof in gradcheck.check(op, inputs, rng)]
    worst = max(proof.relative_error for proof in proofs)
    print(f"{name:20} {len(proofs)} gradients, worst relative error {worst:.0e}")

# %% [markdown]
# ## Exercises
#
# Replace the three dots, run the cell, and run the one after it: it judges your answer. Our answers are
# folded away behind each exercise.
#
# ### Exercise 1: the front door of GPT-2
#
# Token and position in one step: $y_{bt} = s\,W_{id_{bt}} + P_t$ with a fixed factor $s$. Derive $dW$ and
# $dP$ and write the backward, which returns them in this order. `saved` is what `front_door` keeps; the ids
# have the shape $(B, T)$, `dy` has $(B, T, D)$, and $P$ may have more rows than $T$.


# %% tags=["exercise"]
def front_door(weight, places, token_ids, *, s=2.0):
    y = s * weight[token_ids] + places[: token_ids.shape[1]]
    return y, (weight, places, token_ids, s)


def front_door_backward(dy, saved):
    return ...


# %% tags=["check"]
def judge_front_door(answer):
    weight, places = np.random.default_rng(1).normal(size=(2, 5, 3))
    token_ids = np.array([[1, 4, 1, 1], [0, 1, 4, 2]])
    return exercise.gradient(front_door, answer, weight=weight, places=places, token_ids=token_ids)


judge_front_door(front_door_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Ask in which numbers of $y$ one $W_{vd}$ occurs, and one $P_{td}$, and with which factor. *The gradient goes
# home* answers for the table of tokens, *Learned positions* for that of positions.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $dW_{vd}$ is $s$ times the sum of $dy_{btd}$ over all places $(b, t)$ with $id_{bt} = v$. $dP_{td}$ is the
# sum of $dy_{btd}$ over $b$ alone, a sum and not a mean.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Begin with zeros of the shapes of `weight` and `places`. `np.add.at` takes ids of the shape $(B, T)$
# together with rows of the shape $(B, T, D)$, where `+=` would lose repeated ids; for $dP$, the sum of `dy`
# along axis 0 fills the first $T$ rows.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The factor $s$ goes into $dW$ only. Rows of $dy$ go home by id, and those of equal ids are summed, whatever
# sequence they come from; rows of $dP$ are sums over the batch, and the unused ones stay zero.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def front_door_backward(dy, saved):
    weight, places, token_ids, s = saved
    dweight, dplaces = np.zeros_like(weight), np.zeros_like(places)
    np.add.at(dweight, token_ids, s * dy)
    dplaces[: dy.shape[1]] = dy.sum(axis=0)
    return dweight, dplaces


judge_front_door(front_door_backward)

# %% [markdown]
# ### Exercise 2: the matrix that goes $k$ tokens further
#
# Build the matrix $M_k$ of shape $(d, d)$ with $PE(pos + k) = M_k\,PE(pos)$ for every $pos$, with the base
# 10,000. $PE(pos)$ is a column here, with the library's order of components: sine, cosine, sine, cosine.
# Return $M_k$ as an array. The judge knows no trigonometry: it finds the matrix from the table by least
# squares.


# %% tags=["exercise"]
def shift_matrix(k, d):
    return ...


# %% tags=["check"]
def fitted(k, d, n=20_000):
    PE = sinusoidal_position.table(n + k, d)
    transposed, *_ = np.linalg.lstsq(PE[:n], PE[k:])
    return transposed.T


exercise.function(shift_matrix, fitted, (1, 4), (5, 8), (40, 6))


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# *A shift is a rotation* has the matrix of one pair. Does a pair at $pos + k$ depend on any other pair?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $M_k$ has a block of $2\times2$ for each pair. Pair $i$ fills the rows and columns $2i$ and $2i + 1$, with
# the angle $\omega_i k$ and $\omega_i = b^{-2i/d}$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# In each block $+\sin$ stands at the upper right, as the sine is the first of a pair: test it at $pos = 0$,
# where every pair is $(0, 1)$. If your loop counts components, $c = 0, 2, 4, \dots$, then $c$ is $2i$ already
# and $\omega = b^{-c/d}$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The $2\times2$ matrices of all pairs along the diagonal, and zeros elsewhere: no pair knows of
# another.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def shift_matrix(k, d):
    M = np.zeros((d, d))
    for i in range(0, d, 2):
        angle = k * 10_000 ** (-i / d)
        M[i : i + 2, i : i + 2] = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
    return M


exercise.function(shift_matrix, fitted, (1, 4), (5, 8), (40, 6))

# %% [markdown]
# ### Exercise 3: a base for long texts
#
# A model with heads of 64 components is to read 131,072 tokens. Its slowest pair shall not come round within
# the text, or it would confuse the ends; but it shall come round within twice the text, or it would hardly
# move. Find a `base` for RoPE, one number. (The last pair is number 31, not 32.)

# %% tags=["exercise"]
base = ...


# %% tags=["check"]
def slowest_wavelength(base):
    _, saved = rope.forward(np.zeros((1, 64)), offset=1, base=base)
    radians_a_token = np.arctan2(saved.sin[0, -1], saved.cos[0, -1])
    return 2 * np.pi / radians_a_token


def suits(base):
    return 131_072 <= slowest_wavelength(base) <= 2 * 131_072


exercise.claim(base, suits, "one turn in more than one text, and in less than two")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# *Waves of many lengths* says after how many positions a pair returns. The pairs of RoPE have the same
# frequencies, with the width of a head for $d$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Take $\lambda_i = 2\pi\,b^{2i/d}$ with $d = 64$ and $i = 31$. Choose a wavelength between one and two
# lengths of the text; $b$ is then the only unknown.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Divide the wavelength that you chose by $2\pi$, which leaves $b^{62/64}$, and raise the result to the power
# $64/62$. The exponent is not 1, because pair 31 is one step short of the wavelength $2\pi b$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $\lambda_{31} = 2\pi\,b^{62/64}$ shall be at least $131{,}072$, so
# $b \ge (131{,}072/2\pi)^{64/62}$, which is about 28,750; and anything up to about twice that will do. With
# the usual 10,000 the slowest pair comes round within such a text; models that read long ones have larger
# bases.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
base = 40_000.0
exercise.claim(base, suits, "one turn in more than one text, and in less than two")

# %% [markdown]
# ### Make it yours: the embedding
#
# Write the lookup $y = W_{id}$ for ids of any shape, and its backward.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_embedding(weight, token_ids):
    return ..., ...


def my_embedding_backward(dy, saved):
    return (...,)


# %% tags=["check"]
mine.keep("embedding", my_embedding, my_embedding_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# This is exercise 1 without the factor and without positions. What becomes of several rows of $dy$ whose
# tokens have the same id?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Indexed with an array of ids, the table gives one row for each id, whatever the shape of the array.
# Backward, $dW_{vd}$ is the sum of $dy$ over all places with the id $v$; so keep the ids, and the table for
# its shape.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Begin with `np.zeros_like(weight)` and add with `np.add.at`, which takes `token_ids` and `dy` as they are;
# `+=` would keep only one of several equal ids. The backward returns a tuple with one gradient.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# Rows go home by id, and those of equal ids are summed: `np.add.at`.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_embedding(weight, token_ids):
    return weight[token_ids], (weight, token_ids)


def my_embedding_backward(dy, saved):
    weight, token_ids = saved
    dweight = np.zeros_like(weight)
    np.add.at(dweight, token_ids, dy)
    return (dweight,)


mine.keep("embedding", my_embedding, my_embedding_backward)

# %% [markdown]
# ### Make it yours: learned positions
#
# Write $y_{bt} = x_{bt} + P_t$ for $x$ $(\dots, T, D)$ and a table $P$ with at least $T$ rows, and its
# backward.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_position(x, weight):
    return ..., ...


def my_position_backward(dy, saved):
    return ..., ...


# %% tags=["check"]
mine.keep("learned_position", my_position, my_position_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Lesson 2, *Undoing a broadcast*, has the rule. Along which axes is the table copied when it is added to $x$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Forward, the first $T$ rows of $P$ are added, and $T$ is the size of the last axis of $x$ but one. Backward,
# $dx = dy$, and $dP_t$ is a sum over all axes before the last two.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `dy.reshape(-1, T, D)` joins all axes before the last two, and a sum (not a mean) along axis 0 leaves $T$
# rows. They are the first $T$ rows of $dP$, which has the shape of the table and is zero elsewhere.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# What is copied to every text is summed coming back; rows that no text reached stay zero.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_position(x, weight):
    return x + weight[: x.shape[-2]], weight


def my_position_backward(dy, weight):
    dweight = np.zeros_like(weight)
    dweight[: dy.shape[-2]] = dy.reshape(-1, *dy.shape[-2:]).sum(axis=0)
    return dy, dweight


mine.keep("learned_position", my_position, my_position_backward)

# %% [markdown]
# ## Where next
#
# The vectors now say what each token is and where it stands. In Lesson 11, *Attention, forward and backward*,
# they look at each other: we derive every step of it, and every step back.
