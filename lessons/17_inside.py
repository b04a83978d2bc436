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
# # 17. Inside your own model
#
# *After this lesson you can split a prediction of your own model into what each of its parts wrote; read what
# it would have said before its end; switch off a head, or carry an activation from one text into another, and
# measure what that does; and say how far a gradient can be trusted to tell the same.*
#
# A trained transformer, even a small one, is hundreds of thousands of numbers, all in plain sight, and no one
# of them says what it is for. But we wrote every operation between them ourselves, so we can do with it what
# one does with any machine: look at it while it runs, take a part out, put another in. Which parts make the
# prediction, and how would one know?

# %%
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from handgrad import gradcheck, ops, tree
from handgrad.data import batches, token_file
from handgrad.lessons import exercise, knobs, practice, source
from handgrad.lessons.pictures import inside as pictures
from handgrad.model.block import Block
from handgrad.model.transformer import Transformer
from handgrad.plots import attention as plots

np.set_printoptions(precision=3, suppress=True)

# %% [markdown]
# ## The patient
#
# Unless you name another, it is the small model that is trained in half a minute on Python's language
# reference. Much better: train one on a text you know, `handgrad train book.txt --out runs/mine`, and write
# its folder below. The lesson is made for models shaped like `nano`: normalization before each part, learned
# positions, the output head tied to the embedding, characters for tokens.
#
# We go over to float64, so that what should be equal is seen to be equal to the fourteenth digit.

# %%
run = None  # or "../runs/mine": this notebook works in a folder of its own
model = practice.model(run)
config, characters = model.config, model.tokenizer.characters
weights = tree.map(lambda weight: weight.astype(np.float64), model.weights)
transformer = Transformer(config)

text = "If the object is a list, the obj"
ids = model.tokenizer.encode(text)[None]
logits, saved = transformer.forward(weights, ids)
answer, rival = np.argsort(-logits[0, -1])[:2]
says = f"logit of {characters[answer]!r} minus logit of {characters[rival]!r}"
margin = logits[0, -1, answer] - logits[0, -1, rival]
print(f"after {text!r}: {says} is {margin:.3f}")

# %% [markdown]
# ## The stream is a sum
#
# Each block adds to what it is given: $x \leftarrow x + \mathrm{Attention}(\mathrm{Norm}(x))$, and then
# $x \leftarrow x + \mathrm{FeedForward}(\mathrm{Norm}(x))$; the source is below. Nothing is ever overwritten.
# So what arrives at the end of $L$ blocks is a plain sum of everything that was ever written,
#
# $$x_{\mathrm{end}} = \underbrace{E_{id} + P_{pos}}_{\text{start}}
# + \sum_{l=0}^{L-1}\big(a_l + f_l\big),$$
#
# with the token's embedding, its position, and what attention and feed-forward of layer $l$ wrote. This is
# why it is called the residual *stream*: parts read from it and write into it, and all share it. We ask every
# part for what it wrote, from what its last product saved, and add up.

# %%
source.show(Block._forward_pre)

# %%
parts = {"token": weights.embedding[ids], "position": weights.positions[None, : ids.shape[1]]}
for layer, block in enumerate(saved.blocks):
    parts[f"attention {layer}"], _ = ops.linear.forward(*block.attention.output)
    parts[f"feed-forward {layer}"], _ = ops.linear.forward(*block.feed_forward.down)

print("largest difference to the stream's end:", np.max(np.abs(sum(parts.values()) - saved.norm.x)))
lengths = {name: np.linalg.norm(part, axis=-1).mean() for name, part in parts.items()}
pictures.contributions(lengths, xlabel="mean length of what is written", total=False)

