# %% exercise 1: Rosenblatt's own step
def long_enough(v, r):
    return v if v @ r > 0 else v + r


# %% exercise 1: the length of r is forgotten
def long_enough(v, r):
    return v if v @ r > 0 else v + (1 - v @ r) * r


# %% exercise 1: right rows are moved as well
def long_enough(v, r):
    return v + (1 - v @ r) / (r @ r) * r


# %% exercise 2: too few rows
worst = np.eye(3)


# %% exercise 2: right angles, but rows of different length
worst = np.diag([1.0, 2.0, 3.0, 4.0, 5.0])


# %% exercise 2: rows that no vector separates
worst = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0], [1.0, 1.0]])


# %% exercise 3: all points alike, as for XOR
certificate = (1, 1, 1, 1)


# %% exercise 3: the weighted sums agree, but the weights of the classes do not
certificate = (0, 1, 1, 4)


# %% exercise 3: fractions, which as whole numbers are zeros
certificate = (0.5, 0.25, 0.25, 0.5)


# %% exercise 3: nothing proves nothing
certificate = (0, 0, 0, 0)
