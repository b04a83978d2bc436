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
# # 16. Writing: from logits to text
#
# *After this lesson you can turn logits into text, greedily, at any temperature, with top-k and top-p; say
# what each of these does to a distribution; draw a token by hand in two ways; measure in nats how surprising
# a text is; and count what the KV cache saves.*
#
# Training is over, and the model can do one thing: read a beginning, and give a number to every character
# that could come next. It never says which one *does*. Between those numbers and a page of text somebody has
# to choose, a few hundred times in a row, and how that is done decides much of what the page looks like. Who
# chooses, and how?

# %%
import textwrap
import time
from math import prod

import numpy as np

import handgrad
from handgrad import ops, tree
from handgrad.data import batches, corpus
from handgrad.engines import reference
from handgrad.generation import sampling, stream
from handgrad.generation.sampling import Sampling
from handgrad.lessons import exercise, knobs, practice, source
from handgrad.lessons.pictures import sampling as pictures
from handgrad.model.count import count
from handgrad.model.transformer import Transformer

np.set_printoptions(precision=4, suppress=True, floatmode="fixed")

# %% [markdown]
# ## A distribution, not a text
#
# The model of this lesson is small, a `nano`, trained for half a minute on Python's own language reference.
# It writes badly, which is convenient: what goes wrong can be seen. It is trained the first time you come
# here and kept beside your notebook.
#
# Softmax turns its logits $z$ into probabilities, $p_i = e^{z_i}/\sum_j e^{z_j}$. Look at them after
# different beginnings. In the middle of a word there may be little left to choose; after a blank there is
# much. (`␣` is a blank, `↵` the end of a line; the last bar is all other characters together.)

# %%
model = practice.model()
characters = model.tokenizer.characters
transformer = Transformer(model.config)


def logits_after(text):
    logits, _ = transformer.forward(model.weights, model.tokenizer.encode(text)[None])
    return logits[0, -1].astype(np.float64)


def next_token(after):
    probs, _ = ops.softmax.forward(logits_after(after))
    return pictures.distribution(probs, characters, title=f"after “{after}”")


knobs.turn(next_token, after=["The ", "If the objec", "The stateme", "x = 1"])

# %% [markdown]
# ## Greedy, and why it loops
#
# The first idea is to take the likeliest character, always. It is called *greedy*, and is what the library
# does at `temperature=0`. No chance is involved: the same beginning gives the same text for ever.


# %%
def period(text, shown=200):
    """After how many characters the end of the text comes again, if it does."""
    return next((n for n in range(1, len(text) - shown) if text[-shown:] == text[-shown - n : -n]), None)


greedy = handgrad.generate(model, "If ", max_tokens=700, temperature=0)
print(textwrap.fill("If " + greedy[:300], 60))
print("\nIts last 200 characters stand there already,", period(greedy), "characters earlier.")

# %% [markdown]
# It goes round in circles, and it has to. A model reads at most `context_length` tokens, here 64. When they
# are full the library drops the older half and reads the newer 32 again, so that at this moment *everything*
# to come depends on 32 characters. Greedily it is a function of them: one window of 32 leads to one next
# window. There are finitely many windows, so one of them must come back; and then all that followed it
# follows again, for ever. (Should your model need more than 700 characters to close its circle, give it more:
# it will.) The argument does not say how soon. A model that prefers common words is back among the same few
# soon.
#
# One might defend greedy as finding the likeliest text. It does not. Let a text be two letters long, with
#
# $$p(a) = 0.6,\quad p(b) = 0.4,\qquad p(x\mid a) = 0.5,\quad p(x\mid b) = 0.9 .$$
#
# Greedy begins with $a$ and ends with a text of probability $0.6\cdot0.5 = 0.3$. The text $bx$ has
# $0.4\cdot0.9 = 0.36$. The likelier first step led to a worse place. And even the likeliest text would not be
# what we want: people do not write what is likeliest at every place, as we shall measure below.
#
# ## Temperature
#
# So we draw: each character with its probability. If those seem too timid or too wild, they can be sharpened
# or flattened by a power, and brought back to the sum of one:
#
# $$q_i = \frac{p_i^{1/T}}{\sum_j p_j^{1/T}} .$$
#
# $T$ is the *temperature*. Put $p_i = e^{z_i}/Z$ in: the power of $Z$ is the same above and below and
# cancels,
#
# $$q_i = \frac{e^{z_i/T}\,Z^{-1/T}}{\sum_j e^{z_j/T}\,Z^{-1/T}} = \frac{e^{z_i/T}}{\sum_j e^{z_j/T}} ,$$
#
# so it is enough to divide the logits by $T$ before the softmax. The ratio of two probabilities shows both
# limits: $q_i/q_j = e^{(z_i-z_j)/T}$. For $T\to\infty$ every ratio becomes 1, a blind guess; for $T\to0$ the
# likeliest outgrows all others without bound, and that is greedy. (The name is from physics; Ackley, Hinton
# and Sejnowski brought it to networks, "A learning algorithm for Boltzmann machines", 1985.)

