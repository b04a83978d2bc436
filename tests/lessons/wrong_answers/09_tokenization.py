# %% exercise 1: each pair is counted once a word, however often the word occurs
def next_merge(words):
    counts = pairs(dict.fromkeys(words, 1))
    return min(counts, key=lambda pair: (-counts[pair], pair))


# %% exercise 1: of equal pairs the larger
def next_merge(words):
    counts = pairs(words)
    return max(counts, key=lambda pair: (counts[pair], pair))


# %% exercise 2: eights alone
def n_tokens(n):
    return -(-n // 8)


# %% exercise 2: all bits
def n_tokens(n):
    return n.bit_count()


# %% exercise 3: nats in place of bits
bits_a_byte = (1.50, 3.70 / 2.6)

# %% exercise 3: the tokens' length is forgotten
bits_a_byte = (1.50 / np.log(2), 3.70 / np.log(2))
