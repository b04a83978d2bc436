r"""Adam: momentum, with each weight's step divided by the recent size of its own gradient.

$$m \leftarrow \beta_1 m + (1-\beta_1)\,g,\qquad s \leftarrow \beta_2 s + (1-\beta_2)\,g^2$$

$$W \leftarrow W - \eta\,\frac{\hat m}{\sqrt{\hat s}+\epsilon},\qquad
\hat m = \frac{m}{1-\beta_1^t},\quad \hat s = \frac{s}{1-\beta_2^t}$$

with $g = \partial L/\partial W$. $m$ and $s$ start at zero and are too small at first: after $t$ steps by the
factors $1-\beta_1^t$ and $1-\beta_2^t$, which the hats divide out. No weight's step is much longer than
$\eta$, whatever the scale of its gradient.

Source: Kingma & Ba, "Adam: a method for stochastic optimization" (2014), arXiv:1412.6980.
"""

from typing import NamedTuple

from handgrad.shapes import Array, Float

EPSILON = 1e-8
"""What keeps a step finite where a gradient has always been zero."""


class State(NamedTuple):
    mean: Float[Array, "*W"]
    square: Float[Array, "*W"]
    step: int


def init(weights: Float[Array, "*W"]) -> State:
    return State(0.0 * weights, 0.0 * weights, 0)


def update(
    weights: Float[Array, "*W"],
    gradient: Float[Array, "*W"],
    state: State,
    *,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = EPSILON,
) -> tuple[Float[Array, "*W"], State]:
    step = state.step + 1
    mean = beta1 * state.mean + (1.0 - beta1) * gradient
    square = beta2 * state.square + (1.0 - beta2) * gradient * gradient
    mean_hat = mean / (1.0 - beta1**step)
    square_hat = square / (1.0 - beta2**step)
    return weights - learning_rate * mean_hat / (square_hat**0.5 + eps), State(mean, square, step)
