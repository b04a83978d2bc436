# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 21. One step on many devices
#
# *After this lesson you can divide a training step among devices in three ways, prove that each gives the
# step of one device, count what the devices must tell each other, and say which way suits a model.*
#
# A model may take too long on one device, or not fit on it. What can be divided? A training step works on
# three things: a *batch*, whose sequences know nothing of each other; the *weights*, with their gradient and
# the optimizer's moments; and *products*, which are sums. Each can be divided, and what it costs is
# communication. No device computes anything new in this lesson: the whole of it is where numbers are.
#
# The devices here are entries of a Python list. At the end the library's engine does the same on eight
# devices of JAX, which your processor plays, if JAX is installed.

# %%
import numpy as np

import handgrad
from handgrad import ops
from handgrad.lessons import exercise, knobs
from handgrad.lessons.pictures import devices as pictures

rng = np.random.default_rng(0)

# %% [markdown]
# ## The batch, divided
#
# The loss of a batch is a mean over its tokens, and its gradient a mean of gradients. If $n$ devices each
# have all weights $w$ and one $n$-th of the sequences, device $i$ computes the gradient $g_i$ of its own mean
# loss $L_i$, and because differentiating is linear,
#
# $$L = \frac1n\sum_i L_i\qquad\Longrightarrow\qquad
#   \frac{\partial L}{\partial w} = \frac1n\sum_i g_i .$$
#
# (If the parts count different numbers of tokens, they are weighted, as in lesson 19.) With the mean gradient
# in hand every device takes the same step, so their weights stay equal without being compared ever again.

# %%
config = handgrad.preset("nano").replace(vocab_size=20, context_length=8, n_layers=2, d_model=32)
weights = handgrad.init(config, 1)
token_ids, targets = rng.integers(config.vocab_size, size=(2, 16, 8))


def gradient(part):
    """The gradient of the loss of some sequences, all weights in one row."""
    _, gradients = handgrad.loss_and_gradients(config, weights, token_ids[part], targets[part])
    return np.concatenate([each.ravel() for each in gradients.values()])


n = 8
parts = np.array_split(np.arange(16), n)
of_each = [gradient(part) for part in parts]
whole = gradient(slice(None))
difference = np.max(np.abs(np.mean(of_each, axis=0) - whole)) / np.max(np.abs(whole))
print(f"eight devices and one: the gradients differ by {difference:.0e} of the largest element")
print(f"each device holds a gradient of {of_each[0].nbytes:,} bytes, and wants the mean of all")

# %% [markdown]
# This is *data parallel* training. What it needs is that all devices come to know the sum of what each of
# them has: an *all-reduce*.
#
# ## How many learn one sum
#
# Suppose all send their gradients to the first device, and it sends the sum back. It works; but the first
# device receives and sends $n - 1$ gradients, while all others wait. What takes longest is whatever passes
# through *one* device, so let us count that, and divide the work.
#
# Put the devices in a ring, where each sends to the next, all at the same time. Cut each gradient into $n$
# chunks. In the first round device $i$ sends its chunk $i$, and the next one adds it to its own; then each
# passes on the chunk that it just added to. After $n - 1$ such rounds every device has *one* chunk that is
# the sum of all: a *reduce-scatter*. In $n - 1$ more rounds the finished chunks go round once and are written
# over what was there: an *all-gather*.


# %%
def reduce_scatter(devices):
    """`devices[i][j]` is chunk j on device i. Afterwards device i has the sum of all chunks i + 1."""
    n = len(devices)
    for round in range(n - 1):
        sent = [devices[i][(i - round) % n].copy() for i in range(n)]  # all send at the same time
        for i in range(n):
            devices[(i + 1) % n][(i - round) % n] += sent[i]


def all_gather(devices):
    """Device i has chunk i + 1 finished; afterwards all devices have all of them."""
    n = len(devices)
    for round in range(n - 1):
        sent = [devices[i][(i + 1 - round) % n].copy() for i in range(n)]
        for i in range(n):
            devices[(i + 1) % n][(i + 1 - round) % n] = sent[i]


