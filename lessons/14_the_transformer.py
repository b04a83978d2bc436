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
# # 14. The whole transformer
#
# *After this lesson you can write a transformer's block and its backward from ops, follow a batch through the
# whole model to one number and back to a gradient for every weight, and say what a model costs before you
# build it.*
#
# Embedding, positions, norms, attention and cross-entropy are known by now. Two questions are left. How are
# they put together so that depth helps instead of harming? And how does the gradient find its way back
# through all of it, from one number to every weight? The answer to both is short: a block is six lines, and
# its backward undoes the same six, from the last to the first. One part, the feed-forward block, has not been
# looked at closely yet; we begin with it.

# %%
from types import SimpleNamespace

import numpy as np

import handgrad
from handgrad import gradcheck, ops, tree
from handgrad import parameters as p
from handgrad import tokenizer as tokenizers
from handgrad.data import corpus
from handgrad.lessons import exercise, knobs, mine, source, terms
from handgrad.lessons.pictures import block as block_pictures
from handgrad.lessons.pictures import budget as budget_pictures
from handgrad.model.block import Block
from handgrad.model.config import PRESETS, ModelConfig
from handgrad.model.count import count
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer

# %% [markdown]
# ## The feed-forward block
#
# Attention carries information *between* positions. What is made of it *at* a position is the work of the
# second half of each block (Vaswani et al., "Attention is all you need", 2017, section 3.3): two affine
# layers with an activation between them, applied to every position by itself,
#
# $$\begin{aligned}
# z &= x\,W_1 + b_1,\\
# h &= f(z),\\
# y &= h\,W_2 + b_2,
# \end{aligned}$$
#
# where $W_1$ is $D\times F$ and $W_2$ is $F\times D$. One can read hidden unit $j$ as a question and an
# answer: column $j$ of $W_1$ asks whether $x$ points its way, and as far as it does, row $j$ of $W_2$ is
# added to $y$ (Geva et al., "Transformer feed-forward layers are key-value memories", 2021). $F = 4D$ is a
# habit since the first transformer, which had 512 and 2,048, and no law.
#
# On paper, with $D = 2$, $F = 3$, a ReLU and no biases:
#
# $$W_1 = \begin{pmatrix}1&-1&0\\0&1&-1\end{pmatrix},\quad
# W_2 = \begin{pmatrix}1&0\\2&1\\5&-5\end{pmatrix}$$
#
# make of $x = (1, 2)$, one after the other,
#
# $$z = (1, 1, -2),\quad h = (1, 1, 0),\quad y = (3, 1)$$
#
# and back, the three steps in reverse, with $dy = (1, -1)$:
#
# $$dh = dy\,W_2^\top = (1, 1, 10),\qquad dz = dh * f'(z) = (1, 1, 0),\qquad dx = dz\,W_1^\top = (0, 1)$$
#
# The third unit has the largest $dh$ and is closed: nothing of it comes through, and of $dW_1 = x^\top dz$
# and $dW_2 = h^\top dy$ its column and its row are zero. From this token it learns nothing.

# %%
x = np.array([[1.0, 2.0]])
up, down = p.Linear(np.array([[1.0, -1, 0], [0, 1, -1]])), p.Linear(np.array([[1.0, 0], [2, 1], [5, -5]]))
y, saved = ops.feed_forward.forward(x, up, down, activation="relu")
dx, dup, ddown, *_ = ops.feed_forward.backward(np.array([[1.0, -1.0]]), saved)
print("y  ", *y, "\ndx ", *dx)
print("dW1", *dup.weight, "\ndW2", *ddown.weight)

# %% [markdown]
# ### A gate
#
# Newer models ask twice: beside the projection that makes the hidden units stands a second one which, through
# the activation, opens or closes each of them (Dauphin et al., 2016; Shazeer, "GLU variants improve
# transformer", 2020):
#
# $$h = f(g) * u,\qquad g = x\,W_g,\quad u = x\,W_1,\qquad y = h\,W_2$$
#
# The product rule gives both their share, and since $x$ went into two products, its gradient is a sum of two:
#
# $$dg = (dh * u) * f'(g),\qquad du = dh * f(g),\qquad dx = dg\,W_g^\top + du\,W_1^\top$$
#
# Three matrices instead of two weigh as much as before if $3DF = 8D^2$, so gated models take $F = \frac83 D$,
# rounded up to a number that suits processors.
#
# ## A block
#
# Through all blocks runs one array of shape $(B, T, D)$, the *residual stream*. A block is attention, then
# feed-forward. Each works on a normalized copy of the stream, and *adds* what it found instead of replacing
# what was there (He et al., "Deep residual learning for image recognition", 2015):
#
# $$x \leftarrow x + \operatorname{Attention}(\operatorname{Norm}_1(x)),\qquad
# x \leftarrow x + \operatorname{FeedForward}(\operatorname{Norm}_2(x))$$
#
# On the left of the drawing is the forward; below it are its lines in ops. What each op saves is kept for the
# way back.