# %% [markdown]
# A head's share of this sum can be told apart as well. Attention ends with
# $\operatorname{concat}(h_0,\dots,h_{H-1})\,W_O$, and a row times a matrix is the sum over its entries times
# the matrix's rows. Cut both in pieces of `d_head`: entries of head $i$ meet rows of head $i$ only, and
#
# $$a = \sum_{i} h_i\,W_O^{(i)},\qquad W_O^{(i)} = \text{rows } iK \text{ to } (i+1)K \text{ of } W_O .$$
#
# ## Who made the answer
#
# The logits are products of the *normalized* stream with the embeddings: $z_v = \langle w_v, y\rangle$, with
# $y = \gamma\,(x - \langle x\rangle)\,r$ (and $\beta$, which `nano` does not have; here $\langle x\rangle$ is
# the mean over the row, as in the lesson on normalization). One logit alone means nothing, since softmax does
# not see what is added to all. So take the answer $a$ against its rival $b$, and write
# $u = \gamma\,(w_a - w_b)$:
#
# $$\begin{aligned}
# z_a - z_b &= r\sum_d u_d\,(x_d - \langle x\rangle) \\
# &= r\sum_d (u_d - \langle u\rangle)\,x_d .
# \end{aligned}$$
#
# The second step moves the centring from $x$ to $u$: both sides are
# $r\big(\sum_d u_dx_d - D\langle u\rangle\langle x\rangle\big)$. If we leave the number $r$ as it is in this
# run, that is *linear* in $x$: one direction, $r\,(u - \langle u\rangle)$, multiplied with a sum of parts. So
# each part has a share in the answer, and the shares add up to all of it. (Elhage et al., "A mathematical
# framework for transformer circuits", 2021: direct logit attribution.)

# %%
u = weights.norm.gamma * (weights.embedding[answer] - weights.embedding[rival])
direction = saved.norm.rstd[0, -1] * (u - u.mean())
shares = {name: float(part[0, -1] @ direction) for name, part in parts.items()}
print(f"sum of the shares {sum(shares.values()):.14f}; by the model {margin:.14f}")
pictures.contributions(shares, xlabel=says)

# %% [markdown]
# Read this picture with care. It says what each part wrote *into the answer's direction*, and nothing about
# what a part made possible for others: an attention that fetches a letter so that the feed-forward after it
# can recognize the word gets nothing. For that one has to take parts away, as we shall.
#
# ## The logit lens
#
# If the stream is a sum that grows towards the answer, one may read it before it is complete: put it through
# the final norm and the head after every block, as if the rest of the model did not exist. That is the *logit
# lens* (nostalgebraist, "interpreting GPT: the logit lens", 2020). Nothing in training asks for this to make
# sense. See whether it does: the text that is read stands at the bottom, above each of its characters is a
# column of answers, a row for each stage, and an answer that is right has a frame.


# %%
def read(x):
    """Probabilities of the next token, if the stream ended here."""
    y, _ = ops.layer_norm.forward(x, *weights.norm, eps=config.norm_eps)
    logits, _ = ops.unembedding.forward(y, weights.embedding)
    return ops.softmax.forward(logits)[0]


def stages(saved):
    """The stream at its start and after every block: what each next part was given to normalize."""
    return [block.norm1.x for block in saved.blocks] + [saved.norm.x]


names = ["start", *(f"block {layer}" for layer in range(config.n_layers))]


def lens(text):
    _, saved = transformer.forward(weights, model.tokenizer.encode(text)[None])
    probs = np.array([read(x)[0] for x in stages(saved)])
    best = [[characters[i] for i in row.argmax(axis=-1)] for row in probs]
    return pictures.logit_lens(text, best, probs.max(axis=-1), stages=names)


print("the last row is the model's own:", np.array_equal(read(saved.norm.x), ops.softmax.forward(logits)[0]))
knobs.turn(lens, text=["for the name of the class", "If the object is a list,", "return the value of a key"])

