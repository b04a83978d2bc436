# %% exercise 1: rounded down
def steps_until(beta, share):
    return int(np.log(1 - share) / np.log(beta))


# %% exercise 1: the time at which so much is forgotten, not learned
def steps_until(beta, share):
    return int(np.ceil(np.log(share) / np.log(beta)))


# %% exercise 2: one is added to the counts, but not to their sum
def unigram(train, validation, vocab_size):
    counts = np.bincount(train, minlength=vocab_size) + 1
    return np.mean(-np.log(counts[validation] / len(train)))


# %% exercise 2: the entropy of the frequencies, which the validation text does not have
def unigram(train, validation, vocab_size):
    p = (np.bincount(train, minlength=vocab_size) + 1) / (len(train) + vocab_size)
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