# %%
p = np.array([0.5, 0.3, 0.2])
for T in (0.1, 0.5, 1.0, 2.0, 100.0):
    as_power = p ** (1 / T) / np.sum(p ** (1 / T))
    as_library = sampling.distribution(np.log(p), Sampling(temperature=T))
    print(f"T = {T:5}:  {as_power}   the library: {as_library}")

pictures.temperatures(logits_after("The "), characters, temperatures=(0.4, 1.0, 2.0))

# %% [markdown]
# How much is left open is measured by the *entropy*, $H = -\sum_i q_i\ln q_i$: the mean surprise, in nats. It
# should grow with $T$. Does it always? Write $\beta = 1/T$ and $Z(\beta) = \sum_i e^{\beta z_i}$, so that
# $\ln q_i = \beta z_i - \ln Z$. With $\langle\cdot\rangle$ for the mean under $q$,
#
# $$H = \ln Z - \beta\langle z\rangle,\qquad \frac{d\ln Z}{d\beta} = \langle z\rangle,\qquad
# \frac{dq_i}{d\beta} = q_i\,\big(z_i - \langle z\rangle\big),$$
#
# and the last of these gives $d\langle z\rangle/d\beta = \langle z^2\rangle - \langle z\rangle^2$, the
# variance of the logits. Hence
#
# $$\frac{dH}{d\beta} = \langle z\rangle - \langle z\rangle - \beta\operatorname{Var}(z),\qquad
# \frac{dH}{dT} = -\frac{1}{T^2}\cdot\frac{dH}{d\beta}
# = \frac{\operatorname{Var}(z)}{T^3}\ \ge\ 0 .$$
#
# It grows at every temperature, unless all logits are equal: then there is nothing to flatten. We measure the
# slope, which knows nothing of the derivation.


# %%
def entropy(z, T):
    q, _ = ops.softmax.forward(z / T)
    return -np.sum(q * np.log(np.maximum(q, 1e-300)))


z = logits_after("The ")
for T in (0.3, 1.0, 3.0):
    q, _ = ops.softmax.forward(z / T)
    derived = (q @ z**2 - (q @ z) ** 2) / T**3
    measured = (entropy(z, T + 6e-6) - entropy(z, T - 6e-6)) / 1.2e-5
    print(f"T = {T}:  Var(z) / T^3 = {derived:.8f}   measured dH/dT = {measured:.8f}")

pictures.entropy(z)

# %% [markdown]
# ## Cutting the tail: top-k and top-p
#
# At $T = 1$ the model speaks with its own probabilities, and its texts still derail. Most characters are
# nearly impossible at a given place, but there are many of them, and a text has many places. If all
# characters beyond the twenty likeliest have the probability $\epsilon$ together, then a text of $n$
# characters avoids them all with $(1-\epsilon)^n$ only. One of them is enough to leave the paths that the
# model has seen.
#
# Two remedies cut the tail off and bring the rest back to the sum of one. *Top-k* keeps the $k$ likeliest
# tokens. *Top-p* keeps the fewest that together have at least the probability $p$ (Holtzman et al., "The
# curious case of neural text degeneration", 2020). Here is how much probability lies beyond the $k$
# likeliest, on average over text that the model never learned from. Below it stands the library's function
# that does all of this: temperature, top-k and top-p; and what else can be asked for.

