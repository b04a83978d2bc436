"""The twins of single formulas."""

import functools
from typing import Any, NamedTuple

import numpy as np

from handgrad.kernels import activations, elementwise, norms, products
from handgrad.kernels.random import Counted
from handgrad.kernels.workspace import (
    KEEP_ALL,
    NONE,
    Dropping,
    Weight,
    Workspace,
    dropping,
    gradient_of,
    rows,
    value_of,
)
from handgrad.ops import sinusoidal_position as sinusoidal_op


class LinearTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        weight: Weight
        bias: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, bias: Weight | None = None) -> tuple[np.ndarray, Saved]:
        N = weight.value.shape[1]
        out = self.workspace.arena.take(*x.shape[:-1], N)
        self.product(out, x, weight.panels, value_of(bias), False)
        return out, self.Saved(x, weight, bias)

    def backward(self, dz: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """dx takes the place of x."""
        dx, gradients = self.backward_of_several([(dz, saved)])
        return dx, *gradients

    def backward_of_several(self, layers: list[tuple[np.ndarray, Saved]]) -> tuple[np.ndarray, Any]:
        """The backward of layers that have one x; their weights' gradients one after the other."""
        gradients = []
        for dz, (x, weight, bias) in layers:
            self.add_gradient(weight.gradient, x, dz)
            if bias is not None:
                add_sums(bias.gradient, dz)
            gradients += [weight.gradient, None if bias is None else bias.gradient]
        for i, (dz, (x, weight, _)) in enumerate(layers):  # nobody needs x any more
            self.product(x, dz, weight.transposed, NONE, i > 0)
        return x, gradients

    def product(self, out: np.ndarray, x: np.ndarray, panels: Any, bias: np.ndarray, add: bool) -> None:
        """out = x @ W + bias, or, with `add`, that much more."""
        made, x, out = self.workspace.kernels.products, rows(x), rows(out)
        made.affine(out, x, panels, bias, add, self.workspace.need(made.scratch_size(x.shape[1])))

    def add_gradient(self, gradient: np.ndarray, x: np.ndarray, dz: np.ndarray) -> None:
        """gradient += x^T dz."""
        made, x = self.workspace.kernels.products, rows(x)
        made.add_gradient(gradient, x, rows(dz), self.workspace.need(made.scratch_size(x.shape[1])))


def add_sums(gradient: np.ndarray, dy: np.ndarray) -> None:
    """gradient += dy summed over whatever axes it has more."""
    products.add_column_sums(gradient.reshape(-1), dy.reshape(-1, gradient.size))


class NormTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        gamma: Weight
        beta: Weight | None
        mean: np.ndarray
        rstd: np.ndarray

    def __init__(self, workspace: Workspace, centred: bool):
        self.workspace, self.centred = workspace, centred

    def forward(
        self, x: np.ndarray, gamma: Weight, beta: Weight | None = None, *, eps: float = 1e-5
    ) -> tuple[np.ndarray, Saved]:
        arena = self.workspace.arena
        y, M = arena.take(*x.shape), x.size // x.shape[-1]
        mean, rstd = arena.take(M), arena.take(M)
        norms.forward(
            rows(y), mean, rstd, rows(x), gamma.value, value_of(beta), np.float32(eps), self.centred
        )
        return y, self.Saved(x, gamma, beta, mean, rstd)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[Any, ...]:
        """dx takes the place of dy."""
        x, gamma, beta, mean, rstd = saved
        norms.backward(
            rows(dy), gamma.gradient, gradient_of(beta), rows(x), gamma.value, mean, rstd, self.centred
        )
        gradients = (dy, gamma.gradient)
        return (*gradients, gradient_of(beta) if beta is not None else None) if self.centred else gradients


class ResidualTwin:
    class Saved(NamedTuple):
        dropping: Dropping

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(
        self, x: np.ndarray, h: np.ndarray, *, dropout: float = 0.0, rng: Counted | None = None
    ) -> tuple[np.ndarray, Saved]:
        """y takes the place of h."""
        drop = dropping(dropout, rng)
        if drop is KEEP_ALL:
            elementwise.add_to(h.reshape(-1), x.reshape(-1))
        else:
            elementwise.drop_and_add(h.reshape(-1), x.reshape(-1), *drop)
        return h, self.Saved(drop)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        if saved.dropping is KEEP_ALL:
            return dy, dy
        dh = self.workspace.like(dy)
        elementwise.drop(dh.reshape(-1), dy.reshape(-1), *saved.dropping)
        return dy, dh

    def join(self, dx: np.ndarray, dh: np.ndarray) -> np.ndarray:
        """The sum, in the place of the second."""
        elementwise.add_to(dh.reshape(-1), dx.reshape(-1))
        return dh


class DropoutTwin:
    class Saved(NamedTuple):
        dropping: Dropping

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, *, rate: float, rng: Counted | None) -> tuple[np.ndarray, Saved]:
        drop = dropping(rate, rng)
        return self._dropped(x, drop), self.Saved(drop)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        return (self._dropped(dy, saved.dropping),)

    def _dropped(self, x: np.ndarray, drop: Dropping) -> np.ndarray:
        if drop is KEEP_ALL:
            return x
        y = self.workspace.like(x)
        elementwise.drop(y.reshape(-1), x.reshape(-1), *drop)
        return y