# %% [markdown]
# At the start the lens answers with the very character that was read, nearly everywhere. There is nothing
# deep in it: the stream is that character's embedding there (and a position), the head is the same table, and
# a vector has its largest product mostly with itself. The blocks have to drown that character out before
# anything can be said about the next one.
#
# One sentence is an anecdote, so we do it for text that the model did not learn from. The loss of each stage
# is what the model would have if it ended there.

# %%
tokens = token_file.read(Path(run or practice.FOLDER) / "tokens.bin", config.vocab_size)
learned, unseen = batches.split(tokens, config.context_length)
token_ids, targets = next(batches.spread(unseen, 24, config.context_length, 24))
_, seen = transformer.forward(weights, token_ids)
print("stage      loss   right   answers with what it read")
for name, x in zip(names, stages(seen), strict=True):
    probs = read(x)
    loss = -np.log(np.take_along_axis(probs, targets[..., None], axis=-1)).mean()
    best = probs.argmax(axis=-1)
    print(f"{name:8} {loss:6.3f}  {np.mean(best == targets):6.1%}  {np.mean(best == token_ids):6.1%}")

# %% [markdown]
# ## Where heads look
#
# The probabilities of every head are in `saved`. Turn the knob: a row is a character that looks, a column one
# that is looked at, and the darker a cell, the more of the row's attention goes there. The hatched half is
# the future, which the causal mask hides.


# %%
def looks(saved, layer):
    """Attention probabilities (B, H, T, S) of a layer."""
    probs = saved.blocks[layer].attention.attention.probs.y
    return probs.reshape(probs.shape[0], config.n_heads, *probs.shape[3:])


def attention_maps(layer):
    shown = text[:18]
    titles = [f"layer {layer}, head {head}" for head in range(config.n_heads)]
    probs = looks(saved, layer)[0, :, : len(shown), : len(shown)]
    return plots.maps(probs, shown, titles=titles, columns=2)


knobs.turn(attention_maps, layer=list(range(config.n_layers)))

# %% [markdown]
# One is soon tempted to tell stories about such maps. A habit that can be counted is more than a story. Here
# is, over the unseen text, how much each head looks at the character itself, at the one before it, at the one
# before that: means over all but the first positions.


# %%
def habit(looks, n=12):
    """Mean attention of a head (B, T, S) to what stands 0, 1, 2, ... characters before."""
    return [np.diagonal(looks, -distance, 1, 2)[:, n:].mean() for distance in range(n)]


heads = [(layer, head) for layer in range(config.n_layers) for head in range(config.n_heads)]
habits = np.array([habit(looks(seen, layer)[:, head]) for layer, head in heads])
pictures.by_distance(habits, heads=[f"{layer}.{head}" for layer, head in heads])

# %% [markdown]
# And even a habit is not a reason: a head may look somewhere and do nothing with it (Jain and Wallace,
# "Attention is not explanation", 2019). To know what a part is good for, one takes it out.
#
# ## Switching off a head
#
# From the sum above, $a = \sum_i h_i W_O^{(i)}$: set the rows of one head in $W_O$ to zero, and its summand
# is zero, whatever it looked at; all other summands of this layer stay as they were. What comes *after* it
# reacts, and that is the point. Weights are ordinary arrays in NamedTuples, so a changed model is a copy with
# one branch replaced.


# %%
def rows(head):
    return slice(head * config.head_width, (head + 1) * config.head_width)


def with_block(layer, **changed):
    blocks = list(weights.blocks)
    blocks[layer] = blocks[layer]._replace(**changed)
    return weights._replace(blocks=tuple(blocks))


def without_head(layer, head):
    attention = weights.blocks[layer].attention
    weight = attention.output.weight.copy()
    weight[rows(head)] = 0.0
    return with_block(layer, attention=attention._replace(output=attention.output._replace(weight=weight)))


def without_feed_forward(layer):
    feed_forward = weights.blocks[layer].feed_forward
    nothing = tree.map(np.zeros_like, feed_forward.down)
    return with_block(layer, feed_forward=feed_forward._replace(down=nothing))


