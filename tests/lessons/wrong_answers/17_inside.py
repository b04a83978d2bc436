# %% exercise 1: the bar is dealt out evenly
def shares_of_heads(layer):
    output = saved.blocks[layer].attention.output
    whole = (output.x @ output.weight)[0, -1] @ direction
    return np.full(config.n_heads, whole / config.n_heads)


# %% exercise 1: columns of the matrix instead of its rows
def shares_of_heads(layer):
    output = saved.blocks[layer].attention.output
    written = output.x[0, -1] @ output.weight
    return np.array([written[rows(head)] @ direction[rows(head)] for head in range(config.n_heads)])


# %% exercise 2: the mean is added, and the head still writes
def mean_head(layer, head):
    attention = weights.blocks[layer].attention
    constant = means[layer][rows(head)] @ attention.output.weight[rows(head)]
    return with_block(layer, attention=attention._replace(output=attention.output._replace(bias=constant)))


# %% exercise 2: zero, not the mean
def mean_head(layer, head):
    return without_head(layer, head)


# %% exercise 2: the means of all heads are added
def mean_head(layer, head):
    attention = without_head(layer, head).blocks[layer].attention
    constant = means[layer] @ weights.blocks[layer].attention.output.weight
    return with_block(layer, attention=attention._replace(output=attention.output._replace(bias=constant)))


# %% exercise 3: the slope at the end alone
def integrated(x, x_average, n=32):
    (slope,) = slope_at_start(1.0, answer_from_start(x)[1])
    return np.sum(slope * (x - x_average), axis=-1)[0]


# %% exercise 3: slopes without the way
def integrated(x, x_average, n=32):
    mean = np.zeros_like(x)
    for s in (np.arange(n) + 0.5) / n:
        _, saved = answer_from_start(x_average + s * (x - x_average))
        mean += slope_at_start(1.0, saved)[0] / n
    return np.sum(mean, axis=-1)[0]
