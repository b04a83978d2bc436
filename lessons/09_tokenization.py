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
# # 9. Tokens
#
# *After this lesson you can train a byte-pair tokenizer with pencil and paper, encode and decode with it,
# compare tokenizers fairly, and say what a vocabulary costs.*
#
# A model computes with numbers, and a text is none. Before anything else it is cut into pieces, *tokens*,
# each with a number of its own, its id. How it is cut decides how long a text is for the model, how far its
# context reaches, and how large its tables are. Nothing of it is learned by gradients: it is counting, done
# once, before training.

# %%
import itertools
import json
import re
from collections import Counter

import numpy as np

from handgrad import tokenizer as tokenizers
from handgrad.data import corpus
from handgrad.lessons import exercise, source
from handgrad.lessons.pictures import tokens as pictures
from handgrad.tokenizer import byte_letters
from handgrad.tokenizer.characters import CharacterTokenizer

# %% [markdown]
# ## Characters, and what they leave out
#
# The plainest tokens are characters: an alphabet of those that the text has, sorted, and each one's id is its
# place.

# %%
characters = CharacterTokenizer.train(["she sells sea shells"])
print("alphabet:", characters.characters)
print("ids:     ", characters.encode("sea shell").tolist())
source.show(CharacterTokenizer.encode)

# %% [markdown]
# It is enough for a first model, and most of this course uses it. Two things are wrong with it. A character
# that the text did not have has no id. And a text is *long*: every letter of every *the* is a question that
# the model must answer and a place in its context.
#
# Words would be shorter, but there are too many of them: names, endings, misspellings, and no list has them
# all. What we want lies between, common words whole, rare ones in pieces, and everything else letter by
# letter, so that nothing is left out.
#
# ## Byte pairs, by hand
#
# *Byte-pair encoding*, BPE, finds such pieces by one rule, over and over (Gage, "A new algorithm for data
# compression", 1994; for texts Sennrich, Haddow and Birch, 2015,
# [arXiv:1508.07909](https://arxiv.org/abs/1508.07909)):
#
# > *Count all pairs of neighbours. Join the most frequent one, everywhere, into a new token.*
#
# Take a pencil. Our text has the words *low* five times, *lower* twice, *newest* six times and *widest* three
# times. Each word begins as its letters:
#
# | word | times |
# |---|---|
# | l o w | 5 |
# | l o w e r | 2 |
# | n e w e s t | 6 |
# | w i d e s t | 3 |
#
# The pair *e s* occurs $6 + 3 = 9$ times, and so does *s t*. (The pair *w e* has $2 + 6 = 8$, *l o* and *o w*
# have 7.) We take the first, *e s*: the words are now *n e w es t* and *w i d es t*. Count again: *es t* has
# 9. Join: *n e w est*, *w i d est*. Next are *l o* and *o w* with 7: *lo*, then *low*. After four merges
# *low* is a single token, and *lowest*, which never occurred, would be two: *low est*.


# %%
def pairs(words):
    """How often each pair of neighbours occurs; `words` counts tuples of tokens."""
    counts = Counter()
    for word, times in words.items():
        for pair in itertools.pairwise(word):
            counts[pair] += times
    return counts


def merged(word, pair):
    """The word, with every occurrence of the pair joined, from left to right."""
    joined, i = [], 0
    while i < len(word):
        if word[i : i + 2] == pair:
            joined.append(pair[0] + pair[1])
            i += 2
        else:
            joined.append(word[i])
            i += 1
    return tuple(joined)


def train(words, n_merges):
    """The merges in their order. Of equally frequent pairs the one that was met first is taken."""
    words, merges = Counter({tuple(word): times for word, times in words.items()}), []
    for _ in range(n_merges):
        counts = pairs(words)
        if not counts or max(counts.values()) < 2:
            break
        merges.append(max(counts, key=counts.get))
        words = Counter({merged(word, merges[-1]): times for word, times in words.items()})
    return merges


merges = train({"low": 5, "lower": 2, "newest": 6, "widest": 3}, 10)
print("merges:", *("+".join(pair) for pair in merges))

# %% [markdown]
# ## Encoding
#
# A new word is encoded as the text was in training: letters first, then the merges, *in their order*. The
# order matters: a merge may need what an earlier one made.