_, silenced = transformer.forward(without_head(0, 2), ids)
output = saved.blocks[0].attention.output
wrote = output.x[..., rows(2)] @ output.weight[rows(2)]
gone = saved.blocks[0].norm2.x - silenced.blocks[0].norm2.x  # the stream after attention, before and after
print(f"what is gone is what head 0.2 wrote, up to {np.max(np.abs(gone - wrote)):.0e}")

# %% [markdown]
# Now one part after the other, and each time the loss on the unseen text (Michel, Levy and Neubig, "Are
# sixteen heads really better than one?", 2019). All are measured on the same characters, so what chance can
# do is in the scatter of the *differences*. Neighbouring characters are no independent draws: where a word is
# easy, all of its characters are. So we take the mean of each of the 24 pieces of text, which lie far apart,
# and the scatter of these means: the line above the picture has their standard error for the heads, and a
# rise of less than two of those may be chance.


# %%
def surprise(weights):
    """-ln p of every character of the unseen text."""
    logits, _ = transformer.forward(weights, token_ids)
    probs, _ = ops.softmax.forward(logits)
    return -np.log(np.take_along_axis(probs, targets[..., None], axis=-1)[..., 0])


whole = surprise(weights)
rises, errors = np.empty((2, config.n_layers, config.n_heads + 1))
for layer, part in np.ndindex(rises.shape):
    last = part == config.n_heads
    rise = surprise(without_feed_forward(layer) if last else without_head(layer, part)) - whole
    pieces = rise.mean(axis=1)
    rises[layer, part], errors[layer, part] = pieces.mean(), pieces.std(ddof=1) / np.sqrt(len(pieces))

print(f"loss {whole.mean():.3f}; the heads' rises have standard errors up to {errors[:, :-1].max():.3f}")
parts_of_a_layer = [*(f"head {head}" for head in range(config.n_heads)), "feed-forward"]
pictures.ablation(
    rises, layers=[f"layer {layer}" for layer in range(config.n_layers)], parts=parts_of_a_layer
)

# %% [markdown]
# Compare this with the shares above: a part that wrote nearly nothing into the answer can be one that the
# model cannot do without. And a part whose loss changes nothing need not be idle: another may do the same
# work, and only both together would be missed. An ablation measures what is *missing* when a part is gone, in
# a model that never learned to do without it. (Zero is also a value that the head may never write. The second
# exercise takes its mean instead.)
#
# ## Carrying an activation over
#
# The sharpest question is *where* a fact is kept. Take two texts that differ in one character, and with it
# in what should come next; call them *clean* and *corrupted*. Run both. Then run the corrupted one again,
# but at one place, after one block, put in the stream of the clean one, a single row of $D$ numbers. If the
# answer swings over to the clean text's, what decides it was in that row. (Meng, Bau, Andonian and
# Belinkov, "Locating and editing factual associations in GPT", 2022, did this with facts in large models;
# it is called *activation patching*.)
#
# We follow the two characters whose probabilities differ most between the runs: the one that the clean run
# favours, and the one that the corrupted run does. Their difference of logits is 0 in the picture where it is
# as in the corrupted run, and 1 where it is as in the clean one; an empty cell is nearly 0.


# %%
def run_on(x, layer):
    """The logits, from the stream in front of block `layer`."""
    for block_weights in weights.blocks[layer:]:
        x, _ = transformer.block.forward(x, block_weights)
    y, _ = ops.layer_norm.forward(x, *weights.norm, eps=config.norm_eps)
    return ops.unembedding.forward(y, weights.embedding)[0]


clean, corrupted = "the value is whe", "the value is the"
runs = [transformer.forward(weights, model.tokenizer.encode(text)[None]) for text in (clean, corrupted)]
probs = [ops.softmax.forward(logits[0, -1])[0] for logits, _ in runs]
one, other = np.argmax(probs[0] - probs[1]), np.argmax(probs[1] - probs[0])
for text_run, p in zip((clean, corrupted), probs, strict=True):
    print(f"after {text_run!r}: {characters[one]!r} {p[one]:.2f}, {characters[other]!r} {p[other]:.2f}")


