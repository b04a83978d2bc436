"""The device that computes: what it is, which precision suits it, and whose attention it has."""

import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from handgrad.engines import fits
from handgrad.engines.xla.mesh import ONE, Mesh
from handgrad.engines.xla.twins import Fused
from handgrad.errors import UserError
from handgrad.model.config import ModelConfig

WIDEST_HEAD = 128
"""The widest head that cuDNN's attention takes, forward and backward; widths are multiples of 8."""

THREADS = 8
"""Threads for each device that a processor plays: those that sum wait for the last, and where all threads
wait, for different sums, the program stands still."""

SEPARATE = 12
"""Layers: GPT-2's compile in some seconds."""


def name_of(precision: str) -> str:
    """What "auto" means on this device."""
    if precision == "auto":
        return "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return precision


def dtype(precision: str) -> Any:
    """The type in which products are computed."""
    return jnp.dtype(name_of(precision))


def compiled(function: Callable[..., Any], dtype: Any, **options: Any) -> Callable[..., Any]:
    """`function`, compiled. float32 means float32: by default a GPU would multiply in TensorFloat-32, which
    keeps 10 bits."""
    exact = jax.default_matmul_precision("default" if dtype == jnp.bfloat16 else "highest")
    return exact(jax.jit(function, **options))


def fused(config: ModelConfig, dtype: Any) -> Fused | None:
    """The kernels to compute with, on a GPU, in bfloat16; cuDNN's attention where it takes such heads."""
    if jax.default_backend() != "gpu" or dtype != jnp.bfloat16:
        return None
    fits_cudnn = config.head_width % 8 == 0 and config.head_width <= WIDEST_HEAD
    return Fused("cudnn" if fits_cudnn else None)


def most_separate_layers() -> int:
    """Up to so many layers, each is compiled on its own."""
    return SEPARATE if jax.default_backend() == "gpu" else 0


def steps_ahead() -> int:
    """A GPU has its next step waiting while the loss of the last one is read: an eighth faster."""
    return 0 if jax.default_backend() == "cpu" else 1


def prepare(n_devices: int) -> None:
    """Have enough threads where the processor plays devices. To be called before JAX looks for them."""
    os.environ.setdefault("PJRT_NPROC", str(max(THREADS * n_devices, os.cpu_count() or 1)))


def require(mesh: Mesh) -> None:
    """Raise `UserError` where there are fewer devices than `mesh` takes; or more, in several processes."""
    if mesh != ONE:
        prepare(mesh.n_devices)
    there = jax.device_count()
    if mesh.n_devices > there:
        raise UserError(
            f"--mesh {mesh} takes {mesh.n_devices} devices; JAX sees {there}: "
            f"{jax.devices()[0].device_kind}. Take a smaller mesh; or, to try this one on a processor, set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={mesh.n_devices}."
        )
    if mesh.n_devices < there and jax.process_count() > 1:
        raise UserError(
            f"Several processes train on all their devices; --mesh {mesh} takes {mesh.n_devices} of {there}. "
            f"Take a mesh of {there}, or fewer processes."
        )


def described(precision: str, mesh: Mesh = ONE) -> str:
    """Precision, devices and JAX's version."""
    device = jax.devices()[0]
    chosen = name_of(precision)
    reason = "as asked" if precision != "auto" else f"what suits a {device.platform.upper()}"
    devices = device.device_kind if mesh == ONE else f"{mesh.n_devices} x {device.device_kind}, {mesh}"
    return f"{chosen}, {reason}; {devices}, JAX {jax.__version__}"


def memory(mesh: Mesh = ONE) -> int | None:
    """The bytes that arrays can take on a device of `mesh`; None where the system does not say."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit is not None:
        return int(limit)
    there = fits.available()  # what is one processor to JAX may be shown as several
    return None if there is None else there // min(mesh.n_devices, jax.local_device_count())