chunks = [np.array_split(each.copy(), n) for each in of_each]
reduce_scatter(chunks)
all_gather(chunks)
means = [np.concatenate(each) / n for each in chunks]
print("all devices have the same bits:", all(np.array_equal(means[0], mean) for mean in means))
print(f"and they differ from one device's by {np.max(np.abs(means[0] - whole)) / np.max(np.abs(whole)):.0e}")

# %% [markdown]
# Below, a column is a device and a row a chunk; the number says of how many devices' chunks it is the sum.
# Turn the knob: first sums grow along a diagonal, then whole ones spread.

# %%
knobs.turn(pictures.ring, n_rounds=list(range(2 * 5 - 1)))

# %% [markdown]
# Each device sends $2(n-1)$ chunks of one $n$-th of the gradient. So whether there are four devices or four
# thousand, each sends less than *two* gradients:
#
# $$\text{bytes sent by each device} = 2\,\frac{n-1}{n}\cdot\text{bytes of the gradient}.$$

# %%
counts = np.array([2, 4, 8, 16, 32, 64])
pictures.busiest(
    counts,
    {
        "all to the first, and back": counts - 1.0,
        "round a ring": 2 * (counts - 1) / counts,
    },
)

# %% [markdown]
# ## The weights, divided
#
# Data parallel training saves time and no memory: every device holds 16 bytes for each weight, the weight,
# its gradient and two moments, in float32. But look at the all-reduce again. Between its halves, each device
# has the finished sum of *one* chunk. If it kept the moments of that chunk alone, it could do AdamW's work
# for it, and nobody else would have to. If it kept the *weights* of that chunk alone, they would have to be
# gathered before a product reads them; and could be forgotten again after it.
#
# That is ZeRO (Rajbhandari et al., 2020, arXiv:1910.02054), in JAX and PyTorch *fully sharded data parallel*,
# `fsdp`. A step of device $i$:
#
# 1. forward: all-gather a layer's weights, compute, forget them; layer after layer;
# 2. backward: gather them again, compute, and *reduce-scatter* the layer's gradient;
# 3. AdamW on the chunk that is its own.


# %%
def adamw(weights, gradient, moments, step, rate=1e-2):
    """Its own chunk of everything, or all of it: AdamW looks at one element at a time."""
    state = handgrad.optim.adamw.State(*moments, step)
    weights, state = handgrad.optim.adamw.update(weights, gradient, state, learning_rate=rate)
    return weights, (state.mean, state.square)


from handgrad import tree

flat, _ = tree.pack(weights)
chunk = np.array_split(np.arange(flat.size), n)
zeros = np.zeros_like(flat)
on_one, _ = adamw(flat, means[0], (zeros, zeros), 0)
on_each = [adamw(flat[c], means[0][c], (zeros[c], zeros[c]), 0)[0] for c in chunk]
print("eight eighths of AdamW are AdamW, bit for bit:", np.array_equal(np.concatenate(on_each), on_one))

# %% [markdown]
# Clipping is the one thing that looks at all elements: at the gradient's norm. Each device sums the squares
# of its chunk, and one number is all-reduced.
#
# What does it cost? Two all-gathers and a reduce-scatter, $3\frac{n-1}{n}$ of the weights' bytes against
# $2\frac{n-1}{n}$: half as much again. What does it save? Everything that grows with the weights is divided
# by $n$.

# %%
knobs.turn(pictures.memory, billion_weights=[0.124, 1.5, 7, 70])

# %% [markdown]
# ## A product, divided
#
# What if one layer alone is too large, or there are more devices than sequences? Then a product has to be
# divided. A matrix can be cut in two directions.
#
# - By *columns*, $W = (W_1\;W_2)$: $xW = (xW_1\;xW_2)$. Each device needs all of $x$ and has some of the
#   outputs.
# - By *rows*, $W = \binom{W_1}{W_2}$: $xW = x_1W_1 + x_2W_2$. Each device needs some of the inputs and has a
#   *summand* of all outputs.
#
# Now the trick (Shoeybi et al., "Megatron-LM", 2019, arXiv:1909.08053): cut the first product of a
# feed-forward block by columns and the second by rows. What the first gives is what the second needs, and the
# activation between them works number by number. So nothing is said in the middle, and at the end there is
# one sum.

