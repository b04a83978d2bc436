r"""Gradient descent with momentum: gradients build up a velocity, and friction slows it.

$$v \leftarrow \beta\,v + g,\qquad W \leftarrow W - \eta\,v$$

with $g = \partial L/\partial W$. Along a steady slope the velocity grows to $1/(1-\beta)$ times the gradient.
Across a narrow valley successive gradients cancel.

Source: Polyak, "Some methods of speeding up the convergence of iteration methods" (1964).
"""

from typing import NamedTuple

from handgrad.shapes import Array, Float


class State(NamedTuple):
    velocity: Float[Array, "*W"]


def init(weights: Float[Array, "*W"]) -> State:
    return State(0.0 * weights)


def update(
    weights: Float[Array, "*W"],
    gradient: Float[Array, "*W"],
    state: State,
    *,
    learning_rate: float,
    beta: float = 0.9,
) -> tuple[Float[Array, "*W"], State]:
    velocity = beta * state.velocity + gradient
    return weights - learning_rate * velocity, State(velocity)
