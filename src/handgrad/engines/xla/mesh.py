"""How many devices compute, and which part of the work each has: what `--mesh data=4,model=2` says.

- `data`: each device computes a part of the batch, and holds all weights.
- `fsdp`: a part of the batch too; weights and moments are divided, and gathered one layer at a time.
- `model`: heads, feed-forward and vocabulary are divided; every device computes a part of each product.
"""

import math
from typing import NamedTuple

from handgrad.errors import UserError
from handgrad.model.config import ModelConfig

EXAMPLE = "as in --mesh data=4,model=2"


class Mesh(NamedTuple):
    """Devices along each axis of the mesh; their product is how many there are."""

    data: int = 1
    fsdp: int = 1
    model: int = 1

    def __str__(self) -> str:
        return ",".join(f"{name}={size}" for name, size in self._asdict().items() if size > 1) or "data=1"

    @property
    def n_devices(self) -> int:
        return math.prod(self)

    @property
    def batch_parts(self) -> int:
        """Into how many parts a batch is divided."""
        return self.data * self.fsdp


ONE = Mesh()
"""A single device."""


def parse(text: str) -> Mesh:
    """The mesh that `text` describes; `UserError` where it describes none."""
    sizes: dict[str, int] = {}
    for pair in text.split(","):
        name, _, size = (each.strip() for each in pair.partition("="))
        if name not in Mesh._fields or name in sizes or not size.isdecimal() or int(size) < 1:
            raise UserError(
                f"A mesh is a number of devices for each of {', '.join(Mesh._fields)}, {EXAMPLE}; got "
                f"{pair.strip()!r} in {text!r}. Name each at most once, with a number from 1."
            )
        sizes[name] = int(size)
    return Mesh(**sizes)


def require_divisible(mesh: Mesh, config: ModelConfig, batch_size: int | None = None) -> None:
    """Raise `UserError` where the devices of an axis cannot each have the same part."""
    divided = [
        ("model", "n_heads", config.n_heads),
        ("model", "n_kv_heads", config.kv_heads),
        ("model", "the feed-forward width", config.ff_width),
        ("fsdp", "d_model", config.d_model),
    ]
    if batch_size is not None:
        divided.append(("data x fsdp", "batch_size", batch_size))
    for axis, what, size in divided:
        parts = mesh.batch_parts if axis == "data x fsdp" else getattr(mesh, axis)
        if size % parts:
            raise UserError(
                f"{axis} must divide {what}, so that every device has the same part; got {axis}={parts}, "
                f"{what}={size} with --mesh {mesh}. Try {axis}={math.gcd(parts, size)}, or "
                f"{what}={-(-size // parts) * parts}."
            )
