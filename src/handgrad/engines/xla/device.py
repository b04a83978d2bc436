"""The device that computes: what it is, which precision suits it, and whose attention it has."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from handgrad.engines import fits
from handgrad.engines.xla.twins import Fused
from handgrad.model.config import ModelConfig

WIDEST_HEAD = 128
"""The widest head that cuDNN's attention takes, forward and backward; widths are multiples of 8."""


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
    fits_cudnn = config.d_head % 8 == 0 and config.d_head <= WIDEST_HEAD
    return Fused("cudnn" if fits_cudnn else None)


def most_separate_layers() -> int:
    """Up to so many layers, each is compiled on its own."""
    return SEPARATE if jax.default_backend() == "gpu" else 0


def described(precision: str) -> str:
    """Precision, device and JAX's version."""
    device = jax.devices()[0]
    chosen = name_of(precision)
    reason = "as asked" if precision != "auto" else f"what suits a {device.platform.upper()}"
    return f"{chosen}, {reason}; {device.device_kind}, JAX {jax.__version__}"


def memory() -> int | None:
    """The bytes that arrays can take; None where the system does not say."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return fits.available() if limit is None else int(limit)
