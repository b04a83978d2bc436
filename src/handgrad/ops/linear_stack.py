r"""A stack of L affine layers, with an activation after each but usually the last: a feed-forward network.

$$a^{(0)} = x,\qquad z^{(l)} = a^{(l-1)} W^{(l)} + b^{(l)},\qquad a^{(l)} = f\big(z^{(l)}\big)$$

Backward, from the last layer to the first. The chain rule is one recursion that begins with the given
$da^{(L)}$:

$$dz^{(l)} = da^{(l)} * f'\big(z^{(l)}\big),\quad dW^{(l)} = a^{(l-1)\top} dz^{(l)},\quad
db^{(l)} = \sum_n dz^{(l)}_n,\quad
da^{(l-1)} = dz^{(l)} W^{(l)\top}$$

`*` is the product element by element. Where $f$ mixes its inputs, as softmax does, the first formula becomes
a product with its Jacobian, $dz = J^\top da$.

Source: Rumelhart, Hinton & Williams, Nature 323 (1986).
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from handgrad.ops import activation as activation_op
from handgrad.ops import linear
from handgrad.parameters import Linear
from handgrad.shapes import Array, Float


class Saved(NamedTuple):
    affine: tuple[linear.Saved, ...]
    activations: tuple[activation_op.Saved | None, ...]


def forward(
    x: Float[Array, "*B M"],
    layers: Sequence[Linear],
    *,
    activation: activation_op.Name = "tanh",
    activate_last: bool = False,
) -> tuple[Float[Array, "*B N"], Saved]:
    affine, activations = [], []
    for number, layer in enumerate(layers, start=1):
        x, saved_z = linear.forward(x, *layer)
        saved_a = None
        if activate_last or number < len(layers):
            x, saved_a = activation_op.forward(x, name=activation)
        affine.append(saved_z)
        activations.append(saved_a)
    return x, Saved(tuple(affine), tuple(activations))


def backward(da: Float[Array, "*B N"], saved: Saved) -> tuple[Float[Array, "*B M"], tuple[Linear, ...]]:
    dlayers = []
    for saved_z, saved_a in zip(reversed(saved.affine), reversed(saved.activations), strict=True):
        dz = da if saved_a is None else activation_op.backward(da, saved_a)[0]
        da, *dlayer = linear.backward(dz, saved_z)
        dlayers.append(Linear(*dlayer))
    return da, tuple(reversed(dlayers))


def cases(rng: Any) -> Iterator[dict[str, Any]]:
    layers = tuple(Linear(rng.normal(size=(m, n)), rng.normal(size=n)) for m, n in ((3, 6), (6, 5), (5, 2)))
    yield {"x": rng.normal(size=(4, 3)), "layers": layers, "activation": "tanh"}
    yield {"x": rng.normal(size=(4, 3)), "layers": layers, "activation": "sigmoid", "activate_last": True}
    yield {
        "x": rng.normal(size=(2, 2, 3)),
        "layers": layers[:1],
        "activation": "softmax",
        "activate_last": True,
    }