# %%
block_pictures.drawing("pre")

# %%
config = ModelConfig(context_length=16, n_layers=4, n_heads=4, d_model=32)


def block_forward(x, w):
    h, norm1 = ops.layer_norm.forward(x, *w.norm1)
    h, attention = ops.multi_head_attention.forward(h, *w.attention, n_heads=4, n_kv_heads=4)
    x = x + h
    h, norm2 = ops.layer_norm.forward(x, *w.norm2)
    h, feed_forward = ops.feed_forward.forward(h, *w.feed_forward, activation="gelu")
    x = x + h
    return x, (norm1, attention, norm2, feed_forward)


# %% [markdown]
# ## The mirror image
#
# Now the right half of the drawing. The gradient comes in where the output went out, and passes the same
# places in the opposite order. Beside each line of the forward stands the one that undoes it; read the left
# column downwards and the right one upwards.
#
# | forward, down | backward, up |
# |---|---|
# | `h = norm1(x)` | `dh = norm1.backward(dh)`, then `dx = dx + dh` |
# | `h = attention(h)` | `dh = attention.backward(dx)` |
# | `x = x + h` | both get `dx` |
# | `h = norm2(x)` | `dh = norm2.backward(dh)`, then `dx = dy + dh` |
# | `h = feed_forward(h)` | `dh = feed_forward.backward(dy)` |
# | `x = x + h` | both get `dy` |
#
# There is one rule in it that is not "the same, backwards": *where the forward copies, the backward adds, and
# where the forward adds, the backward copies.* A sum $x + h$ has the derivative one in both arguments, so
# both receive what comes from above. And an $x$ that was used twice moves the loss in two ways; their slopes
# add.
#
# Whether the lines below are right, the proof tells: it moves each array along a random direction, measures
# how the output moves, and compares that with what our backward says.


# %%
def block_backward(dy, saved):
    norm1, attention, norm2, feed_forward = saved
    dh, *dfeed_forward = ops.feed_forward.backward(dy, feed_forward)
    dh, *dnorm2 = ops.layer_norm.backward(dh, norm2)
    dx = dy + dh  # two paths, one sum
    dh, *dattention = ops.multi_head_attention.backward(dx, attention)
    dh, *dnorm1 = ops.layer_norm.backward(dh, norm1)
    dx = dx + dh
    norms = p.LayerNorm(*dnorm1), p.LayerNorm(*dnorm2)
    parts = p.MultiHeadAttention(*dattention), p.FeedForward(*dfeed_forward)
    return dx, p.Block(norms[0], parts[0], norms[1], parts[1])


# %%
rng = np.random.default_rng(0)
w = tree.map(lambda a: a + 0.2 * rng.normal(size=a.shape), init(config, 0, np.float64).blocks[0])
x = rng.normal(size=(1, 6, 32))
ours = SimpleNamespace(forward=block_forward, backward=block_backward)
proofs = gradcheck.check(ours, {"x": x, "w": w}, np.random.default_rng(1))
worst = max(proofs, key=lambda proof: proof.relative_error)
print(f"{sum(proof.passed for proof in proofs)} of {len(proofs)} arrays are proved")
print(f"the worst is {worst.input}, with a relative error of {worst.relative_error:.0e}")

# %% [markdown]
# The library's block is the same, plus dropout on what is added, and a choice of norms and positions. Its
# `ops` may be the formulas or an engine's kernels: the wiring does not care.

# %%
source.show(Block._forward_pre, Block._backward_pre)

