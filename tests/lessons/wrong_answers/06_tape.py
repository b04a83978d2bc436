# %% exercise 1: the gradient passes everywhere
def relu(a):
    return Node(np.maximum(a.value, 0.0), [(a, lambda d: d)])


# %% exercise 1: the value comes back in place of the slope
def relu(a):
    return Node(np.maximum(a.value, 0.0), [(a, lambda d: d * np.maximum(a.value, 0.0))])


# %% exercise 1: nobody knows what it was made of
def relu(a):
    return Node(np.maximum(a.value, 0.0))


# %% exercise 2: nodes are counted
def n_paths(end):
    return len(in_order(end))


# %% exercise 2: the longest path alone
def n_paths(end):
    paths = {}
    for one in in_order(end):
        paths[id(one)] = max((paths[id(parent)] for parent, _ in one.made_of), default=1)
    return paths[id(end)]


# %% exercise 3: only the input moves
def layer_jvp(x, w, b, x_dot, w_dot, b_dot):
    y = np.tanh(x @ w + b)
    return y, (1 - y * y) * (x_dot @ w + b_dot)


# %% exercise 3: the slope of tanh is forgotten
def layer_jvp(x, w, b, x_dot, w_dot, b_dot):
    return np.tanh(x @ w + b), x_dot @ w + x @ w_dot + b_dot
