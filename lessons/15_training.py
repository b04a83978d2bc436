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
# # 15. Training a generator
#
# *After this lesson you can cut a text into batches, say what a loss is worth, write AdamW, clipping and a
# schedule, train a transformer with a loop of your own, and read from two curves what went well or wrong.*
#
# The model stands, and so does its gradient. What is between them and a machine that writes? A text cut into
# questions, an optimizer, a few hundred steps, and the judgement to tell learning from learning by heart. We
# build each by hand, then let the library do the same faster.

# %%
import numpy as np
from threadpoolctl import threadpool_limits

from handgrad import engines, ops, tree
from handgrad import tokenizer as tokenizers
from handgrad.data import batches, corpus
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.lessons import exercise, knobs, mine, practice, source
from handgrad.lessons.pictures import training as pictures
from handgrad.model.config import ModelConfig
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.optim import adamw, clip, muon, schedule
from handgrad.plots import loss_curve
from handgrad.training import baselines, evaluate, metrics, run

# %% [markdown]
# ## A text becomes questions
#
# Our text is what every Python carries: its own language reference. Each character is a token, and a token's
# id is its place in the sorted alphabet.

# %%
text = corpus.embedded().text
tokenizer = tokenizers.train("characters", [text])
tokens = tokenizer.encode(text)
print(f"{len(text):,} characters, of {tokenizer.vocab_size} kinds")
print(repr(text[:24]), "becomes", *tokens[:24])

# %% [markdown]
# A generator has one task: given what came so far, say what comes next. (A model that goes on from its own
# words in this way is called *autoregressive*.) So the text asks its own questions, and knows the answers. A
# *window* of $T$ characters is the input, the same window one place further on are the *targets*, and several
# windows, cut anywhere, make a batch: two arrays of integers $(B, T)$. (Beside the whole text that is little,
# so the field says *mini-batch*, and *stochastic gradient descent*, SGD, for descent on such draws.)

# %%
pictures.batch(text[47:95], starts=[0, 11, 31], context_length=16)

# %% [markdown]
# Each column is a question, and attention's causal mask lets the model see only the inputs up to it: one
# window is $T$ questions for the price of one pass, from "what follows one character?" to "what follows
# sixteen?". The library draws a batch so:

# %%
source.show(batches.draw, batches._windows)

# %% [markdown]
# ## What is kept back
#
# A model may get better at a text by understanding it or by remembering it. To tell the two apart one keeps a
# part back that it never learns from, and judges it by that. The library keeps the last tenth.
#
# Why the end, and not windows from everywhere? Because windows overlap. One that starts anywhere among $N$
# places covers a given character with probability $T/N$, so after $n$ windows a share
# $(1 - T/N)^n \approx e^{-nT/N}$ of the text has not been read. If the windows to judge by were cut from the
# same text, how much of them would be new?

# %%
T, B, steps = 64, 12, 2000  # the recipe of the preset `nano`
train, validation = batches.split(tokens, T)
N = len(train)
read = np.zeros(N, dtype=bool)
for start in np.random.default_rng(0).integers(N - T, size=steps * B):
    read[start : start + T] = True
print(f"unread after {steps:,} steps: {1 - read.mean():.2%}; the formula: {np.exp(-steps * B * T / N):.2%}")
print(f"tokens seen: {steps * B * T:,} of {N:,}, which is {steps * B * T / N:.1f} epochs")

# %% [markdown]
# Next to nothing: the judge would ask what the pupil has read. How often the text has been seen on average,
# $nT/N$, is counted in *epochs*.
#
# ## What a loss is worth
#
# The loss is the mean of $-\ln p$ of what really came, in nats a token. Is 2.3 good? Compare it with
# writers that know little. One that holds all $V$ tokens for equally likely, *uniform* in the pictures,
# pays $\ln V$ for each. One that knows how frequent each token is, $p_i$, the *unigram* writer, pays the
# *entropy* of these frequencies (Shannon, "A mathematical theory of communication", 1948):
#
# $$H = -\sum_i p_i \ln p_i$$
#
# and one that looks at the token before, the *bigram* writer, pays the mean of such entropies, each of what
# follows one token. On paper, for *abracadabra*: five a, two b, two r, one c, one d, so
#
# $$H = \tfrac5{11}\ln\tfrac{11}5 + 2\cdot\tfrac2{11}\ln\tfrac{11}2 + 2\cdot\tfrac1{11}\ln 11,$$
#
# which is $0.358 + 0.620 + 0.436 = 1.414$, less than the $\ln 5 \approx 1.609$ of a blind guess among five.
# The *trigram* writer looks at two. For our text, frequencies are counted on the part to learn from, and
# judged on the rest. So that nothing is impossible, each of these writers leaves a share to the one that
# looks at a token less: more of it, the more different tokens followed what it saw (Witten & Bell, 1991).