# %% [markdown]
# ## Why a block adds
#
# Lesson 13 derived it: with residuals the derivative through $L$ blocks is a sum over all ways of passing
# some of them and going around the others, and one of these ways passes no weight at all. However deep the
# stack, a gradient reaches its beginning undamped. Without the residual only the longest way is left, a
# product of $L$ Jacobians, which shrinks or grows exponentially: gradients *vanish* or *explode*.
#
# The original transformer normalized *after* the sum,
# $x \leftarrow \operatorname{Norm}(x + \operatorname{Layer}(x))$, on the stream itself ("post-norm"). GPT-2
# moved the norms before the layers ("pre-norm"), off the direct path.

# %%
block_pictures.drawing("post")

# %% [markdown]
# What does a norm do to the direct path? Say a layer's output is as large as the stream and independent of
# it. Then their sum is $\sqrt2$ times as large, the norm upon it divides by $\sqrt2$, and what comes along
# the direct path with it: once for each layer, so that every block halves it. In pre-norm nothing stands on
# that path.
#
# We send a random gradient back through a stack of new blocks and look at its size on the way. `loudness`
# multiplies the matrices that write into the stream (1 is how the library begins); "bare" is the same stack
# with neither residuals nor norms. Of the post-norm stack we follow the direct path alone as well.


# %%
def bare_forward(x, w):
    h, attention = ops.multi_head_attention.forward(x, *w.attention, n_heads=4, n_kv_heads=4)
    h, feed_forward = ops.feed_forward.forward(h, *w.feed_forward, activation="gelu")
    return h, (attention, feed_forward)


def bare_backward(dy, saved):
    dh, *_ = ops.feed_forward.backward(dy, saved[1])
    return ops.multi_head_attention.backward(dh, saved[0])


def direct_path(dy, saved):
    dx, *_ = ops.layer_norm.backward(dy, saved.norm2)
    return ops.layer_norm.backward(dx, saved.norm1)


post = Block(config.replace(norm_placement="post"))
STACKS = {
    "pre-norm": (block_forward, block_backward),
    "post-norm": (post.forward, post.backward),
    "post-norm, direct path": (post.forward, direct_path),
    "bare": (bare_forward, bare_backward),
}


# %%
def louder(w, factor):
    output, down = w.attention.output, w.feed_forward.down
    attention = w.attention._replace(output=output._replace(weight=factor * output.weight))
    feed_forward = w.feed_forward._replace(down=down._replace(weight=factor * down.weight))
    return w._replace(attention=attention, feed_forward=feed_forward)


def sizes_on_the_way_back(forward, backward, blocks):
    x, dx = np.random.default_rng(2).normal(size=(2, 2, 16, 32))
    sizes, every_saved = [1.0], []
    for w in blocks:
        x, saved = forward(x, w)
        every_saved.append(saved)
    for saved in reversed(every_saved):
        before = np.linalg.norm(dx)
        dx, *_ = backward(dx, saved)
        sizes.insert(0, sizes[0] * np.linalg.norm(dx) / before)
    return sizes


def way_back(n_layers, loudness):
    blocks = [louder(w, loudness) for w in init(config.replace(n_layers=n_layers), 0, np.float64).blocks]
    curves = {name: sizes_on_the_way_back(*stack, blocks) for name, stack in STACKS.items()}
    return block_pictures.gradient_sizes(curves)


knobs.turn(way_back, n_layers=[4, 12, 24], loudness=[1, 10, 50])

# %% [markdown]
# The bare stack loses its gradient within a few blocks or, made louder, lets it explode; the deeper it is,
# the fewer settings lie between. With residuals and norms the gradient stays near level, at any depth. Pre
# and post differ in *what* arrives: in post-norm with loud layers the direct path fades, and what is left has
# gone through the layers' weights. Training it needs more care, a long warm-up of the learning rate, which
# pre-norm can do without (Xiong et al., "On layer normalization in the transformer architecture", 2020). The
# price of pre-norm is small: the stream grows as blocks add to it, so that a last norm has to stand before
# the head.
#
# ## The whole model
#
# What remains is a frame around the stack of blocks. (The first transformer was made to translate, and had
# two stacks: an *encoder*, which reads one text without a causal mask, and a *decoder*, which writes the
# other, and looks into the encoder by cross-attention. A model that only writes needs the decoder alone,
# without that look: so are GPT, Llama, and all presets of handgrad, `paper` too.)
#
# | step | shape |
# |---|---|
# | token ids | $(B, T)$, integers |
# | embedding: each id picks its row of a table | $(B, T, D)$ |
# | plus the vectors of the positions | $(B, T, D)$ |
# | $L$ blocks | $(B, T, D)$ |
# | the last norm | $(B, T, D)$ |
# | head: the product with every row of the table | $(B, T, V)$, logits |
# | cross-entropy with the ids that really came next | one number |
#
# Forward and backward, all of it, with our own block inside:


