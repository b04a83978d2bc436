"""Arrays on their devices, as `sharding` says: put there, or asked to be there in a compiled function.

Weights and moments are divided by `fsdp` and `model` where they are kept. Where a product reads a weight it
is gathered from `fsdp`, one layer at a time; its gradient is summed into the parts that are kept.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from handgrad import parameters as p
from handgrad.engines.xla.mesh import Mesh
from handgrad.engines.xla.sharding import BATCH, WEIGHTS, WHOLE
from handgrad.shapes import Array


class Placement(NamedTuple):
    """A mesh of devices; None is one device, where everything is."""

    devices: jax.sharding.Mesh | None = None

    @property
    def n_devices(self) -> int:
        return 1 if self.devices is None else self.devices.size

    def size(self, axis: str) -> int:
        """Devices along an axis of the mesh."""
        return 1 if self.devices is None else self.devices.shape[axis]

    def kept(self, weights: Any) -> Any:
        """`weights`, or what has their form, where they are kept."""
        return jax.tree.map(self._put, weights, specs(weights))

    def used(self, weights: Any) -> Any:
        """`weights` as products read them. Stacked blocks are left to `layers.Scanned`: one at a time."""
        if is_stacked(weights):
            return self.used(weights._replace(blocks=()))._replace(blocks=weights.blocks)
        return jax.tree.map(lambda array, spec: self._put(array, gathered(spec)), weights, specs(weights))

    def summed(self, gradients: Any) -> Any:
        """Each device's summands of `gradients`, as large as what it used, summed into what it keeps."""
        return self.kept(self.used(gradients))

    def of_batch(self, arrays: Any, axis: int = 0) -> Any:
        """Arrays whose `axis` counts a batch's sequences."""
        return jax.tree.map(lambda array: self._put(array, P(*[None] * axis, *BATCH)), arrays)

    def own(self, array: np.ndarray, axis: int = 0) -> np.ndarray:
        """What `of_batch` puts on this process's devices, flat."""
        if self.devices is None:
            return array.ravel()
        place = NamedSharding(self.devices, P(*[None] * axis, *BATCH))
        parts = place.addressable_devices_indices_map(array.shape).values()
        return np.concatenate([array[part].ravel() for part in parts])

    def whole(self, arrays: Any) -> Any:
        """Arrays that every device has whole."""
        return jax.tree.map(lambda array: self._put(array, WHOLE), arrays)

    def on_each(self, function: Callable[..., Any], *, takes: Any, gives: Any) -> Callable[..., Any]:
        """`function`, of which XLA knows nothing, run by each device on its part of the arrays."""
        if self.devices is None:
            return function
        return jax.shard_map(function, mesh=self.devices, in_specs=takes, out_specs=gives, check_vma=False)

    def sum_of_batch(self, arrays: Any) -> Any:
        """Within `on_each`: the sum over the parts of the batch."""
        return arrays if self.devices is None else lax.psum(arrays, *BATCH)

    def _put(self, array: Any, spec: Any) -> Array:
        if self.devices is None:
            return array
        place = NamedSharding(self.devices, divisible(spec, array.shape, self.devices.shape))
        if isinstance(array, jax.core.Tracer):
            return lax.with_sharding_constraint(array, place)
        return jax.make_array_from_callback(array.shape, place, lambda index: array[index])


ALONE = Placement()


def on(mesh: Mesh) -> Placement:
    """The first devices that there are, as many as `mesh` takes."""
    if mesh.n_devices == 1:
        return ALONE
    types = (AxisType.Auto,) * len(mesh)  # XLA finds the shardings between those that are asked for
    devices = jax.devices()[: mesh.n_devices]
    return Placement(jax.make_mesh(mesh, mesh._fields, types, devices=devices))


def is_stacked(weights: Any) -> bool:
    """Whether `weights` are a transformer's, its blocks' stacked along a first axis."""
    return isinstance(weights, p.Transformer) and isinstance(weights.blocks, p.Block)


def specs(weights: Any) -> Any:
    """Where each array of a transformer or a block is kept: a tree of `PartitionSpec`."""
    stacked = is_stacked(weights)

    def found(path: Any, _: Any) -> Any:
        spec = WEIGHTS.blocks if isinstance(weights, p.Block) else WEIGHTS
        names = [key.name for key in path if hasattr(key, "name")]  # a number is a layer's
        for name in names:
            spec = spec if isinstance(spec, P) else getattr(spec, name)
        return P(None, *spec) if stacked and names[0] == "blocks" else spec

    return jax.tree_util.tree_map_with_path(found, weights)


def gathered(spec: Any) -> Any:
    """Where a weight that is kept at `spec` is used."""
    return P(*(None if axis == "fsdp" else axis for axis in spec))


def divisible(spec: Any, shape: tuple[int, ...], sizes: Mapping[str, int]) -> Any:
    """`spec` where it divides: of the weights' axes, only a vocabulary may not (`mesh.require_divisible`)."""
    return P(*(axis if n % n_parts(axis, sizes) == 0 else None for n, axis in zip(shape, spec, strict=False)))


def n_parts(axes: Any, sizes: Mapping[str, int]) -> int:
    """Into how many parts an entry of a `PartitionSpec` divides."""
    names = axes if isinstance(axes, tuple) else (axes,)
    return math.prod(sizes[name] for name in names if name is not None)