# %%
counts = np.array([5, 2, 2, 1, 1])
p = counts / counts.sum()
print(f"abracadabra: entropy {-np.sum(p * np.log(p)):.3f}, blind {np.log(5):.3f}")

worth = baselines.losses(train, validation, tokenizer.vocab_size)
of_train = baselines.losses(train, train, tokenizer.vocab_size)
print(f"bigram: {worth['bigram']:.3f}; judged by the training text itself {of_train['bigram']:.3f}")
pictures.baselines(worth)

# %% [markdown]
# The words beside the bars say it as perplexity, $e^L$: among how many tokens a blind guess would be as hard.
# A look at the token before is worth nearly a nat, one at two tokens another half; what a transformer gains
# beyond that, it gains by looking further back. And a warning is printed above: by the same measure this
# text's end is easier than the rest. Two parts of a text need not be equally hard, so a validation loss
# *below* the training loss can mean no more than an easier ending.
#
# ## A step: AdamW
#
# Gradients of single batches are noisy, and differ in size from weight to weight by orders of magnitude. Adam
# (Kingma & Ba, "Adam: a method for stochastic optimization", 2014) answers both with two moving averages for
# each weight, of the gradient and of its square:
#
# $$m \leftarrow \beta_1 m + (1-\beta_1)\,g,\qquad s \leftarrow \beta_2 s + (1-\beta_2)\,g^2$$
#
# Both start at zero, and so are too small at first, as lesson 3 derived: what the past weighs in $m$ sums to
# $1-\beta_1^t$ after $t$ steps. So both are divided by that,
#
# $$\hat m = \frac{m}{1-\beta_1^t},\qquad \hat s = \frac{s}{1-\beta_2^t} .$$
#
# Below, dots are gradients that scatter around 1. The longer the memory, the smoother the mean, and the later
# the uncorrected one arrives.


# %%
def average_of_noise(beta):
    gradients = 1.0 + np.random.default_rng(1).normal(size=150)
    means, mean = [], 0.0
    for g in gradients:
        mean = beta * mean + (1 - beta) * g
        means.append(mean)
    corrected = np.array(means) / (1 - beta ** np.arange(1, 151))
    return pictures.averages(gradients, {"$m$": means, r"$\hat m$": corrected})


knobs.turn(average_of_noise, beta=[0.5, 0.9, 0.98])

# %% [markdown]
# The step divides one by the root of the other, so that each weight moves by about the learning rate $\eta$,
# whatever the scale of its gradient. AdamW (Loshchilov & Hutter, "Decoupled weight decay regularization",
# 2017) pulls every weight towards zero as well, *beside* this division:
#
# $$W \leftarrow (1 - \eta\lambda)\,W - \eta\,\frac{\hat m}{\sqrt{\hat s} + \epsilon}$$
#
# As a penalty in the loss the pull would be a part of $g$, and be divided by its size like the rest. On
# paper, with $\beta_1 = 0.9$, $\beta_2 = 0.99$ and the gradients 2, then 1: after the first, $m = 0.2$,
# $s = 0.04$, $\hat m = 2$, $\hat s = 4$, a step of $2/\sqrt4 = 1$ times $\eta$. After the second,
# $m = 0.9\cdot0.2 + 0.1 = 0.28$ and $s = 0.99\cdot0.04 + 0.01 = 0.0496$, so $\hat m = 0.28/0.19$,
# $\hat s = 0.0496/0.0199$, a step of $0.933\,\eta$. (The library lets matrices decay, and vectors, biases and
# norms, not.)


