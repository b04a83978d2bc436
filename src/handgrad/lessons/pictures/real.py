"""Pictures of the lesson on a real model: what it misses without a head, and what LoRA changed."""

import numpy as np

from handgrad.plots import marks, style
from handgrad.plots.style import Picture
from handgrad.shapes import Float
from handgrad.trace import Ablation


def without_heads(found: Ablation) -> Picture:
    """By how much the objective rises without each head: a cell for each, layers from top to bottom."""
    effect = found.effect
    with style.drawing() as look:
        figure = style.figure(5.6, 1.2 + 0.22 * len(effect))
        axes = figure.add_subplot()
        image = axes.imshow(effect, cmap=look.signed, norm=marks.around_zero(effect), aspect="auto")
        axes.set(xlabel="head", ylabel="layer")
        axes.set_xticks(range(0, effect.shape[1], max(1, effect.shape[1] // 8)))
        axes.set_yticks(range(0, effect.shape[0], max(1, effect.shape[0] // 10)))
        marks.scale_bar(figure, image, "rise of the loss, nats", ax=axes, pad=0.02, aspect=12)
    return figure


def spectrum(change: Float[np.ndarray, "M N"], n: int = 12) -> Picture:
    """The largest singular values of a matrix's change."""
    sizes = np.linalg.svd(change, compute_uv=False)[:n]
    with style.drawing() as look:
        figure = style.figure(5.6, 2.8)
        axes = figure.add_subplot()
        axes.bar(range(1, len(sizes) + 1), sizes, color=look.series[0])
        axes.set(xlabel="number", ylabel="singular value", xticks=range(1, len(sizes) + 1))
    return figure
