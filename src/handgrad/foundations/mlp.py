r"""Networks of neurons in layers (multilayer perceptrons), of any depth, trained by backpropagation.

$$a^{(l)} = f\big(a^{(l-1)} W^{(l)} + b^{(l)}\big),\qquad \hat y = a^{(L-1)} W^{(L)} + b^{(L)}$$

The forward and backward passes are `handgrad.ops.linear_stack`, the losses `mse` for numbers and
`softmax_cross_entropy` for classes, the optimizers those of `handgrad.optim`: the same files that train a
transformer. A hidden layer makes separable what one line cannot separate, such as XOR.

Initial weights are random, so that no two neurons stay alike. Their size keeps signals from vanishing or
exploding from layer to layer. Biases start at zero.

$$\text{Glorot: } W\sim U\Big(-\sqrt{\tfrac{6}{M+N}},\ \sqrt{\tfrac{6}{M+N}}\Big)\qquad
\text{He: } W\sim\mathcal N\Big(0,\ \tfrac{2}{M}\Big)$$

for a layer from M to N neurons. Glorot keeps the variance where the activation is nearly the identity around
zero, like tanh. He makes up for the half that a rectifier sets to zero.

Sources: Rumelhart, Hinton & Williams, Nature 323 (1986); Glorot & Bengio, "Understanding the difficulty of
training deep feedforward neural networks" (2010); He et al. (2015), arXiv:1502.01852.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np

from handgrad import tree
from handgrad.errors import UserError
from handgrad.ops import linear_stack, mse, softmax_cross_entropy
from handgrad.ops.activation import Fixed as Activation
from handgrad.optim import adam, gradient_descent, momentum
from handgrad.parameters import Linear
from handgrad.shapes import Array, Float

Loss = Literal["mse", "softmax_cross_entropy"]
Optimizer = Literal["gradient_descent", "momentum", "adam"]
Layers: TypeAlias = tuple[Linear, ...]

GLOROT: tuple[Activation, ...] = ("tanh", "sigmoid")
"""The activations initialized after Glorot; the others resemble the ReLU, and follow He."""

OPTIMIZERS: dict[str, Any] = {"gradient_descent": gradient_descent, "momentum": momentum, "adam": adam}


class Training(NamedTuple):
    """The result of a training, with one row for every update of the weights."""

    layers: Layers
    losses: Float[np.ndarray, " n_steps"]
    """The loss of each step's rows, before the update."""
    gradient_norms: Float[np.ndarray, "n_steps L"]
    """The norm of the gradient of each layer's weight: nearly zero where a layer does not learn."""


def init(widths: Sequence[int], rng: np.random.Generator, *, activation: Activation = "tanh") -> Layers:
    """Random layers from `widths[0]` inputs over the hidden widths to `widths[-1]` outputs."""
    if len(widths) < 2 or min(widths) < 1:
        raise UserError(
            f"widths must be two or more positive numbers, inputs first, outputs last; got {list(widths)}; "
            "try [2, 4, 1]."
        )
    _check_choice("activation", activation, Activation)
    draw = _glorot if activation in GLOROT else _he
    return tuple(Linear(draw(m, n, rng), np.zeros(n)) for m, n in pairwise(widths))


def predict(
    layers: Layers, x: Float[Array, "*B M"], *, activation: Activation = "tanh"
) -> Float[Array, "*B N"]:
    """The network's outputs: numbers, or logits, the largest of which names the class."""
    return linear_stack.forward(x, layers, activation=activation)[0]


def gradients(
    layers: Layers,
    x: Float[Array, "B M"],
    targets: Array,
    *,
    activation: Activation = "tanh",
    loss: Loss = "mse",
) -> tuple[float, Layers]:
    """One forward and one backward pass: the loss, and its gradient by every weight, shaped like `layers`.

    `targets` are numbers (B, N) for `mse`, class numbers (B,) for `softmax_cross_entropy` (in nats).
    """
    outputs, saved = linear_stack.forward(x, layers, activation=activation)
    if loss == "mse":
        value, saved_loss = mse.forward(outputs, targets)
        doutputs, _ = mse.backward(1.0, saved_loss)
    else:
        value, saved_entropy = softmax_cross_entropy.forward(outputs, targets)
        (doutputs,) = softmax_cross_entropy.backward(1.0, saved_entropy)
    _, dlayers = linear_stack.backward(doutputs, saved)
    return float(value), dlayers