# %%
text = model.tokenizer.encode(corpus.embedded().text)
_, unseen = batches.split(text, model.config.context_length)  # the last tenth was kept from training
token_ids, targets = next(batches.spread(unseen, 100, model.config.context_length, 100))
probs, _ = ops.softmax.forward(transformer.forward(model.weights, token_ids)[0].astype(np.float64))
largest_first = -np.sort(-probs, axis=-1)
for k in (5, 20, 40):
    tail = 1 - largest_first[..., :k].sum(axis=-1).mean()
    print(f"beyond top {k:2}: {tail:.3f}; 100 characters avoid it with probability {(1 - tail) ** 100:.1g}")

source.show(sampling.distribution)

# %% [markdown]
# Top-k is the same everywhere, top-p adapts. Forty tokens are far too many in the middle of a word, and may
# be too few at the beginning of a sentence; a share of the probability is few tokens where the model is
# sure, and many where it is not. Turn the knobs, and compare how many are kept after the two beginnings.


# %%
def cut(after, top_p):
    z = logits_after(after)
    whole = sampling.distribution(z, Sampling(temperature=1.0))
    kept = sampling.distribution(z, Sampling(temperature=1.0, top_p=top_p))
    return pictures.distribution(whole, characters, after=kept, title=f"after “{after}”, top-p {top_p:g}")


knobs.turn(cut, after=["The stateme", "The "], top_p=[0.5, 0.8, 0.9, 0.97, 1.0])

# %% [markdown]
# ## Drawing by hand
#
# A computer's random generator gives numbers $u$ between 0 and 1, every stretch as likely as it is long. To
# draw from $q$, lay the probabilities end to end: their sums up to each token are the edges
# $c_i = q_1 + \dots + q_i$. Take the token with $c_{i-1}\le u < c_i$. That stretch is $c_i - c_{i-1} = q_i$
# long, so its token is hit with probability $q_i$: exactly what was wanted. (Inverting the cumulative
# distribution: Devroye, *Non-Uniform Random Variate Generation*, 1986.)


# %%
def draw_by_hand(q, u):
    edges = np.cumsum(q)
    return int(np.searchsorted(edges / edges[-1], u, side="right"))


q, _ = ops.softmax.forward(z)
ours, theirs = np.random.default_rng(0), np.random.default_rng(0)
same = [draw_by_hand(q, ours.random()) == sampling.draw(q, theirs) for _ in range(1000)]
print("by hand as the library draws, from the same u:", sum(same), "of 1000")

pictures.staircase(np.array([0.5, 0.2, 0.25, 0.05]), "abcd", draws=[0.31, 0.6, 0.97])

# %% [markdown]
# ## The Gumbel trick
#
# There is a second way, which needs no sum and no softmax: add noise to the *logits* and take the largest.
# The noise has to be of one kind, $G = -\ln(-\ln u)$, which is named after Gumbel ("Statistical theory of
# extreme values", 1954; the trick: Maddison, Tarlow and Minka, "A* sampling", 2014). It is below $g$ when
# $u < e^{-e^{-g}}$, so that its distribution and its density are
#
# $$F(g) = e^{-e^{-g}},\qquad F'(g) = e^{-g}\,F(g).$$
#
# Token $i$ wins if $z_i + G_i$ is some $x$, and all others stay below that $x$. Integrate over all $x$:
#
# $$\begin{aligned}
# P(i) &= \int F'(x - z_i)\prod_{j\ne i}F(x - z_j)\,dx \\
# &= \int e^{z_i - x}\prod_{j}e^{-e^{z_j - x}}\,dx \\
# &= e^{z_i}\int e^{-x}\,e^{-S e^{-x}}\,dx .
# \end{aligned}$$
#
# Here $S = \sum_j e^{z_j}$. With $s = e^{-x}$, $ds = -e^{-x}dx$, the last integral is
# $\int_0^\infty e^{-Ss}\,ds = 1/S$, and
#
# $$P(i) = \frac{e^{z_i}}{\sum_j e^{z_j}} .$$
#
# That is the softmax. And since $\arg\max_i(z_i/T + G_i) = \arg\max_i(z_i + T\,G_i)$, the temperature is the
# loudness of the noise: at $T = 0$ it is silent, and the largest logit wins. We count.

