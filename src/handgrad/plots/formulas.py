"""The pictures of the ops' pages in the documentation."""

import functools
from collections.abc import Callable

import numpy as np

from handgrad import ops
from handgrad.plots import activations, attention, heads, losses, matrices, positions
from handgrad.plots.style import Picture

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6))
WEIGHT, BIAS, BACK = RNG.normal(size=(6, 8)) / 6**0.5, RNG.normal(size=8), RNG.normal(size=(8, 6)) / 8**0.5
TABLE = RNG.normal(size=(7, 6))
"""The arrays of the pictures that show arrays."""

Drawing = Callable[[], Picture]


def linear() -> Picture:
    """Rows of X, the examples, become rows of Y: every column of W weighs the inputs in its own way."""
    y, _ = ops.linear.forward(X, WEIGHT, BIAS)
    return matrices.equation(("X", X), "@", ("W", WEIGHT), "+", ("b", BIAS), "=", ("Y", y))


def feed_forward() -> Picture:
    """Wider, bent by an activation, and narrow again."""
    h, _ = ops.relu.forward(ops.linear.forward(X, WEIGHT, BIAS)[0])
    y, _ = ops.linear.forward(h, BACK, np.zeros(6))
    return matrices.equation(("X", X), "→", (r"h = \mathrm{relu}(XW_1+b_1)", h), "→", ("hW_2 + b_2", y))


def linear_stack() -> Picture:
    """The arrays between the layers: the output of each is the input of the next."""
    hidden, _ = ops.tanh.forward(ops.linear.forward(X, WEIGHT, BIAS)[0])
    y, _ = ops.linear.forward(hidden, BACK[:, :3], np.zeros(3))
    return matrices.equation(("a^{(0)}", X), "→", ("a^{(1)}", hidden), "→", ("a^{(2)}", y))


def gated() -> Picture:
    """Every number of u is multiplied by its gate, between 0 and 1."""
    opened, _ = ops.sigmoid.forward(X)
    return matrices.equation((r"\sigma(g)", opened), "*", ("u", Z), "=", ("y", opened * Z))


def residual() -> Picture:
    """The output of a layer is added to its input."""
    return matrices.equation(("x", X), "+", ("f(x)", Z / 2), "=", ("y", X + Z / 2))


def dropout() -> Picture:
    """Some numbers become zero; the others grow, so that the mean stays."""
    y, _ = ops.dropout.forward(X, rate=0.4, rng=np.random.default_rng(3))
    mask = np.where(y == 0.0, 0.0, 1 / 0.6)
    return matrices.equation(("x", X), "*", ("mask/(1-p)", mask), "=", ("y", y))


def unembedding() -> Picture:
    """Every row is compared with every row of the table: one logit for each token of the vocabulary."""
    return matrices.equation(("x", X), "@", (r"W^\top", TABLE.T), "=", ("z", X @ TABLE.T))


def lora() -> Picture:
    """A weight that stays as it is, and two narrow matrices, here of rank 1, whose product is added."""
    weight, a, b = TABLE[:6, :5], X.T[:, :1], Z[:1, :5]
    merged, _ = ops.lora.forward(a, b, weight=weight)
    return matrices.equation(("W", weight), "+", ("A", a), "@", ("B", b), "=", ("W'", merged))


def learned_position() -> Picture:
    """Every position has a row of its own, learned like any weight and added to the token there."""
    return matrices.equation(("x", X), "+", ("W", TABLE[:4]), "=", ("y", X + TABLE[:4]))


def layer_norm() -> Picture:
    """Every row gets the mean zero and the variance one."""
    return _normalized(ops.layer_norm.forward(_UNEVEN, np.ones(6), np.zeros(6))[0])


def rms_norm() -> Picture:
    """Every row gets the mean square one; its mean is only scaled."""
    return _normalized(ops.rms_norm.forward(_UNEVEN, np.ones(6))[0])


_UNEVEN = X * np.array([[0.2], [1.0], [2.0], [0.5]]) + np.array([[0.0], [1.0], [0.0], [-1.0]])


def _normalized(y: np.ndarray) -> Picture:
    return matrices.equation(("x", _UNEVEN), "→", (r"\hat x", y))


def _said(draw: Drawing) -> tuple[str, Drawing]:
    """A drawing, with its docstring for a caption."""
    return (draw.__doc__ or "").removesuffix("."), draw


PICTURES: dict[str, tuple[str, Drawing]] = {
    "linear": _said(linear),
    "linear_stack": _said(linear_stack),
    "gated": _said(gated),
    "activation": ("Every activation, solid, with its slope, dashed", activations.several),
    "softmax": (
        "Softmax of four numbers, and its Jacobian: each output rises with its own input alone",
        activations.jacobian,
    ),
    "mse": ("The squared error of one prediction, solid, and its slope, dashed", losses.mse),
    "cross_entropy": (
        "The loss by the probability that the right class was given, and its slope, dashed",
        losses.cross_entropy,
    ),
    "softmax_cross_entropy": (
        "Probabilities, the target, and the gradient by the logits, which is their difference",
        losses.gradient,
    ),
    "next_token_loss": (
        "At one position: probabilities of the next token, the right one, and the gradient by the logits",
        functools.partial(losses.gradient, (1.5, -0.5, 0.5, 0.0, -1.0), 2),
    ),
    "attention": ("Scores, mask, softmax, output, for three tokens", attention.steps),
    "multi_head_attention": ("How x is cut into heads, and put together again", heads.shapes),
    "sinusoidal_position": (
        "The encodings of a hundred positions, and some of their components as waves",
        positions.sinusoid,
    ),
    "learned_position": _said(learned_position),
    "rope": ("The pairs of a vector, dashed, and turned by their position", positions.rotation),
    "layer_norm": _said(layer_norm),
    "rms_norm": _said(rms_norm),
    "residual": _said(residual),
    "feed_forward": _said(feed_forward),
    "dropout": _said(dropout),
    "lora": _said(lora),
    "embedding": ("Tokens take their rows from the table", positions.lookup),
    "unembedding": _said(unembedding),
    **{
        name: (f"{name}, solid, and its slope, dashed", functools.partial(activations.curve, name))
        for name in activations.FORMULAS
    },
}
"""By the name of the op: what is seen, and the function that draws it."""