# %%
D, F = 32, 128
x = rng.normal(size=(10, D))
up = handgrad.parameters.Linear(rng.normal(size=(D, F)) / D**0.5, rng.normal(size=F))
down = handgrad.parameters.Linear(rng.normal(size=(F, D)) / F**0.5, rng.normal(size=D))
y, saved = ops.feed_forward.forward(x, up, down, activation="gelu")

summands = []
for columns in np.array_split(np.arange(F), 2):
    mine = handgrad.parameters.Linear(up.weight[:, columns], up.bias[columns])
    h, _ = ops.linear.forward(x, *mine)
    h, _ = ops.activation.forward(h, name="gelu")
    summands.append(h @ down.weight[columns])
print("two devices and one differ by", f"{np.max(np.abs(sum(summands) + down.bias - y)):.0e}")

# %% [markdown]
# Backward is forward's mirror image, and so is its communication. Each device has all of $dy$, since in the
# sum every summand has the same gradient; each computes the gradients of its own weights, which are whole;
# and each finds *a summand* of $dx$, because its columns of the first product are some of the paths by which
# $x$ acts. So forward sums at the end of the block, and backward sums at its beginning.

# %%
dy = rng.normal(size=y.shape)
dx, *_ = ops.feed_forward.backward(dy, saved)
dx_summands = []
for columns in np.array_split(np.arange(F), 2):
    mine = [
        handgrad.parameters.Linear(up.weight[:, columns], up.bias[columns]),
        handgrad.parameters.Linear(down.weight[columns]),
    ]
    _, saved_here = ops.feed_forward.forward(x, *mine, activation="gelu")
    dx_here, *_ = ops.feed_forward.backward(dy, saved_here)
    dx_summands.append(dx_here)
print("dx, summed over two devices, differs by", f"{np.max(np.abs(sum(dx_summands) - dx)):.0e}")

# %% [markdown]
# Attention divides by heads: queries, keys and values by columns, a few heads a device; the output by rows.
# The heads of one device never look at another's. So a layer has four sums, two forward and two backward,
# each as large as its part of the residual stream. They happen while everybody waits, several in each layer:
# so tensor parallel devices want the fastest links there are, those inside one machine.
#
# ## What the engine does
#
# In handgrad there is no code that sends anything. Arrays are placed on a *mesh*, a grid of devices whose
# axes have names; the program is the one of a single device; and the compiler, XLA, inserts the collectives
# that follow from where arrays are. Which axis divides which array is one short table. The next cell needs
# JAX (`pip install "handgrad[xla]"`), and asks it to play eight devices, before it is loaded for the first
# time.

# %%
import importlib.util
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
HAS_JAX = importlib.util.find_spec("jax") is not None

if HAS_JAX:
    from pathlib import Path

    table = Path(handgrad.__file__).parent / "engines" / "xla" / "sharding.py"
    code = table.read_text(encoding="utf-8")
    print(code[code.index("WHOLE = ") :])
else:
    print("JAX is not installed here.")


# %%
from handgrad import engines
from handgrad.engines import OptimizerSettings, State


def losses(engine, mesh=None):
    """Three steps, dropout and all."""
    dropping = config.replace(dropout=0.1)
    training = engines.training(
        dropping, State(weights), OptimizerSettings(), name=engine, mesh=mesh, batch_size=16
    )
    rng = np.random.default_rng(3)
    return "  ".join(f"{training.step(token_ids, targets, 1e-2, rng).loss:.7f}" for _ in range(3))


print("the formulas    ", losses("reference"))
for mesh in ("data=8", "fsdp=2,model=4") if HAS_JAX else ():
    print(f"{mesh:16}", losses("xla", mesh))