# %%
rng = np.random.default_rng(0)
scores = np.array([2.0, 1.0, 0.0, -1.0])
n = 100_000
winners = np.argmax(scores - np.log(-np.log(rng.random((n, 4)))), axis=1)
counted, expected = np.bincount(winners, minlength=4) / n, ops.softmax.forward(scores)[0]
print("counted:            ", counted)
print("softmax:            ", expected)
print("two standard errors:", 2 * np.sqrt(expected * (1 - expected) / n))

# %% [markdown]
# ## What a text costs: surprise
#
# Now the other way round: a text is given, and we ask what the model thinks of it. It gives each character
# $x_t$ a probability after all before it, and the *surprise* of the character is $-\ln p(x_t\mid x_{<t})$:
# none for what was certain, 0.69 nats for a fair coin, 4.6 for one in a hundred. By the chain rule of
# probability
#
# $$\begin{aligned}-\ln p(x_2&,\dots,x_n\mid x_1)\\ &= -\sum_{t=2}^{n}\ln p(x_t\mid x_{<t}),\end{aligned}$$
#
# surprises add up, and their mean is nothing but the loss that training made small. Its exponential is the
# *perplexity*: a blind guess among $V$ characters has the mean surprise $\ln V$ and the perplexity $V$, so
# the perplexity says among how many equally likely characters the model might as well have chosen.


# %%
def surprises(text):
    """-ln p of each character after the first, in nats."""
    ids = model.tokenizer.encode(text)
    logits, _ = transformer.forward(model.weights, ids[None, :-1])
    probs, _ = ops.softmax.forward(logits[0].astype(np.float64))
    return -np.log(probs[np.arange(len(ids) - 1), ids[1:]])


text = "An object is a thing that has a type and a value, as zxqj has."
ids = model.tokenizer.encode(text)[None]
loss, _ = handgrad.loss_and_gradients(model.config, model.weights, ids[:, :-1], ids[:, 1:])
nats = surprises(text)
perplexity = np.exp(nats.mean())
print(f"mean surprise {nats.mean():.5f}, the library's loss {loss:.5f}, perplexity {perplexity:.2f}")
pictures.surprise(text, np.append(np.nan, nats))

# %% [markdown]
# The sentence is ours, with one word in it that is none. Characters that surprise stand where something
# begins: the first letter of a word says what will come, the last one often only confirms it. That can be
# counted, on the unseen text from above:


# %%
def place_in_word(text):
    places = [0]
    for character in text:
        places.append(places[-1] + 1 if character.isalpha() else 0)
    return np.array(places[1:])


surprise = -np.log(np.take_along_axis(probs, targets[..., None], axis=-1)[..., 0])
places = np.array([place_in_word(model.tokenizer.decode(window)) for window in targets])
late = np.arange(targets.shape[1]) >= 16  # where a window begins, half a word may be missing
names = ["not a letter", "1st letter", "2nd", "3rd", "4th", "5th", "6th"]
for place, name in enumerate(names):
    print(f"{name:12} {surprise[(places == place) & late].mean():.2f} nats")

# %% [markdown]
# Beside what a character *did* cost there is what the model *expected* it to cost, before it came. That is
# the mean of the surprise under the model's own probabilities, $\sum_i p_i\cdot(-\ln p_i)$: the entropy
# again. Where the line is low the model is sure of itself; a dot high above it is a mistake made with
# confidence. If the probabilities can be trusted, the two agree on average. The printed line tells: if more
# is expected than found, the model is less sure than it might be; if less, it is too sure of itself.