# %%
def our_adamw(w, g, m, s, t, rate, decay=0.0, beta1=0.9, beta2=0.99, eps=1e-8):
    m = beta1 * m + (1 - beta1) * g
    s = beta2 * s + (1 - beta2) * g * g
    m_hat, s_hat = m / (1 - beta1**t), s / (1 - beta2**t)
    return (1 - rate * decay) * w - rate * m_hat / (np.sqrt(s_hat) + eps), m, s


for scale in (1.0, 1000.0):
    w1, m, s = our_adamw(0.0, 2.0 * scale, 0.0, 0.0, 1, rate=1.0)
    w2, m, s = our_adamw(w1, 1.0 * scale, m, s, 2, rate=1.0)
    print(f"gradients {2 * scale:g} and {scale:g}: steps of {-w1:.4f} and {w1 - w2:.4f}")

# %% [markdown]
# A loss a thousand times as large makes the same steps. Is ours the AdamW that everyone uses? Twenty steps,
# beside the library's and, where it is installed, PyTorch's:

# %%
gradients = np.random.default_rng(2).normal(size=(20, 5))
w, m, s = np.ones(5), np.zeros(5), np.zeros(5)
theirs, state = np.ones(5), adamw.init(np.ones(5))
for t, g in enumerate(gradients, start=1):
    w, m, s = our_adamw(w, g, m, s, t, rate=0.1, decay=0.1)
    theirs, state = adamw.update(theirs, g, state, learning_rate=0.1, beta2=0.99, weight_decay=0.1)
print("from handgrad's:", f"{np.abs(w - theirs).max():.0e}")
try:
    import torch
except ImportError:
    print("PyTorch is not installed; skipped")
else:
    parameter = torch.ones(5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([parameter], lr=0.1, betas=(0.9, 0.99), weight_decay=0.1)
    for g in gradients:
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()
    print("from PyTorch's: ", f"{np.abs(w - parameter.detach().numpy()).max():.0e}")

# %% [markdown]
# ## A step for matrices: Muon
#
# AdamW looks at every number by itself. But most weights are matrices, and a matrix has directions. The
# singular value decomposition $G = U\,\mathrm{diag}(\sigma)\,V^\top$ shows a gradient's: along each pair of
# columns of $U$ and $V$ it pulls with strength $\sigma$. In gradients a few $\sigma$ are large, and the many
# small ones hardly move the weights. *Muon* (Jordan et al., "Muon: an optimizer for hidden layers", 2024)
# makes all of them one. It steps along $UV^\top$:
#
# $$M \leftarrow \beta M + G,\qquad W \leftarrow (1-\eta\lambda)\,W - \eta\,s\,\mathrm{orth}(G + \beta M)$$
#
# $$\mathrm{orth}(U\,\mathrm{diag}(\sigma)\,V^\top) = UV^\top,\qquad s = 0.2\sqrt{\max(m, n)}$$
#
# for a matrix of $m$ by $n$, with momentum that looks one step ahead. Why this $s$? The squares of all
# elements of $UV^\top$ sum to the number of its singular values, $\min(m, n)$. There are $mn$ elements, so
# their root mean square is $\sqrt{\min(m,n)/(mn)} = 1/\sqrt{\max(m,n)}$. Times $s$ it is 0.2 whatever the
# shape, about what it is in steps of AdamW.
#
# To decompose every gradient would take longer than to compute it. Products are enough. Since
# $U^\top U = V^\top V = 1$,
#
# $$X X^\top X = U\,\mathrm{diag}(\sigma^3)\,V^\top,\qquad\text{and so}\qquad
# aX + b\,XX^\top X + c\,(XX^\top)^2X = U\,\mathrm{diag}(a\sigma + b\sigma^3 + c\sigma^5)\,V^\top.$$
#
# We only need numbers $a, b, c$ for which $p(\sigma) = a\sigma + b\sigma^3 + c\sigma^5$ brings what is
# between 0 and 1 nearer to 1, and apply $p$ several times. On paper, with $a = 15/8$, $b = -10/8$, $c = 3/8$:
# $p(1) = 1$, and a half goes to $0.9375 - 0.1563 + 0.0117 = 0.7930$, then to 0.9811, then to 1.0000. But
# small numbers only become 15/8 times as large each time. The library's four polynomials differ. The first
# ones lift small numbers by four to eight times, at the price of throwing large ones about. The last ones
# gather all of them.

# %%
spread = np.geomspace(1.0, 0.01, 6)
u, v = (np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))[0] for seed in (3, 4))
x = u * spread @ v.T
x = x / np.linalg.norm(x)
print("at first: ", np.linalg.svd(x, compute_uv=False).round(3))
for number, (a, b, c) in enumerate(muon.BEST, start=1):
    square = x @ x.T
    x = a * x + (b * square + c * square @ square) @ x
    print(f"after {number}:  ", np.linalg.svd(x, compute_uv=False).round(3))