# %% [markdown]
# The same losses, but for roundings: sums of eight parts are added in another order. Dropout's masks are the
# same too, on the formulas' single processor and on eight devices of which none knows another's. They are
# counted and not drawn, as in lesson 19: a number of the mask follows from its place in the whole batch.
#
# ## Inside one device: what flash attention tiles
#
# A GPU is itself many devices. Its hundred or so processors have little fast memory each, about 200 KB, and
# share a large one that is slower by far: an H100 reads 3.35 TB from it in a second, and in the same second
# could multiply and add $5\cdot10^{14}$ times in 16 bits. To be worth its place there, each byte that is read
# has to serve about three hundred operations (lesson 19: the ridge of the roofline).
#
# Attention by formula is far from it. It writes the scores, $T\times T$ for each head, reads them for
# softmax, writes probabilities, and reads these for the mixture: $4T^2$ numbers to and fro, for $4T^2K$
# operations. Lesson 11 showed how to do without: of each query keep $m$, $\ell$ and $a$, and let blocks of
# keys come by. *FlashAttention* makes tiles of it. A processor takes a tile of queries into its fast memory,
# and lets all tiles of keys and values pass through it, one after the other. Only $Q$, $K$, $V$ and $Y$ ever
# touch the large memory. Below is one head, with every byte counted that goes to it or comes from it (16 bits
# a number).


# %%
class Memory:
    """The large memory of a device, which counts what is read and written."""

    def __init__(self):
        self.n_bytes = 0

    def moved(self, array):
        self.n_bytes += 2 * array.size
        return array


def by_formula(q, k, v, memory):
    scores = memory.moved(memory.moved(q) @ memory.moved(k).T / np.sqrt(q.shape[1]))
    probs = memory.moved(ops.softmax.forward(memory.moved(scores))[0])
    return memory.moved(memory.moved(probs) @ memory.moved(v))


def in_tiles(q, k, v, memory, rows, columns):
    tiles = []
    for i in range(0, len(q), rows):  # each of them on a processor of its own
        queries = memory.moved(q[i : i + rows])
        m, total, mixed = -np.inf, 0.0, 0.0
        for j in range(0, len(k), columns):
            keys, values = memory.moved(k[j : j + columns]), memory.moved(v[j : j + columns])
            scores = queries @ keys.T / np.sqrt(q.shape[1])
            largest = np.maximum(m, scores.max(axis=1, keepdims=True))
            e, fade = np.exp(scores - largest), np.exp(m - largest)
            total = fade * total + e.sum(axis=1, keepdims=True)
            mixed, m = fade * mixed + e @ values, largest
        tiles.append(memory.moved(mixed / total))
    return np.concatenate(tiles)


q, k, v = rng.normal(size=(3, 2048, 64))
memory = Memory()
expected = by_formula(q, k, v, memory)


def report(way, n_bytes):
    operations = 4 * 2048**2 * 64
    print(f"{way:19} {n_bytes / 1e6:6.1f} MB, {operations / n_bytes:4.0f} operations a byte")


report("by formula", memory.n_bytes)
for rows in (32, 128, 512):
    memory = Memory()
    found = in_tiles(q, k, v, memory, rows, columns=128)
    report(f"{rows} queries a tile", memory.n_bytes)
    print(f"{'':19} the same result: {np.allclose(found, expected)}")

# %% [markdown]
# The larger the tile of queries, the less often keys and values have to come, and the more operations each
# byte serves: about as many as the tile has rows. How large it may be is decided by the fast memory, which
# holds the tiles of $q$, $k$, $v$, of scores and of the result. The engine `xla` leaves this to its compiler,
# or to the tiles of a library made for the chip.
#
# ## When is it worth it?
#
# A step on $n$ devices computes for $6PB/(nF)$ seconds: $P$ weights, $B$ tokens in the batch, $F$ operations
# a second. Data parallel, it sends $2\cdot4P$ bytes over a link of $M$ bytes a second, $8P/M$ seconds. The
# weights cancel from the ratio:
#
# $$\frac{\text{sending}}{\text{computing}} = \frac{8P/M}{6P\,b/F} = \frac{4}{3}\,\frac{F}{M}\,\frac1b,
#   \qquad b = \frac Bn\ \text{tokens a device}.$$
#
# So what decides is how many tokens each device has, against how many operations it does while a byte
# arrives, and not the size of the model. (Sending while computing hides the smaller of both; then this ratio
# should be below one.)