def train(
    layers: Layers,
    x: Float[Array, "B M"],
    targets: Array,
    *,
    n_epochs: int,
    activation: Activation = "tanh",
    loss: Loss = "mse",
    optimizer: Optimizer = "adam",
    learning_rate: float = 0.01,
    batch_size: int | None = None,
    rng: np.random.Generator | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Training:
    """Follow the gradient of the loss for `n_epochs` passes over the rows; `layers` itself does not change.

    Each pass takes all rows at once or, with `batch_size`, that many at a time. `rng` shuffles the rows
    before each pass; without it they keep their order. `progress` is called after each pass with its number,
    from 1, and the mean loss of its steps. A training that diverges runs on: its losses become infinite, then
    NaN. Raises `UserError` where shapes, targets and settings do not fit each other.
    """
    _check_data(layers, x, targets, loss)
    _check_settings(activation, optimizer, learning_rate, n_epochs, batch_size)
    method = OPTIMIZERS[optimizer]
    weights, layers = tree.pack(layers, np.float64)
    with np.errstate(invalid="ignore"):  # weights that diverged before may be given again
        state = method.init(weights)
    losses: list[float] = []
    norms: list[list[float]] = []
    for epoch in range(1, n_epochs + 1):
        seen = len(losses)
        for rows in _batches(len(x), batch_size, rng):
            with np.errstate(over="ignore", invalid="ignore"):
                value, dlayers = gradients(layers, x[rows], targets[rows], activation=activation, loss=loss)
                gradient, _ = tree.pack(dlayers, np.float64)
                weights, state = method.update(weights, gradient, state, learning_rate=learning_rate)
                norms.append([float(np.linalg.norm(dlayer.weight)) for dlayer in dlayers])
            layers = tree.views(weights, layers)
            losses.append(value)
        if progress:
            progress(epoch, float(np.mean(losses[seen:])))
    return Training(layers, np.array(losses), np.array(norms))


def _batches(n_rows: int, batch_size: int | None, rng: np.random.Generator | None) -> Iterator[np.ndarray]:
    """The row numbers of one pass, in batches; the last may be smaller."""
    order = np.arange(n_rows) if rng is None else rng.permutation(n_rows)
    for start in range(0, n_rows, batch_size or n_rows):
        yield order[start : start + (batch_size or n_rows)]


def _glorot(m: int, n: int, rng: np.random.Generator) -> Float[np.ndarray, "M N"]:
    bound = (6.0 / (m + n)) ** 0.5
    return rng.uniform(-bound, bound, size=(m, n))


def _he(m: int, n: int, rng: np.random.Generator) -> Float[np.ndarray, "M N"]:
    return rng.normal(0.0, (2.0 / m) ** 0.5, size=(m, n))


def _check_choice(name: str, value: str, choices: Any) -> None:
    allowed = get_args(choices)
    if value not in allowed:
        raise UserError(f"{name} must be one of {', '.join(allowed)}; got {value!r}; try {allowed[0]!r}.")


def _check_settings(
    activation: str, optimizer: str, learning_rate: float, n_epochs: int, batch_size: int | None
) -> None:
    _check_choice("activation", activation, Activation)
    _check_choice("optimizer", optimizer, Optimizer)
    if not 0 < learning_rate < np.inf:
        raise UserError(f"learning_rate must be a positive number; got {learning_rate}; try 0.01.")
    if n_epochs < 1 or (batch_size is not None and batch_size < 1):
        raise UserError(
            f"n_epochs and batch_size must be at least 1; got n_epochs={n_epochs}, batch_size={batch_size}; "
            "leave batch_size out to take all rows at once."
        )


def _check_data(layers: Layers, x: Array, targets: Array, loss: str) -> None:
    _check_choice("loss", loss, Loss)
    n_inputs, n_outputs = layers[0].weight.shape[0], layers[-1].weight.shape[1]
    if x.ndim != 2 or len(x) == 0 or x.shape[1] != n_inputs:
        raise UserError(
            f"x must be rows of {n_inputs} numbers, one for each input; got the shape {x.shape}; "
            "reshape x, or the first layer."
        )
    if loss == "mse":
        fits, wanted = targets.shape == (len(x), n_outputs), f"numbers of the shape {(len(x), n_outputs)}"
    else:
        fits = targets.shape == (len(x),) and np.issubdtype(targets.dtype, np.integer)
        fits = fits and targets.min() >= 0 and targets.max() < n_outputs
        wanted = f"{len(x)} whole numbers from 0 to {n_outputs - 1}"
    if not fits:
        raise UserError(
            f"targets for {loss} must be {wanted}; got {targets.dtype} of the shape "
            f"{targets.shape}; reshape or renumber them."
        )