print("farthest from U V^T:", np.abs(x - u @ v.T).max().round(3))
print("from handgrad's:    ", f"{np.abs(x - muon.orthogonalized(u * spread @ v.T)).max():.0e}")

# %% [markdown]
# Near one is enough: that the directions count alike is what helps. Muon is for the matrices inside the
# blocks. Rows of an embedding belong to one token each, and norms and biases are no matrices: AdamW moves
# these. `handgrad train --optimizer muon` trains so.
#
# ## Two precautions
#
# Now and then a batch is odd, and its gradient huge. *Clipping* shortens a gradient longer than $c$ to $c$,
# and keeps its direction (Pascanu et al., 2012): $g \leftarrow g\cdot\min(1, c/|g|)$, with the length of all
# weights' gradients taken together.
#
# And a learning rate that is right in the middle is too high at the beginning, when the averages have seen
# little, and at the end, when the model should settle. So it *warms up* over the first steps, and later
# decays, most often along half a cosine (Loshchilov & Hutter, 2016). With $t$ from 0 to 1 after the warm-up
# and $\mu$ the share that is left at the end:
#
# $$\eta(t) = \eta_{max}\Big(\mu + (1-\mu)\,\frac{1+\cos\pi t}{2}\Big)$$


# %%
def course(kind, warmup_steps):
    shares = [
        schedule.share(step, schedule=kind, steps=1000, warmup_steps=warmup_steps) for step in range(1000)
    ]
    return pictures.learning_rates({kind.replace("_", ", "): [1e-3 * share for share in shares]})


knobs.turn(course, kind=["constant", "cosine", "warmup_stable_decay"], warmup_steps=[0, 50, 200])

# %% [markdown]
# ## The loop
#
# All parts are there. A small transformer, the formulas of `handgrad.ops`, our AdamW, and a loop: draw,
# compute, clip, step. `tree.pack` lays all weights into one flat array and leaves views of it in their
# places, so that one step of the optimizer moves the whole model.

# %%
config = ModelConfig(
    vocab_size=tokenizer.vocab_size, context_length=32, n_layers=1, n_heads=4, d_model=64, bias=False
)
model = LanguageModel(Transformer(config))
flat, weights = tree.pack(init(config, seed=0))
m, s = np.zeros_like(flat), np.zeros_like(flat)
rng, rows, recent, steps = np.random.default_rng(0), [], [], 500
with threadpool_limits(1):  # one core does products as small as these sooner than several that wait
    for step in range(steps + 1):
        if step % 50 == 0:
            judged = batches.spread(validation, 32, 32, n_windows=128)
            judged = np.mean([model.forward(weights, *batch)[0] for batch in judged])
            rows.append((step, np.mean(recent) if recent else None, judged))
            recent = []
        token_ids, targets = batches.draw(train, batch_size=16, context_length=32, rng=rng)
        loss, gradients = model.loss_and_gradients(1.0, weights, token_ids, targets)
        gradient, norm = clip.by_global_norm(tree.pack(gradients)[0], max_norm=1.0)
        rate = 4e-3 * schedule.share(step, schedule="cosine", steps=steps, warmup_steps=40)
        flat[:], m, s = our_adamw(flat, gradient, m, s, step + 1, rate, decay=0.1)
        recent.append(loss)
print(f"{flat.size:,} weights, {steps} steps: validation {rows[0][2]:.3f} before, {rows[-1][2]:.3f} after")

# %%
pictures.curves({"our loop": rows}, worth)

