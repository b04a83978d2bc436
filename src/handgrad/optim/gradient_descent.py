r"""Gradient descent: a step against the gradient.

$$W \leftarrow W - \eta\,g,\qquad g = \frac{\partial L}{\partial W}$$

The gradient points where $L$ grows fastest. For a small enough learning rate $\eta$, a step against it lowers
$L$ by about $\eta\,|g|^2$.

Source: Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées" (1847).
"""

from typing import NamedTuple

from handgrad.shapes import Array, Float


class State(NamedTuple):
    """Nothing: a step depends on the present alone."""


def init(weights: Float[Array, "*W"]) -> State:
    return State()


def update(
    weights: Float[Array, "*W"], gradient: Float[Array, "*W"], state: State, *, learning_rate: float
) -> tuple[Float[Array, "*W"], State]:
    return weights - learning_rate * gradient, state
