r"""Clipping by the global norm: a gradient longer than `max_norm` is shortened to it, keeping its direction.

$$g \leftarrow g\cdot\min\Big(1, \frac{c}{|g|_2}\Big)$$

$c$ is `max_norm`. The norm is over all weights together, so the proportions between layers stay the same.

Source: Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks" (2012),
arXiv:1211.5063.
"""

from handgrad.shapes import Array, Float


def by_global_norm(
    gradient: Float[Array, "*W"], max_norm: float
) -> tuple[Float[Array, "*W"], Float[Array, ""]]:
    """The shortened gradient, and the norm it had."""
    xp = gradient.__array_namespace__()
    norm = xp.sum(gradient * gradient) ** 0.5
    return gradient * (max_norm / xp.maximum(norm, max_norm)), norm