# %% [markdown]
# It begins at the blind guess, is past the frequencies of characters within fifty steps, and ends below the
# writer that knows pairs: it has learned to look further back than one character. The validation curve is the
# lower one for the reason given above, and for a second: each point of the training curve is a mean over the
# fifty steps before it, when the model was worse.
#
# ## On your own formulas
#
# The transformer takes its ops as an argument. If you did the exercises *Make it yours*, from the affine
# layer to the head, they are in the folder `mine`, and `mine.ops()` has yours in the place of ours. Which are
# they?

# %%
mine.progress()

# %% [markdown]
# Whatever is yours by now, the model is the same model: thirty steps of a small one of `nano`'s
# shape, on your formulas and
# on ours, from the same weights and on the same batches.


# %%
def thirty_steps(which):
    model = LanguageModel(Transformer(config, ops=which))
    flat, weights = tree.pack(init(config, seed=0))
    m, s, rng, losses = np.zeros_like(flat), np.zeros_like(flat), np.random.default_rng(0), []
    for step in range(30):
        token_ids, targets = batches.draw(train, batch_size=16, context_length=32, rng=rng)
        loss, gradients = model.loss_and_gradients(1.0, weights, token_ids, targets)
        flat[:], m, s = our_adamw(flat, tree.pack(gradients)[0], m, s, step + 1, 4e-3, decay=0.1)
        losses.append(loss)
    return np.array(losses)


with threadpool_limits(1):
    on_ours, on_yours = thirty_steps(ops), thirty_steps(mine.ops())
print(f"loss after thirty steps: on our formulas {on_ours[-1]:.6f}, on yours {on_yours[-1]:.6f}")
print(f"largest difference on the way: {np.max(np.abs(on_ours - on_yours)):.0e}")

# %% [markdown]
# ## The same, faster
#
# `handgrad.train` is this loop with a folder: it writes every loss into `metrics.jsonl`, evaluates now and
# then, keeps the best weights and the last, and survives being stopped. Its engine computes the same formulas
# in kernels compiled for your machine. The lessons share one small model, `nano` after 600 steps; the first
# lesson that needs it trains it, in about half a minute (a whole one where the kernels are still to be
# compiled).

# %%
trained = practice.model()
about = run.about(practice.FOLDER)
log = metrics.read(practice.FOLDER)
loss_curve.draw(*metrics.losses(log), about.config.baselines, about.config.bits_per_byte(1.0))

# %% [markdown]
# What does it write on the way? A sample is drawn at each evaluation.

# %%
for row in about.evaluations:
    print(f"--- after {row.step} steps, validation loss {row.validation_loss:.2f}")
    print(row.sample[:80].strip(), "\n")

# %% [markdown]
# First noise; then letters with the right frequencies, spaces at about the right distances; then words, or
# what looks like them. No one told it what a word is.
#
# And clipping? Here are the lengths of this run's gradients. With these settings nearly all are shortened to
# the same length: no batch has more of a say in Adam's averages than another.

# %%
norms = [row.gradient_norm for row in log if isinstance(row, metrics.StepRow)]
pictures.gradient_norms(norms, about.config.recipe.max_gradient_norm)

# %% [markdown]
# ## Learning by heart: overfitting
#
# Take a model of two blocks, and train it twice, alike but for the text: once on all of it, once on its first
# 5,000 characters. Both are judged on the same validation text. `engines.training` makes the steps of our
# loop on the fast kernels.