# %%
def model_forward(w, token_ids, targets):
    x, embedding = ops.embedding.forward(w.embedding, token_ids)
    x, positions = ops.learned_position.forward(x, w.positions)
    blocks = []
    for block in w.blocks:
        x, saved = block_forward(x, block)
        blocks.append(saved)
    x, norm = ops.layer_norm.forward(x, *w.norm)
    logits, head = ops.unembedding.forward(x, w.embedding)
    loss, cross_entropy = ops.softmax_cross_entropy.forward(logits, targets)
    return loss, (embedding, positions, blocks, norm, head, cross_entropy)


def model_backward(saved):
    embedding, positions, blocks, norm, head, cross_entropy = saved
    (dlogits,) = ops.softmax_cross_entropy.backward(1.0, cross_entropy)
    dx, dhead = ops.unembedding.backward(dlogits, head)
    dx, *dnorm = ops.layer_norm.backward(dx, norm)
    dblocks = []
    for block in reversed(blocks):
        dx, dblock = block_backward(dx, block)
        dblocks.insert(0, dblock)
    dx, dpositions = ops.learned_position.backward(dx, positions)
    (dlookup,) = ops.embedding.backward(dx, embedding)
    dw = p.Transformer(dlookup + dhead, dpositions, tuple(dblocks), p.LayerNorm(*dnorm), None)
    return dw, dlookup, dhead


# %% [markdown]
# A batch: four windows of text, and as targets the same text one character further on. The library does the
# same with `handgrad.loss_and_gradients`, which returns every gradient by its name.

# %%
text = corpus.embedded().text
tokenizer = tokenizers.train("characters", [text])
windows = tokenizer.encode(text[: 4 * 17]).reshape(4, 17)
token_ids, targets = windows[:, :-1], windows[:, 1:]

config = config.replace(vocab_size=tokenizer.vocab_size)
weights = init(config, 0, np.float64)
loss, saved = model_forward(weights, token_ids, targets)
gradients, dlookup, dhead = model_backward(saved)

their_loss, theirs = handgrad.loss_and_gradients(config, weights, token_ids, targets)
apart = max(np.abs(g - theirs[name]).max() for name, g in tree.named_leaves(gradients))
print(f"loss {loss:.6f}, the library's {their_loss:.6f}; of a blind guess {np.log(config.vocab_size):.6f}")
print(f"{len(theirs)} gradients with {tree.size(weights):,} numbers; they differ by at most {apart:.0e}")

# %% [markdown]
# An untrained model is about as good as a blind guess: if your first loss is far above $\ln V$, something is
# wrong.
#
# ## One table, two gradients
#
# The head here is *tied*: the table that turns ids into vectors also turns vectors into logits (Press & Wolf,
# "Using the output embedding to improve language models", 2016). It is used twice, so its gradient is the sum
# of two: what comes back through the whole model, and what comes from the head at once. Which of the three is
# the slope of the loss? We measure it, along a random direction of the table.

# %%
v = np.random.default_rng(3).normal(size=weights.embedding.shape)


def loss_at(embedding):
    return model_forward(weights._replace(embedding=embedding), token_ids, targets)[0]


h = 1e-5
measured = (loss_at(weights.embedding + h * v) - loss_at(weights.embedding - h * v)) / (2 * h)
print(f"from the lookup {np.sum(dlookup * v):10.6f}")
print(f"from the head   {np.sum(dhead * v):10.6f}")
print(f"their sum       {np.sum((dlookup + dhead) * v):10.6f}")
print(f"measured        {measured:10.6f}")

# %% [markdown]
# ## A gradient for every weight
#
# One number went out, and an array of gradients has come back for every array of weights. The picture shows
# how large those in the blocks are. Compare along the rows: from block to block sizes differ by a factor of
# six at most. None is starved, and that is the residual stream at work.