# %%
def swing(logits):
    return logits[0, -1, one] - logits[0, -1, other]


from_, to = swing(runs[1][0]), swing(runs[0][0])
restored = np.empty((len(names), len(clean)))
for layer, (x_clean, x_corrupted) in enumerate(zip(stages(runs[0][1]), stages(runs[1][1]), strict=True)):
    for position in range(len(clean)):
        x = x_corrupted.copy()
        x[:, position] = x_clean[:, position]
        restored[layer, position] = (swing(run_on(x, layer)) - from_) / (to - from_)

pictures.patching(restored, clean, corrupted, stages=names)

# %% [markdown]
# The first and the last row must be what they are, which is a good test of the code: at the start the texts
# differ in one character's row alone, and at the end only the last row is read. Everything between is
# discovery. The difference has to travel from the changed character to the last one, and only attention can
# carry it: the first row in which most of it stands in the last column tells which block does it. Columns
# before the change are zero in all rows, because attention looks only backwards.
#
# ## What a gradient says
#
# To try out every place takes a run for each. A gradient promises the same from a single backward pass: the
# slope of the answer, $z_a - z_b$, with respect to the stream's start at *every* position at once (Simonyan,
# Vedaldi and Zisserman, "Deep inside convolutional networks", 2013). We have every backward that is needed:
# `slope_at_start` undoes the lines of `answer_from_start` from the last to the first.


# %%
def answer_from_start(x):
    blocks = []
    for block_weights in weights.blocks:
        x, saved = transformer.block.forward(x, block_weights)
        blocks.append(saved)
    y, norm = ops.layer_norm.forward(x, *weights.norm, eps=config.norm_eps)
    logits, head = ops.unembedding.forward(y, weights.embedding)
    return logits[0, -1, answer] - logits[0, -1, rival], (blocks, norm, head, logits.shape)


def slope_at_start(dy, saved):
    blocks, norm, head, shape = saved
    dlogits = np.zeros(shape)
    dlogits[0, -1, answer], dlogits[0, -1, rival] = dy, -dy
    dx, _ = ops.unembedding.backward(dlogits, head)
    dx, *_ = ops.layer_norm.backward(dx, norm)
    for block in reversed(blocks):
        dx, _ = transformer.block.backward(dx, block)
    return (dx,)


start = saved.blocks[0].norm1.x
answer_op = SimpleNamespace(forward=answer_from_start, backward=slope_at_start)
(proof,) = gradcheck.check(answer_op, {"x": start}, np.random.default_rng(0))
print(f"along a random direction: derived {proof.derived:.9f}, measured {proof.measured:.9f}")

(slope,) = slope_at_start(1.0, answer_from_start(start)[1])
dlogits = np.zeros_like(logits)
dlogits[0, -1, answer], dlogits[0, -1, rival] = 1.0, -1.0
(gradients,) = transformer.backward(dlogits, saved)
print("the positions' gradient is the same:", np.allclose(gradients.positions[: ids.shape[1]], slope[0]))

# %% [markdown]
# The last line is a shortcut worth knowing: position $t$ adds its row to the stream at $t$, so the gradient
# of that row *is* the slope of the stream there, and the library's whole backward has it in its result.
#
# Now ask: how much does the answer owe to each character? Let the character at $t$ fade, by moving its
# embedding $e_t$ towards the mean embedding $\bar e$ of the text by a fraction $\alpha$. With the slope $g_t$
# at that position the answer should change by
#
# $$-\alpha\,\langle g_t,\ e_t - \bar e\rangle ,$$
#
# and we can measure by how much it does, for all positions in one batch. Both are divided by $\alpha$ in the
# picture; the knob `fraction` is $\alpha$. Begin at a hundredth.

