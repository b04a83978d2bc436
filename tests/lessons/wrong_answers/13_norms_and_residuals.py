# %% exercise 1: the part along x_hat is not taken away
def rms_norm_backward(dy, saved):
    x, gamma, rrms = saved
    return rrms * gamma * dy, sum_to(dy * x * rrms, gamma.shape)


# %% exercise 1: the mean is taken away as in layer norm
def rms_norm_backward(dy, saved):
    x, gamma, rrms = saved
    x_hat = x * rrms
    g = gamma * dy
    return rrms * (g - average(g) - x_hat * average(g * x_hat)), sum_to(dy * x_hat, gamma.shape)


# %% exercise 2: the root of the mean square
mean_square = 2.0**-8


# %% exercise 2: the ReLU is forgotten
mean_square = 1.0


# %% exercise 3: the gain of a layer without activation
gain_for_tanh = 1.0


# %% exercise 3: far too much
gain_for_tanh = 3.0