# %%
block_pictures.gradient_map(theirs)

# %% [markdown]
# One row is zero. A key's bias adds the same $q\cdot b$ to all the scores of a query, and softmax does not
# notice what is added to all its inputs: the true gradient is zero, and so the bias of the keys never learns
# anything. The smallest others are those of queries and keys: their way leads through softmax, where a score
# is one of many.
#
# ## One step downhill
#
# What is a gradient good for? We make one step of AdamW (the next lesson derives it). At the first step its
# two moving averages are $m = (1-\beta_1)\,g$ and $s = (1-\beta_2)\,g^2$; the correction for their start at
# zero divides by the same factors, so that
#
# $$W \leftarrow (1-\eta\lambda)\,W - \eta\,\frac{g}{\sqrt{g^2}+\epsilon}$$
#
# Every weight moves by about $\eta$, whatever the size of its gradient. The slope predicts what this should
# do: the loss should change by $\langle g, \Delta W\rangle$, if the step is short.


# %%
def adamw_first_step(weight, g, rate=1e-4, decay=0.1, beta1=0.9, beta2=0.99, eps=1e-8):
    m, s = (1 - beta1) * g, (1 - beta2) * g * g
    m_hat, s_hat = m / (1 - beta1), s / (1 - beta2)
    return weight - rate * decay * weight - rate * m_hat / (np.sqrt(s_hat) + eps)


stepped = tree.map(adamw_first_step, weights, gradients)
moved = tree.map(lambda after, before: after - before, stepped, weights)
slope = sum(np.sum(g * d) for g, d in zip(tree.leaves(gradients), tree.leaves(moved), strict=True))
after, _ = model_forward(stepped, token_ids, targets)
print(f"loss before {loss:.4f}, after {after:.4f}")
print(f"a change of {after - loss:.4f}; the slope said {slope:.4f}")

# %% [markdown]
# Down it went, by nearly what the slope said; the rest is curvature. Training is this step, some thousands of
# times, on ever new batches.
#
# ## Where the weights are
#
# Attention has four matrices of $D\times D$, the feed-forward block two of $D\times 4D$: a block has
# $4D^2 + 8D^2 = 12D^2$ weights, and $L$ blocks have $12LD^2$. To these come $VD$ for the embedding and $TD$
# for learned positions. Norms and biases are vectors: in a block $4D$ for the norms, $4D$ for attention's
# biases, $5D$ for those of the feed-forward block, $13D$ together; and $2D$ for the last norm. For GPT-2:

# %%
V, T, D, L = 50_257, 1024, 768, 12
print("blocks' matrices  ", f"{12 * L * D**2:>12,}")
print("embedding         ", f"{V * D:>12,}")
print("positions         ", f"{T * D:>12,}")
print("norms and biases  ", f"{13 * L * D + 2 * D:>12,}")
print("together          ", f"{12 * L * D**2 + V * D + T * D + 13 * L * D + 2 * D:>12,}")
print("handgrad counts   ", f"{count(PRESETS['gpt2']).parameters:>12,}")
for name in ("nano", "baby", "gpt2"):
    D, L = PRESETS[name].d_model, PRESETS[name].n_layers
    print(f"{name}: 12 L D^2 is {12 * L * D**2 / count(PRESETS[name]).parameters:.0%} of all")


# %%
def where_weights_are(preset):
    return budget_pictures.parameters(PRESETS[preset])


knobs.turn(where_weights_are, preset=["nano", "baby", "gpt2", "llama"])

# %% [markdown]
# A small vocabulary makes the tables vanish; GPT-2's 50,257 tokens make them nearly a third of the model. In
# `llama` the feed-forward block has three matrices, and three query heads share one key-value head, which
# leaves attention a quarter.
#
# ## Six operations a weight
#
# A product of a row with an $(m, n)$ matrix is $mn$ multiplications and as many additions, $2mn$ operations:
# *two for each weight*. The backward makes two products of the same size, $dx = dz\,W^\top$ and
# $dW = x^\top dz$, so it takes *four*. Together six for each weight and token, and with $N$ for the number of
# weights in matrices that every token meets,
#
# $$\text{training} \approx 6N\ \text{operations a token}$$
#
# (the accounting of Chowdhery et al., "PaLM", 2022, appendix B). One thing is missing: scores and the mixing
# of values have no weights. Each token multiplies its query with $T$ keys and $T$ probabilities with values,
# $2TD$ operations each, in every layer, three times with the backward: $12LTD$. Compared with the
# $6\cdot12LD^2$ of the blocks' matrices this is as much when $T = 6D$, and more beyond.

