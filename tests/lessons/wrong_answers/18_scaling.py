# %% exercise 1: the backward is forgotten
def hours(n, d, p):
    return 2 * n * d / p / 3600


# %% exercise 1: seconds in place of hours
def hours(n, d, p):
    return 6 * n * d / p


# %% exercise 2: the exponents are exchanged
def best(c, A, alpha, B, beta):
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (c / 6) ** (alpha / (alpha + beta))


# %% exercise 2: the root, whatever the exponents
def best(c, A, alpha, B, beta):
    return (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * (c / 6) ** 0.5
