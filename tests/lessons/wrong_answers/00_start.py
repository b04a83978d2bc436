# %% exercise 1: the context for the vocabulary
n_characters = trained.config.context_length


# %% exercise 2: the sign is forgotten
def loss(p):
    return np.log(p)


# %% exercise 2: bits in place of nats
def loss(p):
    return -np.log2(p)