# %%
for name in ("nano", "baby", "gpt2"):
    c = PRESETS[name]
    by_hand = 6 * count(c).matrix_parameters + 12 * c.n_layers * c.context_length * c.d_model
    counted = count(c).training_flops_per_token
    share = 6 * count(c).matrix_parameters / counted
    print(
        f"{name}: {by_hand / 1e6:.1f} million a token by hand, {counted / 1e6:.1f} counted; 6N: {share:.0%}"
    )
budget_pictures.flops(PRESETS["gpt2"])

# %% [markdown]
# ## What training holds
#
# Four numbers for each weight: itself, its gradient, and the two moments of Adam, $16$ bytes in float32.
# Besides, everything that the forward saves for the backward. How much is that? Nothing is hidden here, so we
# can count it: all floats in `saved`, each array once, without the weights, which are there anyway.


# %%
def owner(array):
    return array if array.base is None else owner(array.base)


def floats_held(saved, weights):
    there_anyway = {id(owner(w)) for w in tree.leaves(weights)}
    held = {id(owner(a)): owner(a).size for a in tree.leaves(saved) if a.dtype == np.float32}
    return sum(size for key, size in held.items() if key not in there_anyway)


def floats_by_hand(c):
    D, H, T, L, V = c.d_model, c.n_heads, c.context_length, c.n_layers, c.vocab_size
    return L * (8 * D + 3 * 4 * D + H * T + 4) + 2 * D + 2 + V


nano = PRESETS["nano"]
nano_weights = init(nano)
batch = np.random.default_rng(0).integers(nano.vocab_size, size=(2, 12, nano.context_length))
_, saved = LanguageModel(Transformer(nano)).forward(nano_weights, *batch)
counted = floats_held(saved, nano_weights) // batch[0].size
print(f"floats held for a token of nano: counted {counted:,}, by hand {floats_by_hand(nano):,}")

# %% [markdown]
# By hand: in each block eight arrays of width $D$ (what enters the two norms, what leaves them, queries,
# keys, values, and what enters attention's output projection), three of width $4D$ (before GELU, what its
# derivative needs, after GELU), a probability for every head and key, and four numbers of the norms; at the
# end the last norm, the head's input, and $V$ probabilities. So a batch soon holds more than the model.
# (Dropout would add its masks.)


# %%
def what_training_holds(preset):
    c = PRESETS[preset]
    return budget_pictures.memory(c, 4 * c.context_length * floats_by_hand(c))


knobs.turn(what_training_holds, preset=["nano", "baby", "gpt2"])

# %% [markdown]
# That is the plain way. The library's CPU engine walks through a batch in parts, summing their gradients,
# computes attention without keeping its probabilities, and reuses arrays that it no longer needs;
# `handgrad info baby` says what it takes on your machine.
#
# ## One model, many names
#
# The transformer of 2017, GPT-2 and Llama differ in settings of one `ModelConfig`:

# %%
names = ("paper", "gpt2", "llama")
print(f"{'':16}", *(f"{name:12}" for name in names))
for field in ("position", "norm", "norm_placement", "activation", "gated", "n_heads", "n_kv_heads", "bias"):
    print(f"{field:16}", *(f"{getattr(PRESETS[name], field)!s:12}" for name in names))
print()
for name in PRESETS:
    worst = max(result.relative_error for result in handgrad.check(name))
    print(f"{name:6} made small: the gradient of every weight proved, worst relative error {worst:.0e}")

# %% [markdown]
# One setting is not there, because a generator never needs it: attention that also looks ahead,
# `ops.attention.forward(q, k, v, causal=False)`. A stack of the same blocks without the mask is an *encoder*,
# as in BERT or in the first half of the original: it reads a whole text, and writes none.
#
# ## Exercises
#
# ### Exercise 1: the backward of a post-norm block
#
# Here is the forward of a block as the original had it, the norms after the sums. Write its backward. It
# returns the gradient of `x` and a `p.Block` of the weights' gradients, whose parts stand in the same order
# as in `block_backward`. The judge is the proof.