# %%
counts = np.bincount(learned, minlength=config.vocab_size)
average = counts @ weights.embedding / counts.sum()
fading = weights.embedding[ids[0]] - average
predicted = -np.sum(slope[0] * fading, axis=-1)
positions = np.arange(ids.shape[1])


def fade(fraction):
    x = np.repeat(start, len(positions), axis=0)
    x[positions, positions] -= fraction * fading
    moved = run_on(x, 0)[:, -1]
    change = moved[:, answer] - moved[:, rival] - margin
    return pictures.saliency(
        text, predicted, change / fraction, ylabel=r"change of the answer, over $\alpha$"
    )


knobs.turn(fade, fraction=[0.01, 0.1, 0.3, 1.0])

# %% [markdown]
# At a hundredth the dots sit on the bars: the gradient is right. At 1, where the character is really gone,
# they need not: an answer may hardly move at first and fall off further out, so that the very character on
# which most depends may have a small bar, or one of the wrong sign. See whether there is one here. A gradient
# is a slope at one point; taking away is a walk. Both are true answers, to different questions. (The third
# exercise walks and adds up slopes, and so gets the whole difference.)
#
# ## Which characters became neighbours
#
# Last, the embeddings themselves. Nobody told the model what a vowel is, or that `3` and `4` have something
# in common. But characters that stand in similar surroundings receive similar gradients, so their rows are
# pushed in similar directions. We take the characters that occurred at least a hundred times, less their
# mean, at length one, and look at them along the two directions in which they vary most.
#
# The two directions show only the share of the variance that is written at the axes, and eyes find groups in
# any cloud. So there is a judge as well: are two characters of one kind more alike, by the cosine of their
# vectors, than two of different kinds? And could that be chance? If the kinds meant nothing, dealing them out
# anew at random would give as much, now and then.

# %%
often = np.flatnonzero(counts >= 100)
vectors = weights.embedding[often] - weights.embedding[often].mean(axis=0)
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
known = [characters[i] for i in often]
kinds = {"vowels": "aeiou", "consonants": "bcdfghjklmnpqrstvwxyz", "digits": "0123456789"}
kinds["capitals"] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

cosine = vectors @ vectors.T
for character in (c for c in "ae1TS(" if c in known):
    nearest = np.argsort(-cosine[known.index(character)])[1:5]
    print(character, "is nearest to", " ".join(repr(known[i]) for i in nearest))

# %%
kind = np.array([next((k for k, group in enumerate(kinds.values()) if c in group), -1) for c in known])
among = cosine[np.ix_(kind >= 0, kind >= 0)]
kind = kind[kind >= 0]


def gap(kind):
    """Mean cosine within kinds, less the mean cosine between them."""
    same = kind[:, None] == kind
    return among[same & ~np.eye(len(kind), dtype=bool)].mean() - among[~same].mean()


rng = np.random.default_rng(0)
dealt = max(gap(rng.permutation(kind)) for _ in range(1000))
print(f"more alike within a kind by {gap(kind):.3f}; in the largest of 1000 random dealings by {dealt:.3f}")
pictures.neighbours(vectors, known, kinds=kinds)

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: which head wrote it
#
# The bars of "Who made the answer" show attention as one. Split a layer's bar into its heads: return an array
# with the share of each head in the logit difference, at the last position of `text`. At hand are
# `saved.blocks[layer].attention.output` (its `x`, the heads' outputs side by side, and its `weight`),
# `rows(head)` and `direction`.


# %% tags=["exercise"]
def shares_of_heads(layer):
    return ...


# %% tags=["check"]
def with_others_silent(layer):
    """What is left of the share when all heads but one are switched off."""
    x, weight, _ = saved.blocks[layer].attention.output
    kept = [np.zeros_like(weight) for _ in range(config.n_heads)]
    for head in range(config.n_heads):
        kept[head][rows(head)] = weight[rows(head)]
    return np.array([(x @ only)[0, -1] @ direction for only in kept])


