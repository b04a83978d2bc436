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
# # 0. Start here
#
# *After this lesson you can run and change a notebook, say what a language model does and what it is made of,
# and find your way through this course.*
#
# A program that writes. You give it the beginning of a text; it says which character may come next, one is
# drawn, and so on. At the end of this course you will have derived, run and checked every formula in it,
# forwards and backwards. Here it is at work, before anything is explained.

# %%
import textwrap

import numpy as np

import handgrad
from handgrad.formats.model_folder import Model
from handgrad.lessons import course_map, exercise, practice
from handgrad.lessons.pictures import sampling as pictures
from handgrad.model.init import init

# %% [markdown]
# ## A machine that writes
#
# The model below is a small transformer, 800,000 numbers, which are called its *weights*. Before training
# they are random. Then it reads Python's own language reference for half a minute (the first time you come
# here; after that it is kept beside your notebook).

# %%
trained = practice.model()
untrained = Model(trained.config, init(trained.config, seed=0), trained.tokenizer)
for name, model in {"untrained": untrained, "after half a minute": trained}.items():
    text = handgrad.generate(model, "The ", max_tokens=160, temperature=0.8, seed=1)
    print(f"--- {name}\n{textwrap.fill('The ' + text, 80)}\n")

# %% [markdown]
# Nobody told it what a word is. All it ever did was to guess the next character, to hear how wrong it was,
# and to move each of its weights a little in the direction in which it would have been less wrong. What it
# guesses after a beginning is a probability for each character:

# %%
probs = np.exp(handgrad.trace(trained, "The stateme").logits[-1].astype(np.float64))
pictures.distribution(probs / probs.sum(), trained.tokenizer.characters, title="after “The stateme”")

# %% [markdown]
# Three questions make up the course. *What does it compute*, from the text to these probabilities? *How does
# it know* in which direction to move each of 800,000 numbers? And *how well* does it do, on what machine, and
# why?
#
# ## The map
#
# This is the whole model. Each part has the number of the lesson that derives it. Forward goes from left to
# right: a text is cut into tokens, tokens become rows of numbers, blocks of attention and feed-forward add to
# them, and at the end stands a loss, the one number that says how wrong the guess was. Back goes the
# gradient, through the same parts, and training moves every weight along it. On the pages of this course the
# map stands at the top of each lesson, with the place where you are marked.

# %%
course_map.here(0)

# %% [markdown]
# The way of this course is that of the reports it grew from: first slopes and a walk downhill, then a single
# neuron and what it cannot do, then networks, and from there part by part the transformer.
#
# | you have | read |
# |---|---|
# | two hours | this one, 5, 11, 14 |
# | a weekend | 2 to 8, 10, 11, 14, 15 |
# | a term | all, with the exercises |
#
# What you need: some Python (functions, lists, a loop), and what a function and a power are. Derivatives are
# explained where they come up. A lesson takes an hour or two with its exercises, lessons 1, 3 and 19
# rather more.
#
# ## How to use a notebook
#
# This page is a *notebook*: text, and cells with code. In Jupyter, click on a cell and press Shift and Enter
# together: it runs, what it prints or draws appears below, and the next cell is chosen. Cells share what they
# define, so run them from top to bottom; *Run All Cells* in the menu *Run* does that. Change whatever you
# like, and run again. Nothing can break: *Restart Kernel* forgets all names, and `handgrad lessons --reset 3`
# copies lesson 3 anew, and keeps yours under another name.
#
# On a page of the documentation, without Jupyter, the code has been run already. There sliders show pictures
# that were drawn beforehand.
#
# At the end of each lesson are exercises. Where you are asked, replace the three dots by your answer, run the
# cell, and run the one after it, which judges: *right*, *wrong* with the place where it fails, or *not solved
# yet*. Behind are three hints, folded away, each of which says more than the one before, and our answer. The
# judges know no solutions: they compute or measure, so any right answer will do. To begin an exercise anew,
# write `%again` into its cell in place of your answer, and run it. Two to try it on:
#
# ## Exercises
#
# ### Exercise 1: a first answer
#
# How many different characters does the model above know? Ask it: `trained.config` has its settings, and
# `vocab_size` is one of them.

# %% tags=["exercise"]
n_characters = ...

# %% tags=["check"]
exercise.value(n_characters, lambda: len(trained.tokenizer.characters))

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The task names both the object and the setting. Look at how the cells above read other parts of the model,
# such as `trained.tokenizer`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Each setting of `trained.config` is an attribute: it is read with a dot and its name, as
# `trained.tokenizer.characters` is above.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Write `trained.config`, a dot and the name of the setting that counts the vocabulary, that is, all
# characters that the model knows. Another setting, `context_length`, counts how many characters it can read
# at once.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# `trained.config.vocab_size`. Each character that occurs in the text has a number, and for each of them the
# model has a row of weights.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
n_characters = trained.config.vocab_size
exercise.value(n_characters, lambda: len(trained.tokenizer.characters))

# %% [markdown]
# ### Exercise 2: a first function
#
# The model's *loss* for one character is $-\ln p$, where $p$ is the probability that it gave to the character
# that really came. Write `loss`, which takes $p$ and returns that number. (`np.log` is the natural
# logarithm.)


# %% tags=["exercise"]
def loss(p):
    return ...


# %% tags=["check"]
def in_other_words(p):
    """How often one would have to halve a certainty to get to p, times ln 2."""
    return np.log2(1 / p) * np.log(2)


exercise.function(loss, in_other_words, 1.0, 0.5, 0.01)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The formula has three parts: a sign, a function and the probability. Is the value of the function positive
# or negative for a $p$ between 0 and 1?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Take the natural logarithm, `np.log`, and not `np.log2`, which has the base 2. A probability is at most 1,
# so its logarithm is never positive; a loss is never negative.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# `np.log(0.5)` is about $-0.69$, and the loss at $p = 0.5$ should be $+0.69$. Return the logarithm of `p`
# with its sign changed.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# A certain guess that is right costs nothing, one of a half costs $\ln 2 \approx 0.69$, and one of a
# hundredth 4.6.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def loss(p):
    return -np.log(p)


exercise.function(loss, in_other_words, 1.0, 0.5, 0.01)

# %% [markdown]
# ## Where next
#
# Lesson 1, *Arrays and broadcasting*, is about the form in which all of these numbers come. If you know NumPy
# well, try its exercises and go on to lesson 2.
