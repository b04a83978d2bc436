# %% exercise 1: rounded down
def steps_until(beta, share):
    return int(np.log(1 - share) / np.log(beta))


# %% exercise 1: the time at which so much is forgotten, not learned
def steps_until(beta, share):
    return int(np.ceil(np.log(share) / np.log(beta)))


# %% exercise 2: the share of the uniform writer is added to the counts, but not to their sum
def unigram(train, validation, vocab_size):
    counts = np.bincount(train, minlength=vocab_size)
    t = np.count_nonzero(counts)
    return np.mean(-np.log((counts[validation] + t / vocab_size) / len(train)))


# %% exercise 2: one is added to each count
def unigram(train, validation, vocab_size):
    counts = np.bincount(train, minlength=vocab_size) + 1
    return np.mean(-np.log(counts[validation] / counts.sum()))


# %% exercise 2: the entropy of the frequencies, which the validation text does not have
def unigram(train, validation, vocab_size):
    counts = np.bincount(train, minlength=vocab_size)
    t = np.count_nonzero(counts)
    p = (counts + t / vocab_size) / (len(train) + t)
    return -np.sum(p * np.log(p))


# %% exercise 3: too high and too low are confused
diagnosis = tuple(
    {
        "learning rate too low": "learning rate too high",
        "learning rate too high": "learning rate too low",
    }.get(n, n)
    for n in order
)

# %% exercise 3: overfitting everywhere
diagnosis = ("too little text",) * 3