# %%
expected = -np.sum(probs * np.log(probs), axis=-1)
print(f"over {surprise.size:,} characters: expected {expected.mean():.3f} nats, found {surprise.mean():.3f}")

window = slice(0, 40)
shown = model.tokenizer.decode(targets[0, window])
pictures.entropy_along(shown, expected[0, window], surprise[0, window])

# %% [markdown]
# ## Reading each token once: the KV cache
#
# To write the hundredth character one could run the whole model over the ninety-nine before it, and so again
# for the next. But nearly all of that is known already. Attention is causal: what happens at position $s$
# depends on tokens up to $s$, and no later token changes it. Of the past, a new token needs only its keys and
# values, in every layer. Keep those, and it is enough to send the *new* token through the model. That is the
# *KV cache*. If all this is true, reading token by token must give the very logits of the whole pass; we try
# it in float64.

# %%
exact = tree.map(lambda weight: weight.astype(np.float64), model.weights)
whole, _ = transformer.forward(exact, token_ids[:1])
decoding = reference.Decoding(model.config, exact)
one_by_one = np.array([decoding.read([token_ids[0, t : t + 1]])[0] for t in range(token_ids.shape[1])])
print(f"largest difference of any logit: {np.max(np.abs(one_by_one - whole[0])):.0e}")
per_token = sum(k.nbytes + v.nbytes for k, v in decoding.past[0]) // decoding.lengths[0]
counted = count(model.config).kv_cache_bytes_per_token["float32"]
print(f"bytes for a token: {per_token:,} here; {counted:,} in float32")

source.show(reference.Decoding._read, stream.pieces)

# %% [markdown]
# The cache ends where the context does. Each key has been made from a stream that holds the position of its
# token; when the window moves on, every position changes, and so would every key. That is why a full
# cache is emptied and the newer half read anew, instead of dropping the oldest.
#
# What is saved? Let $M$ be the number of weights that a token is multiplied with, $L$ the layers and $D$ the
# width. Reading $t$ tokens at once takes $tM$ multiply-adds for the weights, and for every pair of a query
# and a key $D$ for the score and $D$ for the value, in every layer: $tM + 2LD\,t^2$ (masked pairs counted as
# well). One more token upon a cache takes $M + 2LD\,t$. Over a text of $n$ tokens
#
# $$\text{without: } \sum_{t=1}^{n}\big(tM + 2LD\,t^2\big)\approx \frac{M}{2}n^2 + \frac{2LD}{3}n^3,\qquad
# \text{with: } \sum_{t=1}^{n}\big(M + 2LD\,t\big)\approx Mn + LD\,n^2 .$$
#
# That is a factor of about $n/2$, and of $2n/3$ once attention outweighs the weights. The clock gains less
# than the count: a product of one row with a matrix keeps a processor less busy than one of many rows, and
# Python's own steps cost the same for both. The picture goes further than the context of this model, as if
# there were a larger one.

# %%
M, L, D = count(model.config).matrix_parameters, model.config.n_layers, model.config.d_model
matrices = [weight for weight in tree.leaves(model.weights) if weight.ndim == 2]
print(f"M = {M:,}; counted: {sum(prod(w.shape) for w in matrices) - model.weights.positions.size:,}")

n, begun = token_ids.shape[1], time.perf_counter()
decoding = reference.Decoding(model.config, model.weights)
for t in range(n):
    decoding.read([token_ids[0, t : t + 1]])
with_cache, begun = time.perf_counter() - begun, time.perf_counter()
for t in range(n):
    transformer.forward(model.weights, token_ids[:1, : t + 1])
without = time.perf_counter() - begun
print(f"{n} characters: {with_cache:.2f} s with the cache, {without:.2f} s without")

lengths = np.arange(1, 4097)
each, rereading = M + 2 * L * D * lengths, lengths * M + 2 * L * D * lengths**2.0
pictures.multiply_adds(
    lengths, {"without the cache": np.cumsum(rereading), "with the cache": np.cumsum(each)}
)

