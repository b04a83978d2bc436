r"""AdamW: Adam with decoupled weight decay. Each step first shrinks every weight by the same fraction.

$$W \leftarrow (1-\eta\,\lambda)\,W,\qquad\text{then a step of Adam}$$

$\lambda$ is `weight_decay`. A penalty $\tfrac\lambda2|W|^2$ in the loss would add $\lambda W$ to the
gradient, and Adam would divide it by the gradient's size: weights with large gradients would hardly decay.
Decoupled, all decay alike. `weight_decay` may be an array with one $\lambda$ a weight. Usually matrices
decay; biases and the scales of norms do not.

Source: Loshchilov & Hutter, "Decoupled weight decay regularization" (2017), arXiv:1711.05101.
"""

from handgrad.errors import UserError
from handgrad.optim import adam
from handgrad.optim.adam import State, init
from handgrad.shapes import Array, Float

__all__ = ["State", "copied", "init", "update"]


def copied(state: State | None, *, like: Float[Array, "*W"]) -> State:
    """A copy of `state` to update in place, in `like`'s type. For None (no step taken yet): zeros."""
    xp = like.__array_namespace__()
    if state is None:
        mean, square = (xp.zeros(like.shape, dtype=like.dtype) for _ in range(2))  # no memory until written
        return State(mean, square, 0)
    if state.mean.shape != like.shape or state.square.shape != like.shape:
        sizes = f"{state.mean.size} and {state.square.size}"
        raise UserError(f"Moments belong to {like.size} weights; got {sizes}. Take this model's.")
    mean, square = (xp.asarray(x, dtype=like.dtype, copy=True) for x in (state.mean, state.square))
    return State(mean, square, state.step)


def update(
    weights: Float[Array, "*W"],
    gradient: Float[Array, "*W"],
    state: State,
    *,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = adam.EPSILON,
    weight_decay: float | Float[Array, "*W"] = 0.01,
) -> tuple[Float[Array, "*W"], State]:
    decayed = weights - learning_rate * weight_decay * weights
    return adam.update(
        decayed, gradient, state, learning_rate=learning_rate, beta1=beta1, beta2=beta2, eps=eps
    )
