# %% exercise 1: the likelier first letter leads to the likeliest text, too
trap = (0.6, 0.5, 0.7)


# %% exercise 1: greedy would begin with b, and be right
trap = (0.4, 0.5, 1.0)


# %% exercise 2: the token that crosses the line is dropped
def nucleus(probs, p):
    order = np.argsort(-probs)
    kept = np.where(np.isin(np.arange(len(probs)), order[np.cumsum(probs[order]) <= p]), probs, 0.0)
    return kept / max(kept.sum(), 1e-12)


# %% exercise 2: what is left does not sum to one
def nucleus(probs, p):
    order = np.argsort(-probs)
    before = np.cumsum(probs[order]) - probs[order]
    return np.where(np.isin(np.arange(len(probs)), order[before < p]), probs, 0.0)


# %% exercise 2: each token is compared with p by itself
def nucleus(probs, p):
    kept = np.where(probs >= 1 - p, probs, 0.0)
    return kept / max(kept.sum(), 1e-12)


# %% exercise 3: the inverse temperature
def temperature_for(z, nats):
    low, high = 1e-2, 1e3
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if entropy(z, middle) < nats else (low, middle)
    return 1 / middle


# %% exercise 3: the halving goes the wrong way
def temperature_for(z, nats):
    low, high = 1e-2, 1e3
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if entropy(z, middle) > nats else (low, middle)
    return middle