# %%
def learn(
    train, *, n_layers=2, d_model=96, steps=200, rate=3e-3, decay=0.0, kind="constant", seed=0, dropout=0.0,
    first=1.0,
):  # fmt: skip
    shape = config.replace(n_layers=n_layers, d_model=d_model, dropout=dropout)
    weights = init(shape, seed)
    blocks = tree.map(lambda leaf: first * leaf if leaf.ndim == 2 else leaf, weights.blocks)
    state = State(weights._replace(blocks=blocks))
    training = engines.training(shape, state, OptimizerSettings(weight_decay=decay), batch_size=16)
    rng, rows, recent = np.random.default_rng(seed), [], []
    for step in range(steps + 1):
        if step % (steps // 10) == 0:
            judged = evaluate.loss(training, validation, batch_size=64, n_windows=128)
            rows.append((step, np.mean(recent) if recent else None, judged))
            recent = []
        share = schedule.share(step, schedule=kind, steps=steps, warmup_steps=20)
        recent.append(training.step(*batches.draw(train, 16, 32, rng), rate * share, rng).loss)
    return rows


little, all_of_it = learn(train[:5000]), learn(train)
pictures.curves({"5,000 characters": little, f"{len(train):,} characters": all_of_it}, worth)

# %% [markdown]
# On the right both curves fall: what helps with the training text helps with text never seen. On the left the
# training loss falls further, and the validation loss turns (its lowest point is circled): from there on the
# model learns what is true of these 5,000 characters and of no others. This is *overfitting*. In the end it
# is about as bad as the writer that knows frequencies only. What helps: more text; stopping at the circle,
# which is why the library keeps the best weights besides the last; dropout and weight decay; a smaller model.
#
# Learning rate, width, number of layers, dropout: what one chooses and no gradient learns is called a
# *hyperparameter*. Three readings of the two curves help to choose, and are worth knowing by heart. Both high
# and hardly falling: the learning rate is too low, or the model too small. Both jumping, or stuck where the
# frequencies of single characters are: it is too high. Far apart: too little text for so large a model.
#
# ## Holding back: regularization
#
# Whatever keeps a model from learning by heart is called *regularization*. *Weight decay* pulls every weight
# towards zero, so that only what many batches ask for stays large. *Dropout* (Srivastava et al., "Dropout",
# 2014) sets a share $r$ of the numbers on their way to zero, others at each step, so that nothing may hang on
# a single one. With a mask $m$ that is 1 with the probability $1 - r$ and 0 otherwise,
#
# $$y_i = \frac{m_i}{1-r}\,x_i,\qquad
# \operatorname{E}[y_i] = \frac{(1-r)\cdot 1 + r\cdot 0}{1-r}\,x_i = x_i .$$
#
# What is left grows by $1/(1-r)$, so that the mean stays, and a model that writes, which drops nothing, sees
# numbers of the size it is used to. The mask is drawn, not computed from $x$. So for the backward it is a
# constant, each $y_i$ depends on its $x_i$ alone, and
#
# $$dx_i = \frac{\partial y_i}{\partial x_i}\,dy_i = \frac{m_i}{1-r}\,dy_i :$$
#
# the *same* mask again. What was dropped has no part in the result, and gets no gradient. So the mask has to
# be kept from forward to backward (or to be drawn again, as lesson 19 does). Here are the 5,000 characters
# once more:

# %%
held = {f"dropout {rate:g}": learn(train[:5000], dropout=rate) for rate in (0.0, 0.2)}
for name, rows in held.items():
    print(f"{name}: lowest validation loss {min(row[2] for row in rows):.3f}, at the end {rows[-1][2]:.3f}")
pictures.curves(held, worth)

# %% [markdown]
# With dropout the training loss is higher, since the model is never whole while it learns. The validation
# loss turns later, if at all, and ends lower. Its lowest point is no lower here: with so little text dropout
# is no remedy, only a delay; with plenty it costs. In between it helps: the page "What minutes of training
# buy" has figures.
#
# ## First weights: initialization
#
# Where should training begin? Not at zero: lesson 5 said why. With random weights, then, but how large?
# Lesson 13 has the measure: a layer whose weights have the deviation $\sigma$ multiplies mean squares by
# $D\sigma^2$. GPT-2 drew all matrices with $\sigma = 0.02$, at a width of 768; that makes $768\cdot0.02^2
# \approx 0.31$. Taken over to a width of 128, as nanoGPT did, the same 0.02 makes $0.05$: each part of the
# model then whispers, and training first has to make the weights grow. The library keeps the *product*:
# $\sigma = 0.02\sqrt{768/D}$. And what writes into the stream gets $1/\sqrt{2L}$ of that, because $2L$ parts
# write, and their variances add up.
#
# With `nano`'s recipe, 2,000 steps end at **1.90** nats a character with 0.02 at a width of 128, and at
# **1.77** with scaled weights: more than most inventions gain, for one number. Below is our small model, with
# weights that many times as large as the library's.

# %%
begun = {f"times {first:g}": learn(train, first=first) for first in (0.1, 1.0, 10.0)}
for name, rows in begun.items():
    print(f"{name:10} validation loss {rows[0][2]:.3f} at first, {rows[-1][2]:.3f} after 200 steps")
pictures.curves(begun, worth)

# %% [markdown]
# Too small learns late: the parts whisper, and have to grow first. Too large learns late as well: Adam's
# steps are as long as ever, and change large weights little. The first loss warns of neither, because the
# last norm brings every stream to the same size.
#
# ## What is a token?
#
# A character is one choice. Bytes are another: 256 tokens for every language and sign. Byte-pair encoding
# (Sennrich et al., 2015) merges frequent neighbours into new tokens, up to a vocabulary of any size. The loss
# *a token* cannot be compared between them, since tokens differ in length. Nats *a character* can:
#
# $$\frac{\text{nats}}{\text{character}} =
# \frac{\text{nats}}{\text{token}}\cdot\frac{\text{tokens}}{\text{characters}}$$
#
# Here are the writers that know frequencies only, for four ways to cut the same text:

# %%
cut = len(train)
print("tokens        V   tokens read   nats a token   nats a character")
for kind, size in (("characters", 0), ("bytes", 0), ("bpe", 512), ("bpe", 2048)):
    made = tokenizers.train(kind, [text], vocab_size=size)
    to_learn, to_judge = made.encode(text[:cut]), made.encode(text[cut:])
    nats = baselines.losses(to_learn, to_judge, made.vocab_size)["unigram"]
    a_character = nats * len(to_judge) / len(text[cut:])
    print(f"{kind:10}{made.vocab_size:5}{len(to_learn):14,}{nats:15.3f}{a_character:19.3f}")

# %% [markdown]
# Longer tokens cost more nats each, and fewer a character: within a token nothing is left to guess. The
# context reaches further as well, since $T$ tokens are more text. The price is a larger table, and fewer
# tokens to learn each of them from.
#
# ## The same again
#
# A result that cannot be repeated teaches little. Every random number here comes from a seed: first weights,
# batches, dropout. The same seed gives the same losses on the same machine, to the last bit; another seed
# shows how much of a difference is luck.

# %%
first, again, other = (learn(train, n_layers=1, d_model=32, steps=40, seed=seed) for seed in (0, 0, 1))
print("the same seed, the same losses:", first == again)
print(f"two seeds end at {first[-1][2]:.3f} and {other[-1][2]:.3f}")

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: how long a memory is
#
# All gradients are 1, and $m$ starts at 0. After how many steps does the *uncorrected* mean reach a given
# share of the truth? Derive a formula from the weights of the past, and let `steps_until` return the least
# whole number of steps after which $m$ is at least `share`. The check walks them one by one.


# %% tags=["exercise"]
def steps_until(beta, share):
    return ...


# %% tags=["check"]
def walked(beta, share):
    mean, steps = 0.0, 0
    while mean < share:
        mean, steps = beta * mean + (1 - beta), steps + 1
    return steps


exercise.function(steps_until, walked, (0.9, 0.5), (0.9, 0.9), (0.99, 0.9), (0.999, 0.9))


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What does $m$ come to after $t$ steps if every gradient is 1? Lesson 3, "Adam", sums the weights of the
# past, and "A step: AdamW" uses the result.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The weights of the past are a geometric sum, which makes $m = 1-\beta^t$. Find the least whole $t$ for which
# this is at least the share; a logarithm brings $t$ down from the exponent.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# What is still missing must be small enough: $\beta^t \le 1-\text{share}$, so take the logarithm of
# $1-\text{share}$, not of the share. Both logarithms are negative, their quotient is a lower bound for $t$,
# and `np.ceil` rounds it up.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $1 - \beta^t \ge \text{share}$ means $\beta^t \le 1 - \text{share}$, hence
# $t \ge \ln(1-\text{share})/\ln\beta$ (dividing by a negative number turns the sign), rounded up. A memory of
# 0.999 takes 2,302 steps to fill to nine tenths. Without the correction Adam's first step, with
# $\beta_1 = 0.9$ and $\beta_2 = 0.999$, would be $0.1/\sqrt{0.001} \approx 3.2$ times too long.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def steps_until(beta, share):
    return int(np.ceil(np.log(1 - share) / np.log(beta)))


exercise.function(steps_until, walked, (0.9, 0.5), (0.9, 0.9), (0.99, 0.9), (0.999, 0.9))

# %% [markdown]
# ### Exercise 2: the writer that knows frequencies
#
# Write the unigram baseline. Of $N$ training tokens $t$ are different, and token $w$ occurs $c(w)$ times; as
# many as $t$ more are left to the uniform writer (Witten & Bell), so that
#
# $$p(w) = \frac{c(w) + t/V}{N + t}$$
#
# Return the mean of $-\ln p$ over the validation tokens.


# %% tags=["exercise"]
def unigram(train, validation, vocab_size):
    return ...


# %% tags=["check"]
def theirs(train, validation, vocab_size):
    return baselines.losses(train, validation, vocab_size)["unigram"]


small = np.array([0, 0, 1, 0, 2]), np.array([0, 3, 1]), 4
exercise.function(unigram, theirs, small, (train, validation, tokenizer.vocab_size))


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# There are two texts: one gives the probabilities, the other is judged by them. Which of the two do $N$, $t$
# and $c(w)$ come from, and which the tokens over which $-\ln p$ is averaged?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# First make an array of $V$ probabilities from the training tokens: $N$ is their number, and $t$ the number
# of ids with $c(w) > 0$. Then take the probability of each validation token, and average $-\ln p$ over these
# tokens, not over the vocabulary.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.bincount(train, minlength=vocab_size)` counts all ids, also those that never occur, and `p[validation]`
# has one probability for each token that is judged. Your `p` has to sum to 1: each numerator has $t/V$ more
# than the count, so the denominator has $t$ more than $N$.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Summed over all $V$ tokens the numerators give $N + t$, so that these are probabilities. Token 3 of the
# small text has never been seen and still gets one, $\frac{3/4}{5 + 3} = \frac{3}{32}$; without the uniform
# writer's share its loss would be infinite.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def unigram(train, validation, vocab_size):
    counts = np.bincount(train, minlength=vocab_size)
    t = np.count_nonzero(counts)
    p = (counts + t / vocab_size) / (len(train) + t)
    return np.mean(-np.log(p[validation]))


exercise.function(unigram, theirs, small, (train, validation, tokenizer.vocab_size))

# %% [markdown]
# ### Exercise 3: three patients
#
# Three runs went wrong, each in its own way. Which is which? Answer with a tuple of the three names below,
# the keys of `wrong`, in the order A, B, C.

# %%
wrong = {
    "learning rate too low": {"rate": 2e-5},
    "learning rate too high": {"rate": 0.2},
    "too little text": {"train": train[:2000]},
}
order = [list(wrong)[i] for i in np.random.default_rng(5).permutation(3)]
patients = [
    learn(**{"train": train, "n_layers": 1, "d_model": 64, "steps": 300, **wrong[name]}) for name in order
]
pictures.curves(dict(zip("ABC", patients, strict=True)), worth)

# %% tags=["exercise"]
diagnosis = ...

# %% tags=["check"]
exercise.value(diagnosis, lambda: tuple(order))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section "Learning by heart: overfitting" gives three readings of two curves. Compare each patient's two
# curves with each other first, and then look at their course.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Which patient's curves end far apart? Of the other two, ask whose validation loss falls slowly all the way,
# and whose falls quickly and then stays about where it is.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A rate that is too low makes tiny steps, so every evaluation is a little better than the one before. A rate
# that is too high drops the loss at once to about the line of the unigram writer, where it moves up and down;
# give the three keys in the order A, B, C.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Where training and validation part, the text was too little. Of the two that stay together, the one that
# creeps down a smooth line had too low a learning rate; the one that falls at once, and then hovers where the
# frequencies of characters are, had one too high.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def diagnose(rows):
    _, train, validation = zip(*rows, strict=True)
    if validation[-1] - train[-1] > 0.5:
        return "too little text"
    return "learning rate too high" if np.any(np.diff(validation) > 0) else "learning rate too low"


diagnosis = tuple(diagnose(rows) for rows in patients)
exercise.value(diagnosis, lambda: tuple(order))

# %% [markdown]
# ## Where next
#
# The model gives a probability to every token that might come next. Lesson 16, "Writing: from logits to
# text", is about choosing among them.
