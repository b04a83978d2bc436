# %% exercise 1: what one device sends
def ring_traffic(n, n_bytes):
    return 2 * (n - 1) * n_bytes / n, 2 * (n - 1)


# %% exercise 1: only the first half
def ring_traffic(n, n_bytes):
    return (n - 1) * n_bytes, n - 1


# %% exercise 2: every device adds the second bias
def summand(x, up, down, i, n):
    columns = np.array_split(np.arange(up.weight.shape[1]), n)[i]
    h, _ = ops.linear.forward(x, up.weight[:, columns], up.bias[columns])
    h, _ = ops.activation.forward(h, name="gelu")
    return h @ down.weight[columns] + down.bias


# %% exercise 2: the sum stands before the activation
def summand(x, up, down, i, n):
    columns = np.array_split(np.arange(up.weight.shape[1]), n)[i]
    h = x @ up.weight[:, columns] + up.bias[columns]
    return ops.activation.forward(h @ down.weight[columns] + down.bias / n, name="gelu")[0]


# %% exercise 3: the moments are forgotten
fewest_devices = 2
bytes_sent_by_each = 3 * (1 / 2) * 4 * 7e9

# %% exercise 3: weights are gathered once
fewest_devices = 3
bytes_sent_by_each = 2 * (2 / 3) * 4 * 7e9