# %% tags=["exercise"]
def post_forward(x, w):
    h, attention = ops.multi_head_attention.forward(x, *w.attention, n_heads=4, n_kv_heads=4)
    x, norm1 = ops.layer_norm.forward(x + h, *w.norm1)
    h, feed_forward = ops.feed_forward.forward(x, *w.feed_forward, activation="relu")
    x, norm2 = ops.layer_norm.forward(x + h, *w.norm2)
    return x, (attention, norm1, feed_forward, norm2)


def post_backward(dy, saved):
    return ...


# %% tags=["check"]
exercise.gradient(post_forward, post_backward, without=terms.WITHOUT_A_PATH, x=x, w=w)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Read the forward from its last line to its first, and ask of each `x` how often it is used. The section "The
# mirror image" has the rule for what is used twice.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The order is the second norm, feed-forward, the first norm, attention. A norm's backward returns the
# gradient of the sum `x + h`: both summands receive all of it, and the layer's backward turns the gradient of
# `h` into a second gradient of `x`, which is added to the first.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# After the second norm and feed-forward you hold `dx` and `dh`; the first norm's backward receives `dx + dh`,
# not `dh` alone. Attention's two paths are added in the same way, and `p.Block` takes norm1, attention, norm2
# and feed-forward, each wrapped as in `block_backward`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The norm is the last line, so its backward is the first. What it returns is the gradient of a sum: `x` and
# `h` both receive it, and what comes back through the layer is added to what went past it.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def post_backward(dy, saved):
    attention, norm1, feed_forward, norm2 = saved
    dx, *dnorm2 = ops.layer_norm.backward(dy, norm2)
    dh, *dfeed_forward = ops.feed_forward.backward(dx, feed_forward)
    dx, *dnorm1 = ops.layer_norm.backward(dx + dh, norm1)
    dh, *dattention = ops.multi_head_attention.backward(dx, attention)
    dw = p.Block(
        p.LayerNorm(*dnorm1),
        p.MultiHeadAttention(*dattention),
        p.LayerNorm(*dnorm2),
        p.FeedForward(*dfeed_forward),
    )
    return dx + dh, dw


exercise.gradient(post_forward, post_backward, without=terms.WITHOUT_A_PATH, x=x, w=w)


# %% [markdown]
# ### Exercise 2: count a Llama
#
# Llama has no biases, RMS norms (a scale, no shift), rotary positions (which have no weights), a gated
# feed-forward block of width $F$, a head of its own, and $G$ key-value heads for $H$ query heads, each $D/H$
# wide. How many parameters has it, with a vocabulary of $V$, width $D$ and $L$ layers? Write `count_llama`,
# which returns the number. The judge counts two models: Llama 2 with 7 and with 70 billion.


# %% tags=["exercise"]
def count_llama(V, D, L, F, H, G):
    return ...


# %% tags=["check"]
def counted(V, D, L, F, H, G):
    llama = PRESETS["llama"].replace(
        vocab_size=V, d_model=D, n_layers=L, d_ff=F, n_heads=H, n_kv_heads=G, tied=False
    )
    return count(llama).parameters