# %% [markdown]
# ## One text, four temperatures
#
# All of it together: the same beginning, the same seed, four temperatures. Blanks and line breaks in a row
# are drawn together. Above each text stands what it costs this model, the mean surprise over its first 64
# characters; and below all, what real, unseen text costs.

# %%
for T in (0.3, 0.7, 1.0, 1.5):
    written = "The " + handgrad.generate(model, "The ", max_tokens=300, temperature=T, seed=2)
    print(f"T = {T}: {surprises(written[:64]).mean():.2f} nats a character")
    print(textwrap.fill(" ".join(written.split())[:200], 60), "\n")
print(f"real text: {surprise.mean():.2f} nats a character")

# %% [markdown]
# Cold, the text costs little and says little; hot, it costs more than real text does. Real text lies
# between: it is *not* made of the likeliest characters. Holtzman and the others found this of large models
# as well, and drew their conclusion: neither the likeliest text, nor one drawn from the whole distribution,
# but one drawn from its trustworthy head. `handgrad generate` takes `--temperature`, `--top-k` and
# `--top-p`; begin with 0.8 and `--top-p 0.95`, and read what comes.
#
# ## Exercises
#
# ### Exercise 1: a trap for greedy
#
# Texts of two letters, each $a$ or $b$. You choose three numbers: $p(a)$ for the first letter, $p(a\mid a)$
# and $p(a\mid b)$ for the second. Find ones for which greedy's text is at most 0.6 times as likely as the
# likeliest text, and write them as a tuple. On paper first: how small can that ratio become?

# %% tags=["exercise"]
trap = ...  # p(a), p(a | a), p(a | b)


# %% tags=["check"]
def ratio(trap):
    """The probability of greedy's text over that of the likeliest."""
    if not all(0 <= p <= 1 for p in trap):
        raise ValueError("probabilities are between 0 and 1")
    a, after_a, after_b = trap
    best_of_a, best_of_b = a * max(after_a, 1 - after_a), (1 - a) * max(after_b, 1 - after_b)
    return (best_of_a if a >= 0.5 else best_of_b) / max(best_of_a, best_of_b)


exercise.claim(trap, lambda trap: ratio(trap) <= 0.6, "a ratio of at most 0.6")

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Look again at the text $bx$ in "Greedy, and why it loops": greedy judges the first letter without looking at
# what can follow it. Which probabilities of the second letter, after $a$ and after $b$, make this cost the
# most, and how large must $p(a)$ be for greedy to begin with $a$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Let greedy begin with $a$, so $p(a)\ge\tfrac12$. Write $m_a$ for the larger of the two probabilities after
# $a$, and $m_b$ likewise after $b$. If the likeliest text begins with $b$, the ratio is $p(a)\,m_a$ over
# $(1-p(a))\,m_b$. How small can $m_a$ be, and how large $m_b$?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The larger of two probabilities that sum to one is smallest if both are equal, and largest if the other is
# zero. With such second letters the ratio is $\tfrac12\,p(a)/(1-p(a))$. Find the $p(a)$ for which this is
# 0.6, and choose one between $\tfrac12$ and there.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Lead greedy with a hair's breadth, $p(a) = 0.52$, to a place where nothing is decided,
# $p(a\mid a) = 0.5$, while the other way is certain: $0.52\cdot0.5 = 0.26$ against $0.48$. Greedy's two
# factors are at least $\tfrac12$ each, and the rival's are at most $1 - p(a)\le\tfrac12$ and 1; so the ratio
# never falls below $\tfrac12$. With $V$ letters the second factor may be as small as $1/V$, and with more
# steps it gets worse.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
trap = (0.52, 0.5, 1.0)
exercise.claim(trap, lambda trap: ratio(trap) <= 0.6, "a ratio of at most 0.6")

# %% [markdown]
# ### Exercise 2: top-p
#
# Write the cut yourself. From a vector of probabilities, in any order, keep the fewest tokens, the likeliest
# first, that together have at least the probability $p$. Return a vector as long, in the same order, in which
# the others have zero and the kept ones sum to one.