exercise.function(shares_of_heads, with_others_silent, 0, config.n_layers - 1)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The end of "The stream is a sum" splits what attention writes into one summand for each head. "Who made the
# answer" turns anything that was written into a share. Only the last position counts here.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The share of head $i$ is the product of the row $h_iW_O^{(i)}$ with `direction`. Here $h_i$ is the head's
# piece of `x` at the last position, and $W_O^{(i)}$ are its rows of `weight`; `rows(head)` cuts out both.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `x[0, -1, rows(head)]` has the shape $(K,)$ and `weight[rows(head)]` the shape $(K, D)$, so their product is
# a full row of $D$ numbers. Take its product with the whole of `direction`, without cutting any columns, and
# gather one number for each head.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Head $i$ writes $h_iW_O^{(i)}$: its entries of the row, times its rows of the matrix. The shares of the
# heads add up to attention's bar.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def shares_of_heads(layer):
    x, weight, _ = saved.blocks[layer].attention.output
    written = [x[0, -1, rows(head)] @ weight[rows(head)] for head in range(config.n_heads)]
    return np.array(written) @ direction


exercise.function(shares_of_heads, with_others_silent, 0, config.n_layers - 1)

# %% [markdown]
# ### Exercise 2: not zero, but the usual
#
# A head that always writes the same is no help, and yet setting it to zero may do harm: everything after it
# has got used to what it writes. So replace a head by its *mean* over text: `means[layer]` holds the mean
# row of all heads' outputs, side by side, before $W_O$. Return weights (as `without_head` does) in which
# the head writes its mean at every position. A `Linear` has a second field, `bias`.

# %% tags=["exercise"]
means = [block.attention.output.x.mean(axis=(0, 1)) for block in seen.blocks]


def mean_head(layer, head):
    return ...


# %% tags=["check"]
def logits_of_answer(layer, head):
    changed = mean_head(layer, head)
    return changed if changed is ... else transformer.forward(changed, token_ids[:2])[0]


def logits_by_hand(layer, head):
    """The forward itself, stopped where the heads stand side by side, changed there, and run on."""
    _, run = transformer.forward(weights, token_ids[:2])
    side_by_side, block = run.blocks[layer].attention.output.x.copy(), weights.blocks[layer]
    side_by_side[..., rows(head)] = means[layer][rows(head)]
    x = run.blocks[layer].norm1.x + ops.linear.forward(side_by_side, *block.attention.output)[0]
    h, _ = ops.layer_norm.forward(x, *block.norm2, eps=config.norm_eps)
    h, _ = ops.feed_forward.forward(h, *block.feed_forward, activation=config.activation)
    return run_on(x + h, layer + 1)


logits_of_answer.__name__ = "mean_head"  # the verdict is about this one
exercise.function(logits_of_answer, logits_by_hand, (0, 1), (0, config.n_heads - 1), (1, 0))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The head's summand is $h_iW_O^{(i)}$. What becomes of it if $h_i$ is the same row at every position, and
# which part of a linear layer writes the same row everywhere?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Change two fields of `attention.output`. In `weight` the head's rows become zero, as in `without_head`, so
# that it no longer writes what it computes. `bias` gains the row of $D$ numbers that the mean of this head
# alone would write.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# That row is `means[layer][rows(head)] @ weight[rows(head)]`, with the rows as they were before you zero them
# in a copy. Where `bias` is `None`, as in `nano`, the row is the bias; otherwise add it. Then `_replace` and
# `with_block` give the new weights.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The head's summand becomes a constant row, $\bar h_iW_O^{(i)}$, the same at every position: that is what a
# bias is. So zero the rows, as before, and add that row to the bias, of which there may be none yet.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def mean_head(layer, head):
    attention = weights.blocks[layer].attention
    weight, bias = attention.output
    constant = means[layer][rows(head)] @ weight[rows(head)]
    weight = weight.copy()
    weight[rows(head)] = 0.0
    output = attention.output._replace(weight=weight, bias=constant if bias is None else bias + constant)
    return with_block(layer, attention=attention._replace(output=output))


