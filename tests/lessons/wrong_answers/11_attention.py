# %% exercise 1: the bias is scaled like the products
def biased_backward(dy, saved):
    q, k, v, bias, distance, probs = saved
    dprobs = dy @ v.T
    dscores = probs * (dprobs - np.sum(dprobs * probs, axis=1, keepdims=True)) / np.sqrt(q.shape[1])
    dbias = np.zeros_like(bias)
    np.add.at(dbias, distance, dscores)
    return dscores @ k, dscores.T @ q, probs.T @ dy, dbias


# %% exercise 1: of each distance, the last place only
def biased_backward(dy, saved):
    q, k, v, bias, distance, probs = saved
    dprobs = dy @ v.T
    dscores = probs * (dprobs - np.sum(dprobs * probs, axis=1, keepdims=True))
    scale = 1 / np.sqrt(q.shape[1])
    dbias = np.zeros_like(bias)
    dbias[distance] += dscores
    return dscores @ k * scale, dscores.T @ q * scale, probs.T @ dy, dbias


# %% exercise 1: softmax as if each probability had only its own score
def biased_backward(dy, saved):
    q, k, v, bias, distance, probs = saved
    dprobs = dy @ v.T
    dscores = probs * (1 - probs) * dprobs
    scale = 1 / np.sqrt(q.shape[1])
    dbias = np.zeros_like(bias)
    np.add.at(dbias, distance, dscores)
    return dscores @ k * scale, dscores.T @ q * scale, probs.T @ dy, dbias


# %% exercise 1: dV without the transpose that brings it to the keys
def biased_backward(dy, saved):
    q, k, v, bias, distance, probs = saved
    dprobs = dy @ v.T
    dscores = probs * (dprobs - np.sum(dprobs * probs, axis=1, keepdims=True))
    scale = 1 / np.sqrt(q.shape[1])
    dbias = np.zeros_like(bias)
    np.add.at(dbias, distance, dscores)
    return dscores @ k * scale, dscores.T @ q * scale, probs @ dy, dbias


# %% exercise 2: the plain mean of both outputs
def merge(one, other):
    (m1, sum1, y1), (m2, sum2, y2) = one, other
    m = max(m1, m2)
    return m, np.exp(m1 - m) * sum1 + np.exp(m2 - m) * sum2, (y1 + y2) / 2


# %% exercise 2: the maxima are not brought to a common one
def merge(one, other):
    (m1, sum1, y1), (m2, sum2, y2) = one, other
    return max(m1, m2), sum1 + sum2, (sum1 * y1 + sum2 * y2) / (sum1 + sum2)


# %% exercise 2: outputs that were divided already are taken for sums
def merge(one, other):
    (m1, sum1, y1), (m2, sum2, y2) = one, other
    m = max(m1, m2)
    fade1, fade2 = np.exp(m1 - m), np.exp(m2 - m)
    total = fade1 * sum1 + fade2 * sum2
    return m, total, (fade1 * y1 + fade2 * y2) / total


# %% exercise 3: the other text hears of its values alone
def cross_backward(dy, saved):
    x, z, w_q, _, w_v, q, k, v, probs = saved
    dv, dprobs = probs.T @ dy, dy @ v.T
    dscores = probs * (dprobs - np.sum(dprobs * probs, axis=1, keepdims=True)) / np.sqrt(k.shape[1])
    dq, dk = dscores @ k, dscores.T @ q
    return dq @ w_q.T, dv @ w_v.T, x.T @ dq, z.T @ dk, z.T @ dv


# %% exercise 3: divided by the root of the wrong width
def cross_backward(dy, saved):
    x, z, w_q, w_k, w_v, q, k, v, probs = saved
    dv, dprobs = probs.T @ dy, dy @ v.T
    dscores = probs * (dprobs - np.sum(dprobs * probs, axis=1, keepdims=True)) / np.sqrt(x.shape[1])
    dq, dk = dscores @ k, dscores.T @ q
    return dq @ w_q.T, dk @ w_k.T + dv @ w_v.T, x.T @ dq, z.T @ dk, z.T @ dv


# %% exercise 4: the key itself, made long
query = 10 * keys[2]

# %% exercise 4: the root is forgotten
query = [0.0, 0.0, np.log(297)]


# %% exercise 5: the root is forgotten on the way back
def my_attention(q, k, v):
    T, K = q.shape[-2:]
    scores = np.where(np.tri(T, dtype=bool), q @ k.swapaxes(-1, -2) / np.sqrt(K), -np.inf)
    probs, _ = softmax.forward(scores)
    return probs @ v, (q, k, v, probs)


def my_attention_backward(dy, saved):
    q, k, v, p = saved
    dp = dy @ v.swapaxes(-1, -2)
    ds = p * (dp - np.sum(dp * p, axis=-1, keepdims=True))
    return ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy
