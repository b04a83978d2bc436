# %% exercise 1: the inner derivative is forgotten
def bent_gradient(point):
    x, y = point
    return np.array([-2 * (1 - x) + 20 * (y - x**2), 20 * (y - x**2)])


# %% exercise 1: the sign of (1 - x) squared
def bent_gradient(point):
    x, y = point
    return np.array([2 * (1 - x) - 40 * x * (y - x**2), 20 * (y - x**2)])


# %% exercise 2: the factor before the square is taken for the curvature
limit, best, limit_with_momentum = 2 / 3, 1 / 3, 1


# %% exercise 2: momentum is thought to change nothing
limit, best, limit_with_momentum = 1 / 3, 1 / 6, 1 / 3


# %% exercise 3: the learning rate is left as it is
def averaging_step(weights, gradient, mean, learning_rate, beta):
    mean = beta * mean + (1 - beta) * gradient
    return weights - learning_rate * mean, mean


# %% exercise 3: the old mean takes the step
def averaging_step(weights, gradient, mean, learning_rate, beta):
    new = beta * mean + (1 - beta) * gradient
    return weights - learning_rate / (1 - beta) * mean, new


# %% exercise 4: the wrong coordinate is led to zero
rate_to_the_saddle = 1 / 6


# %% exercise 4: nearly right
rate_to_the_saddle = 0.2500001
