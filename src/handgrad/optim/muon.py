r"""Muon: momentum whose steps are made orthogonal, so that a matrix learns alike in all its directions.

$$M \leftarrow \beta M + G,\qquad W \leftarrow (1 - \eta\lambda)\,W - \eta\,s\,\mathrm{orth}(G + \beta M)$$

$$\mathrm{orth}(U\,\mathrm{diag}(\sigma)\,V^\top) = U V^\top,\qquad s = 0.2\sqrt{\max(m, n)}$$

with $G = \partial L/\partial W$ of a matrix $(m, n)$; $G + \beta M$ is Nesterov's momentum. A gradient's few
large singular values would decide every step; made equal, the small ones count as much. With $s$ a number of
the step is about $0.2\,\eta$ whatever the shape, as large as AdamW's usually are: their learning rates and
$\lambda$ are of one kind.

No singular value is computed. An odd polynomial of a matrix changes its singular values alone:

$$p(X) = a X + b\,(XX^\top) X + c\,(XX^\top)^2 X = U\,\mathrm{diag}(a\sigma + b\sigma^3 + c\sigma^5)\,V^\top$$

`orthogonalized` divides a matrix by its norm, which brings every $\sigma$ into 0 to 1, and applies several
such polynomials, one after the other. There are two sets of them:

- `JORDAN`: the same one five times. It leaves all that were at least 0.002 between 0.68 and 1.21.
- `BEST`: four that differ. Each has, of all $(a, b, c)$, the least largest distance $E$ from 1 where those
  before it have left the singular values, $[l, u]$. It takes $1 - E$ and $1 + E$ in turn, at both ends and at
  its two extremes between them (Chebyshev), which Remez's exchange finds. The next one's interval is
  $[1 - E, 1 + E]$, a little widened for roundings. All that were at least 0.003 end between 0.77 and 1.23.

Sources: Jordan et al., "Muon" (2024), https://kellerjordan.github.io/posts/muon; Liu et al. (2025),
arXiv:2502.16982 ($s$); Amsel et al., "The Polar Express" (2025), arXiv:2505.16932: each the best in turn, the
polynomials are the best together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from handgrad.shapes import Array, Float

Coefficients = tuple[float, float, float]
"""(a, b, c) of a polynomial."""

N_STEPS = 4
LOWEST = 3e-3
"""The least singular value, as a share of the matrix's norm, that `BEST` is made for."""
MARGIN = 1.01
"""By how much roundings to bfloat16 may leave singular values beyond what exact polynomials do."""
N_EXCHANGES = 12
"""Each squares the distance from the best polynomial."""
EPSILON = 1e-16
"""It keeps a matrix of zeros one of zeros, and one whose squares vanish in float32 small."""


class State(NamedTuple):
    velocity: Float[Array, "*B M N"]


def init(weights: Float[Array, "*B M N"]) -> State:
    return State(0.0 * weights)


def update(
    weights: Float[Array, "*B M N"],
    gradient: Float[Array, "*B M N"],
    state: State,
    *,
    learning_rate: float,
    beta: float = 0.95,
    weight_decay: float = 0.0,
) -> tuple[Float[Array, "*B M N"], State]:
    velocity = beta * state.velocity + gradient
    step = scale(*weights.shape[-2:]) * orthogonalized(gradient + beta * velocity)
    return (1.0 - learning_rate * weight_decay) * weights - learning_rate * step, State(velocity)


def scale(m: int, n: int) -> float:
    """By what the orthogonal step of a matrix (m, n) is multiplied."""
    return 0.2 * float(max(m, n)) ** 0.5


def best(n_steps: int = N_STEPS, lowest: float = LOWEST) -> tuple[Coefficients, ...]:
    """The polynomials that bring singular values from `lowest` to 1 nearest to one, in so many steps."""
    low, high, found = lowest, 1.0, []
    for _ in range(n_steps):
        coefficients, error = _nearest_to_one(low / MARGIN, high * MARGIN)
        found.append(coefficients)
        low, high = 1.0 - error, 1.0 + error
    return tuple(found)


def _nearest_to_one(low: float, high: float) -> tuple[Coefficients, float]:
    """The polynomial with the least largest distance from 1 between low and high, and that distance."""
    first, second = (3 * low + high) / 4, (low + 3 * high) / 4
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    for _ in range(N_EXCHANGES):
        x = np.array([low, first, second, high])
        a, b, c, error = np.linalg.solve(np.stack([x, x**3, x**5, signs], axis=1), np.ones(4)).tolist()
        root = (9 * b * b - 20 * a * c) ** 0.5  # where the slope, a + 3 b x^2 + 5 c x^4, is zero
        first, second = (((-3 * b - sign * root) / (10 * c)) ** 0.5 for sign in (1.0, -1.0))
    return (a, b, c), abs(error)


JORDAN: tuple[Coefficients, ...] = 5 * ((3.4445, -4.7750, 2.0315),)
BEST = best()


def orthogonalized(
    x: Float[Array, "*B M N"], polynomials: Sequence[Coefficients] = BEST
) -> Float[Array, "*B M N"]:
    """Each matrix with its singular values near one."""
    if x.shape[-2] > x.shape[-1]:
        return orthogonalized(x.mT, polynomials).mT
    xp = x.__array_namespace__()
    x = x / (xp.linalg.vector_norm(x, axis=(-2, -1), keepdims=True) + EPSILON)
    for a, b, c in polynomials:
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x