# %% tags=["exercise"]
def nucleus(probs, p):
    return ...


# %% tags=["check"]
def judge_nucleus(answer):
    def library(probs, p):
        return sampling.distribution(np.log(probs), Sampling(temperature=1.0, top_p=p))

    small = np.array([0.1, 0.5, 0.05, 0.35])
    cases = [(small, 0.8), (small, 0.3), (small, 0.97), (probs[0, 5], 0.9), (probs[1, 40], 0.5)]
    return exercise.function(answer, library, *cases)


judge_nucleus(nucleus)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# "Cutting the tail" says what top-p keeps. Go from the likeliest token downwards: what must be known about
# the tokens already kept to decide whether one more is needed?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Sort with the likeliest first (`np.argsort(-probs)` is that order) and sum up from the front, as for the
# edges in "Drawing by hand". A token is needed if the sum of those before it, without its own probability, is
# still below $p$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# With `order = np.argsort(-probs)` and `falling = probs[order]`, the sum before each token is
# `np.cumsum(falling) - falling`. The entries of `order` where this is below $p$ are the places that are kept:
# copy their probabilities into a vector of zeros as long as `probs`, and divide it by its sum.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# A token stays if those likelier than it have not yet reached $p$ together. Asking instead
# whether the sum *with* it is still below $p$ drops the one that crosses the line, and where one token alone
# has more than $p$, drops everything.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def nucleus(probs, p):
    order = np.argsort(-probs)
    before = np.cumsum(probs[order]) - probs[order]
    kept = np.zeros(len(probs))
    kept[order[before < p]] = probs[order[before < p]]
    return kept / kept.sum()


judge_nucleus(nucleus)

# %% [markdown]
# ### Exercise 3: a temperature for the wanted entropy
#
# Instead of a temperature one might ask for an *openness*: "always so hot that there are 2 nats left".
# Write the function that returns the temperature at which the softmax of the logits `z` has an entropy of
# `nats`, right to four digits. That the entropy rises with $T$ everywhere is what makes it possible;
# `entropy(z, T)` is at hand.


# %% tags=["exercise"]
def temperature_for(z, nats):
    return ...


# %% tags=["check"]
def judge_temperature(find):
    def entropy_reached(z, nats):
        T = find(z, nats)
        return T if T is ... else entropy(z, T)

    entropy_reached.__name__ = find.__name__  # the verdict is about the temperature's finder
    cases = [(z, 2.0), (z, 0.5), (logits_after("The stateme"), 1.5), (np.array([2.0, 1.0, 0.0]), 1.0)]
    return exercise.function(entropy_reached, lambda z, nats: nats, *cases, tolerance=1e-4)


judge_temperature(temperature_for)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section "Temperature" shows that the entropy only rises with $T$. How can one find where a rising
# function has a given value, if all that one can do is to compute it at any place?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Start from two temperatures between which the answer lies, such as 0.01 and 1000. Compute the entropy at one
# between them; it tells which of the two parts has the answer. Go on with that part, until it is narrow
# enough.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# If `entropy(z, middle)` is below `nats`, the middle is too cold and becomes the new lower end; otherwise it
# becomes the new upper end. With $\sqrt{\text{low}\cdot\text{high}}$ as the middle, 60 steps are plenty.
# Return the temperature itself, not $\beta = 1/T$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# What only rises can be found by halving: too little entropy, and the temperature lies above
# the middle; too much, and it lies below. We take the middle of the logarithms, since temperatures differ by
# factors. Newton's method, with $dH/dT = \operatorname{Var}(z)/T^3$, would need fewer steps, and some care
# where the slope is nearly zero.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def temperature_for(z, nats):
    low, high = 1e-2, 1e3
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if entropy(z, middle) < nats else (low, middle)
    return middle


judge_temperature(temperature_for)

# %% [markdown]
# ## Where next
#
# We have looked at what comes out of the model. Lesson 17, "Inside your own model", looks at what happens on
# the way: layer by layer, head by head, with the same small model under the microscope.