# %%
def encode(word, merges):
    tokens = tuple(word)
    for pair in merges:
        tokens = merged(tokens, pair)
    return tokens


for word in ("low", "lowest", "newer", "wow"):
    print(f"{word:8}", *encode(word, merges))

# %% [markdown]
# Decoding is to write the tokens one after the other. Nothing is ever lost, since tokens are pieces of the
# text, and pieces that were not joined stay letters.
#
# ## Bytes, words and spaces
#
# Three details make of this the tokenizer of GPT-2 and most models after it (Radford et al., "Language models
# are unsupervised multitask learners", 2019).
#
# - *It begins with bytes, not with letters.* Every text, in whatever script, is a row of bytes (UTF-8): 256
#   first tokens, and no character without an id. A letter outside the Latin alphabet takes two to four of
#   them.
# - *Pairs are joined within words only*, so that no token is half of two words. A space belongs to the word
#   that follows it: " the" is one token. (GPT-2 writes the space as Ġ, so that one can see it.)
# - *The vocabulary has a size that one chooses*: 256 bytes and as many merges as are left.

# %%
text = corpus.embedded().text
for word in ("naïve", "日本", "🙂"):
    print(f"{word!r:8} has {len(word)} characters and the bytes", *word.encode())
print("as GPT-2 writes ' the':", byte_letters.as_letters(b" the"))

words = Counter(byte_letters.as_letters(word.encode()) for word in re.findall(r" ?[A-Za-z]+", text[:200_000]))
merges = train(words, 30)
print("the first thirty merges of our text:", *("".join(pair) for pair in merges))

# %% [markdown]
# Is our `encode` that of the library? The library lets the package `tokenizers` count, which is much faster.
# We take *its* merges, encode a thousand words with our ten lines, and compare.

# %%
library = tokenizers.train("bpe", [text], vocab_size=512)
described = json.loads(library.library_json())["model"]
theirs = [tuple(pair) for pair in described["merges"]]
vocabulary = described["vocab"]
some = re.findall(r" ?[A-Za-z]+", text)[:1000]
same = sum(
    [vocabulary[token] for token in encode(byte_letters.as_letters(word.encode()), theirs)]
    == library.encode(word).tolist()
    for word in some
)
print(same, "of", len(some), "words are cut alike;", len(theirs), "merges")

# %% [markdown]
# ## What a vocabulary is worth, and what it costs
#
# The larger the vocabulary, the fewer tokens a text has. But each further merge is of a rarer pair, and saves
# less:

# %%
sizes = (256, 320, 512, 1024, 2048, 4096)
made = {size: tokenizers.train("bpe", [text], vocab_size=size) for size in sizes}
per_token = {size: len(text.encode()) / len(tokenizer.encode(text)) for size, tokenizer in made.items()}
for size, n_bytes in per_token.items():
    print(f"vocabulary {size:5,}: {n_bytes:.2f} bytes a token")
pictures.bytes_a_token(per_token)

# %% [markdown]
# What does it cost? A row of $D$ numbers in the embedding for each token, and a logit for each of them at
# every position; and rows of rare tokens are rarely learned. Small models with little text do best with small
# vocabularies: handgrad reads texts of up to four million characters by characters, longer ones with 1,024
# tokens.
#
# Can losses be compared, then? *A token* of one tokenizer is not a token of another, and a loss of 2 nats a
# token may be better than one of 1. What stays the same is the text. So divide by its length: *nats a byte*,
# or in bits,
#
# $$\frac{\text{bits}}{\text{byte}} =
# \frac{1}{\ln 2}\cdot\frac{\text{nats}}{\text{token}}\cdot\frac{\text{tokens}}{\text{bytes}} .$$
#
# A compressor such as `xz` can be put on the same scale, since it says a text in bits: it takes about two for
# each byte of English.
#
# ## Exercises
#
# ### Exercise 1: the next merge
#
# Write `next_merge`: it takes a dictionary of words (tuples of tokens) and how often each occurs, and returns
# the pair that BPE joins next; of equally frequent pairs the one that is smaller, as Python compares tuples.


# %% tags=["exercise"]
def next_merge(words):
    return ...


# %% tags=["check"]
def by_looking(words):
    found = {}
    for pair in {pair for word in words for pair in itertools.pairwise(word)}:
        found[pair] = 0
        for word, times in words.items():
            found[pair] += times * sum(word[i : i + 2] == pair for i in range(len(word) - 1))
    most = max(found.values())
    return min(pair for pair, times in found.items() if times == most)