class EmbeddingTwin:
    class Saved(NamedTuple):
        weight: Weight
        token_ids: np.ndarray
        scale: np.float32

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(
        self, weight: Weight, token_ids: np.ndarray, *, scale: float = 1.0
    ) -> tuple[np.ndarray, Saved]:
        saved = self.Saved(weight, token_ids.reshape(-1), np.float32(scale))
        out = self.workspace.arena.take(*token_ids.shape, weight.value.shape[1])
        elementwise.gather(rows(out), weight.value, saved.token_ids, saved.scale)
        return out, saved

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        elementwise.scatter(saved.weight.gradient, rows(dy), saved.token_ids, saved.scale)
        return (saved.weight.gradient,)

    def join(self, dweight: np.ndarray, dhead: np.ndarray) -> np.ndarray:
        """Both were added into the one buffer."""
        return dweight


class UnembeddingTwin:
    class Saved(NamedTuple):
        x: np.ndarray
        weight: Weight

    def __init__(self, workspace: Workspace):
        self.linear = LinearTwin(workspace)

    def forward(self, x: np.ndarray, weight: Weight) -> tuple[np.ndarray, Saved]:
        z = self.linear.workspace.arena.take(*x.shape[:-1], weight.value.shape[0])
        self.linear.product(z, x, weight.transposed, NONE, False)
        return z, self.Saved(x, weight)

    def backward(self, dz: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        """dx takes the place of x."""
        x, weight = saved
        self.linear.add_gradient(weight.gradient, dz, x)
        self.linear.product(x, dz, weight.panels, NONE, False)
        return x, weight.gradient


class LearnedPositionTwin:
    class Saved(NamedTuple):
        weight: Weight
        offset: int

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, weight: Weight, *, offset: int = 0) -> tuple[np.ndarray, Saved]:
        out = self.workspace.like(x)
        elementwise.add_rows(rows(out), rows(x), weight.value[offset : offset + x.shape[-2]])
        return out, self.Saved(weight, offset)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray]:
        used = saved.weight.gradient[saved.offset : saved.offset + dy.shape[-2]]
        add_sums(used, dy)
        return dy, saved.weight.gradient


class SinusoidalPositionTwin:
    class Saved(NamedTuple):
        """Nothing: the gradient passes unchanged."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, *, offset: int = 0, base: float = 10_000.0) -> tuple[np.ndarray, Saved]:
        out = self.workspace.like(x)
        elementwise.add_rows(rows(out), rows(x), _sinusoids(*x.shape[-2:], offset, base))
        return out, self.Saved()

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray]:
        return (dy,)


@functools.lru_cache(maxsize=4)
def _sinusoids(T: int, D: int, offset: int, base: float) -> np.ndarray:
    return sinusoidal_op.table(T, D, offset=offset, base=base).astype(np.float32)


class ActivationTwin:
    """In place of the op of any activation's name, `alpha` being the parametric ReLU's slopes."""

    class Saved(NamedTuple):
        name: str
        x: np.ndarray
        alpha: Weight | None

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    def forward(self, x: np.ndarray, alpha: Weight | None = None, *, name: str) -> tuple[np.ndarray, Saved]:
        y = self.workspace.like(x)
        if alpha is not None:
            activations.prelu(rows(y), rows(x), alpha.value)
        else:
            getattr(activations, name)(y.reshape(-1), x.reshape(-1))
        return y, self.Saved(name, x, alpha)

    def backward(self, dy: np.ndarray, saved: Saved) -> tuple[np.ndarray, np.ndarray | None]:
        """dx takes the place of dy."""
        name, x, alpha = saved
        if alpha is not None:
            activations.prelu_backward(rows(dy), alpha.gradient, rows(x), alpha.value)
            return dy, alpha.gradient
        getattr(activations, f"{name}_backward")(dy.reshape(-1), x.reshape(-1))
        return dy, None
