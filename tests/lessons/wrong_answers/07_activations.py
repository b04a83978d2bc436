# %% exercise 1: the factor of the chain rule is forgotten
largest_slope = 1.0
slope_at_one = 1 - np.tanh(3) ** 2


# %% exercise 1: the inner factor is kept outside only
largest_slope = 3.0
slope_at_one = 3 * (1 - np.tanh(1) ** 2)


# %% exercise 2: the inner derivative is forgotten in dx
def swish_backward(dy, saved):
    x, _, sigma = saved
    slope = sigma * (1 - sigma)
    return dy * (sigma + x * slope), np.sum(dy * x * x * slope)


# %% exercise 2: the inner derivative is forgotten in dbeta
def swish_backward(dy, saved):
    x, beta, sigma = saved
    slope = sigma * (1 - sigma)
    return dy * (sigma + beta * x * slope), np.sum(dy * x * slope)


# %% exercise 2: dbeta is not summed
def swish_backward(dy, saved):
    x, beta, sigma = saved
    slope = sigma * (1 - sigma)
    return dy * (sigma + beta * x * slope), dy * x * x * slope


# %% exercise 3: softmax's own backward (unnamed)
def log_softmax_backward(dy, saved):
    f = np.exp(saved)
    return (f * (dy - np.sum(dy * f, axis=-1, keepdims=True)),)


# %% exercise 3: the sum runs over all rows
def log_softmax_backward(dy, saved):
    return (dy - np.exp(saved) * np.sum(dy),)


# %% exercise 3: no tuple
def log_softmax_backward(dy, saved):
    return dy - np.exp(saved) * np.sum(dy, axis=-1, keepdims=True)


# %% exercise 4: the density's root is forgotten
def my_gelu(x):
    phi = (1 + erf.forward(x / np.sqrt(2))[0]) / 2
    return x * phi, (x, phi)


def my_gelu_backward(dy, saved):
    x, phi = saved
    return (dy * (phi + x * np.exp(-x * x / 2)),)


# %% exercise 5: each probability has its own score only
def my_softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def my_softmax_backward(dy, y):
    return (y * (1 - y) * dy,)