first = {("l", "o", "w"): 5, ("l", "o", "w", "e", "r"): 2, ("n", "e", "w", "e", "s", "t"): 6}
later = {("a", "b", "a", "b"): 2, ("b", "a"): 2, ("c",): 9}
exercise.function(next_merge, by_looking, first, later)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section *Byte pairs, by hand* has a function that counts pairs, each as often as its word occurs. How
# does `train` choose among the counts, and which pair does it take of equally frequent ones?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two rules are to be applied in order: the larger count first, then the smaller pair. Python compares tuples
# entry by entry, so one `key` that is a tuple can express both rules.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# With `min` the smaller pair wins a tie, as it should, but the larger count has to become the smaller entry:
# put a minus sign before the count. With `max` and `(count, pair)` the larger pair would win.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Count each pair as often as its word occurs, and take the largest; a key of two parts settles ties. A word
# of one token has no pair.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def next_merge(words):
    counts = pairs(words)
    return min(counts, key=lambda pair: (-counts[pair], pair))


exercise.function(next_merge, by_looking, first, later)

# %% [markdown]
# ### Exercise 2: how short does it get?
#
# A word is the letter `a`, written $n$ times, and the merges are $(a, a)$, $(aa, aa)$, $(aaaa, aaaa)$: three
# in all. Into how many tokens is it cut? Write a formula, without encoding.


# %% tags=["exercise"]
def n_tokens(n):
    return ...


# %% tags=["check"]
def by_encoding(n):
    return len(encode("a" * n, [("a", "a"), ("aa", "aa"), ("aaaa", "aaaa")]))


exercise.function(n_tokens, by_encoding, 1, 2, 7, 8, 21, 100)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Cut $n = 7$ and $n = 21$ on paper, one merge after the other. Of which pieces can several be left in the
# end, and of which at most one?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A merge joins the pieces of one length two by two from the left; if their number is odd, the last one stays.
# So add four numbers: what is left of the lengths 1, 2 and 4, each 0 or 1, and how many pieces of length 8
# there are.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# Before its merge there are $\lfloor n/4\rfloor$ pieces of length 4, and one stays if that number is odd:
# `n // 4 % 2`. The lengths 2 and 1 go alike. No merge joins the pieces of length 8, so all of them count.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# As many eights as fit, and the rest in binary: for $n = 21$, two eights, a four and a one. `n // 8` and the
# ones among the three last bits of $n$.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def n_tokens(n):
    return n // 8 + (n % 8).bit_count()


exercise.function(n_tokens, by_encoding, 1, 2, 7, 8, 21, 100)

# %% [markdown]
# ### Exercise 3: which model is better?
#
# One model reads characters and has a loss of 1.50 nats a token; another reads BPE tokens, 2.6 bytes each,
# and has 3.70 nats a token. The text has one byte a character. Write both in bits a byte, as a pair.

# %% tags=["exercise"]
bits_a_byte = (..., ...)

# %% tags=["check"]
exercise.value(bits_a_byte, lambda: tuple(np.log2(np.exp([1.50, 3.70 / 2.6]))), tolerance=1e-3)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The section *What a vocabulary is worth, and what it costs* has the formula for bits a byte. How many bytes
# has a token of each model?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $b$ bytes a token there are $1/b$ tokens a byte, so divide the nats a token by $b$ and by $\ln 2$. For
# the model that reads characters $b$ is 1.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The second model pays $3.70/2.6$ nats a byte, the first 1.50. One bit is $\ln 2$ nats, so divide both by
# `np.log(2)`; do not multiply.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# $1.50/\ln 2 = 2.164$, and $3.70/(2.6 \ln 2) = 2.053$: the second model is the better one, though each of its
# guesses is harder.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
bits_a_byte = (1.50 / np.log(2), 3.70 / 2.6 / np.log(2))
exercise.value(bits_a_byte, lambda: tuple(np.log2(np.exp([1.50, 3.70 / 2.6]))), tolerance=1e-3)

# %% [markdown]
# ## Where next
#
# A token has an id, and an id is only a name. Lesson 10, *Embeddings and positions*, gives it numbers to
# compute with.
