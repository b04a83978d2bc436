# %% exercise 1: keepdims is taken for granted
answer = ((8, 5, 3), (8, 16), (8, 5, 16), (8, 5, 16), (8, 3, 16), (8, 5, 5))


# %% exercise 1: the shared axis of a product is kept
answer = ((8, 5, 16, 3), (8, 16), "error", (8, 5, 16), (8, 3, 16), (8, 5, 5))


# %% exercise 2: the root is forgotten
def standardized(x, axis=0):
    centred = x - x.mean(axis=axis, keepdims=True)
    return centred / (centred**2).mean(axis=axis, keepdims=True)


# %% exercise 2: keepdims is forgotten
def standardized(x, axis=0):
    return (x - x.mean(axis=axis)) / x.std(axis=axis)


# %% exercise 3: points are paired one by one
def distances(x, y):
    return np.sqrt(((x - y[: len(x)]) ** 2).sum(axis=-1))


# %% exercise 3: the table is transposed
def distances(x, y):
    return np.sqrt(((x - y[:, None]) ** 2).sum(axis=-1))