exercise.function(logits_of_answer, logits_by_hand, (0, 1), (0, config.n_heads - 1), (1, 0))

# %% [markdown]
# ### Exercise 3: a walk that adds up
#
# Let $f$ be the answer, from the start of the stream, and $x'$ a start at which every character is the
# average one. Along the straight line between them, by the chain rule and the fundamental theorem,
#
# $$\begin{aligned}
# f(x) - f(x') &= \int_0^1 \frac{d}{ds} f\big(x' + s(x - x')\big)\,ds \\
# &= \sum_t \int_0^1\big\langle g_t,\ x_t - x'_t\big\rangle\,ds
# \end{aligned}$$
#
# with $g_t$, the slope at position $t$, taken at $x' + s(x - x')$. So
# every position gets a share, and the shares add up to the whole (Sundararajan, Taly and Yan, "Axiomatic
# attribution for deep networks", 2017: integrated gradients). Write it, with the mean of `n` slopes for the
# integral, taken at the midpoints $s = (k + \tfrac12)/n$ for $k$ from 0 to $n - 1$. `x` and `x_average` are
# streams like `start`, $(1, T, D)$; return an array $(T,)$, a share for each position. At hand are
# `answer_from_start` and `slope_at_start`.


# %% tags=["exercise"]
def integrated(x, x_average, n=32):
    return ...


# %% tags=["check"]
def sum_of_shares(x_average):
    shares = integrated(start, x_average)
    if shares is not ... and np.shape(shares) != (len(text),):
        raise ValueError(f"one share for each of {len(text)} positions, please")
    return shares if shares is ... else np.sum(shares)


def difference(x_average):
    return margin - answer_from_start(x_average)[0]


sum_of_shares.__name__ = "integrated"  # the verdict is about this one
all_average = average + weights.positions[None, : ids.shape[1]]
half_average = np.where(positions[:, None] % 2, start, all_average)
exercise.function(sum_of_shares, difference, all_average, half_average, tolerance=1e-2)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# "What a gradient says" takes the slope at one start. Here slopes are needed at `n` places on the line from
# `x_average` to `x`. Which two functions together give the slope at any start?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# At each midpoint $s$, call `answer_from_start` at $x' + s(x - x')$, and `slope_at_start` with `dy = 1.0` and
# what the forward saved. The mean of these slopes has the shape $(1, T, D)$. The factor $x - x'$ does not
# depend on $s$ and can wait until after the sum.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $\langle\cdot,\cdot\rangle$ sums over the $D$ numbers of one position. So multiply the mean slope by
# `x - x_average` entry by entry, sum over the last axis only, and take the one row of the batch. Mind that
# `slope_at_start` returns a tuple with one entry.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# A slope for every midpoint, by the forward and the backward from above; their mean, times the way that each
# position has gone. With more midpoints the sum comes as near to the difference as you like.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def integrated(x, x_average, n=32):
    mean = np.zeros_like(x)
    for s in (np.arange(n) + 0.5) / n:
        _, saved = answer_from_start(x_average + s * (x - x_average))
        mean += slope_at_start(1.0, saved)[0] / n
    return np.sum(mean * (x - x_average), axis=-1)[0]


exercise.function(sum_of_shares, difference, all_average, half_average, tolerance=1e-2)

# %% [markdown]
# ## Where next
#
# To a model of your own, if this was not one: train it, write its folder in the cell of "The patient", and
# run the lesson again. Does the same head matter? Do the same characters gather? Everything used here is
# gathered in the page "Take a model apart" of the documentation. Lesson 18, "Scaling", asks how all of this
# changes with the model's size.
