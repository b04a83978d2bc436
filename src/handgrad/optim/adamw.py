r"""AdamW: Adam, and beside it a pull of every weight towards zero that the gradient's statistics do not see.

$$W \leftarrow (1-\eta\,\lambda)\,W,\qquad\text{then a step of Adam}$$

A penalty $\tfrac\lambda2|W|^2$ in the loss would add $\lambda W$ to the gradient, and Adam would divide it
by the gradient's size like the rest: weights with large gradients would hardly decay. Decoupled, all decay
alike. `weight_decay` may be an array, one $\lambda$ a weight: it is usual to let matrices decay, and biases
and norms not.

Source: Loshchilov & Hutter, "Decoupled weight decay regularization" (2017), arXiv:1711.05101.
"""

from handgrad.optim import adam
from handgrad.optim.adam import State, init
from handgrad.shapes import Array, Float

__all__ = ["State", "init", "update"]


def update(
    weights: Float[Array, "*W"],
    gradient: Float[Array, "*W"],
    state: State,
    *,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float | Float[Array, "*W"] = 0.01,
) -> tuple[Float[Array, "*W"], State]:
    decayed = weights - learning_rate * weight_decay * weights
    return adam.update(
        decayed, gradient, state, learning_rate=learning_rate, beta1=beta1, beta2=beta2, eps=eps
    )
