"""What the gradients of a learner's ops are the sums of: a verdict can then name the term that is wrong."""

from typing import Any

import numpy as np

from handgrad.lessons.slips import Terms, Without
from handgrad.ops import erf, feed_forward, layer_norm, multi_head_attention, softmax
from handgrad.shapes import average


def of_linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> Terms:
    """Every row of x adds to the gradient of the bias."""

    def of_row(row: int) -> Any:
        return lambda dy, _: dy.reshape(-1, weight.shape[1])[row]

    n_rows = x.size // x.shape[-1]
    return {"bias": {f"of row {row}": of_row(row) for row in range(n_rows)}}


def of_gelu(x: np.ndarray) -> Terms:
    """x Phi(x), with the normal distribution's Phi and its density phi."""
    distribution = (1 + erf.forward(x / np.sqrt(2))[0]) / 2
    density = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return {
        "x": {"dy Phi(x)": lambda dy, _: dy * distribution, "dy x phi(x)": lambda dy, _: dy * x * density}
    }


def of_softmax(x: np.ndarray) -> Terms:
    """Each probability moves with its own number, and against those of the others."""
    probs, _ = softmax.forward(x)
    return {"x": softmax_scores(probs)}


def softmax_scores(probs: np.ndarray) -> dict[str, Any]:
    """The two terms of the gradient of the scores, for `dy` that is the probabilities' gradient."""

    def others(dy: np.ndarray, _: Any) -> np.ndarray:
        return -probs * (np.sum(dy * probs, axis=-1, keepdims=True) - dy * probs)

    return {"of its own probability": lambda dy, _: probs * (1 - probs) * dy, "of the others'": others}


def of_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> Terms:
    """The probabilities, less one where the target is."""
    probs, _ = softmax.forward(logits)
    wanted = np.eye(logits.shape[-1])[targets]
    n = targets.size
    return {"logits": {"p / N": lambda dy, _: dy * probs / n, "t / N": lambda dy, _: -dy * wanted / n}}


def of_layer_norm(x: np.ndarray, gamma: np.ndarray, beta: np.ndarray | None) -> Terms:
    """The way through x, that through the mean, and that through the variance."""
    centred = x - average(x)
    r = 1 / np.sqrt(average(centred**2) + 1e-5)
    x_hat = centred * r
    return {
        "x": {
            "r g": lambda dy, _: r * gamma * dy,
            "r <g>": lambda dy, _: -r * average(gamma * dy),
            "r x_hat <g x_hat>": lambda dy, _: -r * x_hat * average(gamma * dy * x_hat),
        }
    }


def of_residual(x: np.ndarray, h: np.ndarray) -> Terms:
    """One way each."""
    return {name: {"dy": lambda dy, _: dy} for name in ("x", "h")}


def _straight_through(dy: np.ndarray, saved: Any) -> np.ndarray:
    """The gradient of a post-norm block's input, were there no path past its feed-forward part."""
    attention, norm1, second, norm2 = saved
    dx, *_ = layer_norm.backward(dy, norm2)
    dx, *_ = feed_forward.backward(dx, second)
    dx, *_ = layer_norm.backward(dx, norm1)
    dh, *_ = multi_head_attention.backward(dx, attention)
    return dx + dh


WITHOUT_A_PATH: Without = {"x": {"the path past the feed-forward block": _straight_through}}
"""Of a block with norms after the sums."""