# %%
links = {"inside a machine, 450 GB/s": 450e9, "InfiniBand, 50 GB/s": 50e9, "Ethernet, 1.25 GB/s": 1.25e9}
pictures.efficiency(np.geomspace(64, 1 << 22, 60), operations_per_second=400e12, links=links)

# %% [markdown]
# ## Exercises
#
# ### Exercise 1: what a ring sends
#
# Gradients of `n_bytes` bytes are all-reduced among `n` devices in a ring, and `n` divides `n_bytes`. How
# many bytes does *all* of the ring send together, and how many rounds does it take? The judge sends them.


# %% tags=["exercise"]
def ring_traffic(n, n_bytes):
    bytes_of_all_devices = ...
    rounds = ...
    return bytes_of_all_devices, rounds


# %% tags=["check"]
def counted_traffic(n, n_bytes):
    """Both halves, run on bytes, every message counted."""
    devices, sent, rounds = [[n_bytes // n] * n for _ in range(n)], 0, 0
    for _ in ("reduce-scatter", "all-gather"):
        for _ in range(n - 1):
            rounds += 1
            sent += sum(device[0] for device in devices)
    return sent, rounds


exercise.function(ring_traffic, counted_traffic, (2, 64), (8, 4096), (5, 1000))


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Section "How many learn one sum" counts what *each* device sends, and says which two halves an all-reduce
# has. Here the whole ring is asked for.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The bytes are rounds times devices times the bytes of a chunk: in each round every device sends one chunk.
# The rounds of both halves count, those of the reduce-scatter and those of the all-gather.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A chunk has `n_bytes / n` bytes, so the `n` chunks sent in one round have as many bytes as one gradient.
# Either half takes $n - 1$ rounds. Add the rounds of the two halves, and multiply by the bytes of a round.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Twice $n - 1$ rounds; in each, every one of the $n$ devices sends one $n$-th of the bytes, so together all
# of them once: $2(n-1)$ times the bytes. Each device has sent one $n$-th of that.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def ring_traffic(n, n_bytes):
    return 2 * (n - 1) * n_bytes, 2 * (n - 1)


exercise.function(ring_traffic, counted_traffic, (2, 64), (8, 4096), (5, 1000))

# %% [markdown]
# ### Exercise 2: a device's summand
#
# Write what one of `n` devices computes of a feed-forward block with biases, so that the *sum* over all
# devices, and nothing after it, is the block's output. `up` and `down` are `Linear(weight, bias)` as above,
# whole; device `i` may read its own share of them, `np.array_split` says which columns, and both biases.
# The activation is GELU.


# %% tags=["exercise"]
def summand(x, up, down, i, n):
    return ...


# %% tags=["check"]
def own_share(up, down, i, n):
    """Both layers with NaN in the place of all weights that another device has."""
    others = ~np.isin(np.arange(len(up.bias)), np.array_split(np.arange(len(up.bias)), n)[i])
    return (
        up._replace(weight=np.where(others, np.nan, up.weight)),
        down._replace(weight=np.where(others[:, None], np.nan, down.weight)),
    )


def summed(x, up, down, n):
    """The sum of the summands; unsolved as long as they are."""
    found = [summand(x, *own_share(up, down, i, n), i, n) for i in range(n)]
    return ... if any(each is ... for each in found) else sum(found)


def whole_block(x, up, down, n):
    return ops.feed_forward.forward(x, up, down, activation="gelu")[0]


exercise.function(summed, whole_block, (x, up, down, 2), (x, up, down, 7))


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The first code cell of section "A product, divided" computes such summands, but it adds something *after*
# the sum. Where can that go, if nothing may come after?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With the columns $W_i$ and $b_i$ of `up` and the same rows $V_i$ of `down.weight`, a device computes
# $\operatorname{gelu}(xW_i + b_i)\,V_i$: the activation comes before the second product. It then adds a part
# of the second bias, and over all devices these parts have to sum to that bias, once.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# The device's share is `columns = np.array_split(np.arange(up.weight.shape[1]), n)[i]`. It indexes
# `up.weight[:, columns]`, `up.bias[columns]` and `down.weight[columns]`. After the second product add what,
# taken `n` times, makes one `down.bias`.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# The first bias goes with the columns. The second is added to the sum once and not $n$ times: one device adds
# it, or each adds one $n$-th.
#
# </details>


# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
def summand(x, up, down, i, n):
    columns = np.array_split(np.arange(up.weight.shape[1]), n)[i]
    h, _ = ops.linear.forward(x, up.weight[:, columns], up.bias[columns])
    h, _ = ops.activation.forward(h, name="gelu")
    return h @ down.weight[columns] + down.bias / n


exercise.function(summed, whole_block, (x, up, down, 2), (x, up, down, 7))

# %% [markdown]
# ### Exercise 3: how many devices?
#
# A model of 7 billion weights is trained in float32, with AdamW, on devices of 80 GB ($80\cdot10^9$ bytes),
# whose activations take 30 GB on each. What is the smallest number of devices with `fsdp`? And how many bytes
# does each device send in a step then, if weights are gathered twice and gradients reduce-scattered once, 4
# bytes a number?

# %% tags=["exercise"]
fewest_devices = ...
bytes_sent_by_each = ...

# %% tags=["check"]


def expected_devices():
    """By trying: weights, gradient and two moments, and the activations, on 1, 2, 3, ... devices."""
    P, n = 7_000_000_000, 1
    while 4 * 4 * P / n + 30e9 > 80e9:
        n += 1
    return n, 3 * (n - 1) / n * 4 * P


exercise.value((fewest_devices, bytes_sent_by_each), expected_devices)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Section "The weights, divided" says what each device holds for a weight, and what `fsdp` divides by the
# number of devices. Which part of the memory is not divided?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Look for the smallest whole $n$ with $P\cdot(\text{bytes a weight})/n + \text{activations} \le 80$ GB; the
# gradient and both moments are among the bytes. What a device sends is $\frac{n-1}{n}$ of the $4P$ bytes for
# every all-gather and for every reduce-scatter.
#
# </details>
#
# <details><summary>Hint 3</summary>
#
# A weight, its gradient and two moments are four numbers of 4 bytes, and $80 - 30$ GB are left for them:
# divide $16\cdot7\cdot10^9$ by $50\cdot10^9$, and round up. With this $n$ the two gathers and the
# reduce-scatter send $3\,\frac{n-1}{n}\cdot4\cdot7\cdot10^9$ bytes from each device.
#
# </details>
#
# <details><summary>Our answer, explained</summary>
#
# Sixteen bytes a weight are 112 GB. 50 GB are left on each device, so three devices: 37.3 GB on each. (In
# truth one layer's gathered weights are there as well.) A device sends two thirds of the weights twice, and
# of the gradient once: $3\cdot\frac23\cdot28$ GB are 56 GB.
#
# </details>

# %% tags=["solution", "hide-input"] jupyter={"source_hidden": true}
fewest_devices = 3
bytes_sent_by_each = 3 * (2 / 3) * 4 * 7e9
exercise.value((fewest_devices, bytes_sent_by_each), expected_devices)

# %% [markdown]
# ## Where next
#
# On machines with several GPUs, `handgrad train --engine xla --mesh fsdp=8` does what you have seen ("Train
# on several GPUs" in the documentation). Lesson 22, *A real model*, opens one that was made on such machines,
# and teaches it something on yours.