seven, seventy = (32_000, 4096, 32, 11_008, 32, 32), (32_000, 8192, 80, 28_672, 64, 8)
exercise.function(count_llama, counted, seven, seventy, tolerance=1e-12)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go through the list in "Where the weights are", and ask of each item whether Llama has it, and in which
# shape. Lesson 12, "Sharing keys and values", says which matrices of attention become narrower.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The sum is $L$ times what a block has (attention, feed-forward, two norms), plus what stands around the
# blocks. Every head has the width $D/H$: queries have $H$ heads, keys and values only $G$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The matrices of keys and values have $D\cdot G\,D/H$ weights each, the gate adds a third matrix of $DF$ to
# the feed-forward block, and an RMS norm has $D$. Around the blocks stand one norm more, the embedding, and,
# since the head is not tied, a second table of $VD$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Queries and attention's output are $D\times D$; keys and values only $D\times GD/H$. Three matrices of
# $D\times F$, two norms of $D$. Around the blocks: the table, the head, the last norm.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def count_llama(V, D, L, F, H, G):
    attention = 2 * D * D + 2 * D * (G * D // H)
    return L * (attention + 3 * D * F + 2 * D) + 2 * V * D + D


exercise.function(count_llama, counted, seven, seventy, tolerance=1e-12)


# %% [markdown]
# ### Exercise 3: rows without a gradient
#
# Some rows of the embedding's gradient may be exactly zero after a batch. Which? Write `zero_rows`, which
# takes the batch, the size of the vocabulary, and whether the head is tied, and returns a list of the ids of
# these rows in ascending order. The judge computes the gradients.


# %% tags=["exercise"]
def zero_rows(token_ids, targets, vocab_size, tied):
    return ...


# %% tags=["check"]
def really_zero(token_ids, targets, vocab_size, tied):
    small = ModelConfig(vocab_size=vocab_size, context_length=4, n_layers=1, n_heads=2, d_model=8, tied=tied)
    _, g = handgrad.loss_and_gradients(small, init(small, 0, np.float64), token_ids, targets)
    return list(np.flatnonzero(np.all(g["embedding"] == 0.0, axis=1)))


some_ids, some_targets = np.array([[3, 1, 4, 1], [5, 9, 2, 6]]), np.array([[1, 4, 1, 5], [9, 2, 6, 8]])
exercise.function(
    zero_rows, really_zero, (some_ids, some_targets, 12, False), (some_ids, some_targets, 12, True)
)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# In which places does the forward use the table, with a tied head and without? See "One table, two
# gradients", and "The gradient goes home" in lesson 10.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# From the lookup, row $v$ gets the sum of the gradients at the positions whose input token is $v$. From a
# tied head it gets $\sum_n dz_{nv}\,x_n$ over all positions $n$, with $dz = (p-t)/N$ from lesson 8. When is
# each of these zero?
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A sum over no positions is zero: without a tied head look for the ids below `vocab_size` that never occur in
# `token_ids`, and leave `targets` aside. With a tied head the other sum is added: softmax gives every id a
# $p$ above 0 and below 1, so ask whether any $p-t$ can be zero.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Looked up, a row gets a gradient only where its token was *read*; to be a target is not enough. As part of a
# tied head every row takes part in every softmax, and $p - t$ is zero nowhere: each is pushed
# down, and the target up. Then no row is without a gradient.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def zero_rows(token_ids, targets, vocab_size, tied):
    return [] if tied else [i for i in range(vocab_size) if i not in token_ids]


exercise.function(
    zero_rows, really_zero, (some_ids, some_targets, 12, False), (some_ids, some_targets, 12, True)
)

# %% [markdown]
# ### Make it yours: the head
#
# Write $z = xW^\top$ for $x$ $(\dots, D)$ and the table $W$ $(V, D)$, and its backward.
#
# `mine.keep` judges both: the result is compared with the library's, the gradients are proved. What is right
# is kept in the folder `mine`, beside this notebook, and lesson 15 trains a transformer with it.


# %% tags=["exercise"]
def my_head(x, weight):
    return ..., ...


def my_head_backward(dz, saved):
    return ..., ...


# %% tags=["check"]
mine.keep("unembedding", my_head, my_head_backward)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The head is the affine layer of lesson 5 without a bias, and with $W^\top$ as its matrix. Which shape must
# the gradient of $W$ have?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Write $z_{nv} = \sum_d x_{nd}\,W_{vd}$, with $n$ for all positions of the batch. Then $dx_{nd}$ is a sum
# over $v$, and $dW_{vd}$ a sum over $n$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The sum over $v$ is a product of $dz$ and $W$ as they are, without a transpose. For $dW$, of shape $(V, D)$,
# make rows of both arrays with `reshape(-1, ...)`, keeping the last axis; then $dz$ stands first, transposed,
# and $x$ second.
#
# </details>
#
# <details><summary>Our answer</summary>
#
# An affine layer with the table transposed.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def my_head(x, weight):
    return x @ weight.T, (x, weight)


def my_head_backward(dz, saved):
    x, weight = saved
    return dz @ weight, dz.reshape(-1, dz.shape[-1]).T @ x.reshape(-1, x.shape[-1])


mine.keep("unembedding", my_head, my_head_backward)

# %% [markdown]
# ## Where next
#
# The model stands, with a gradient for every weight. The next lesson, "Training a generator", gives it a text
# to learn from, and walks it downhill until it writes.
