"""What the tests of the XLA engine share."""

import functools

import pytest
from jaxtyping import config as jaxtyping_config

QUICKLY = {"xla_cpu_use_fusion_emitters": False}
"""Half the time: fused loops come from LLVM directly."""


@pytest.fixture
def compiled_quickly(checked_shapes, monkeypatch):
    """What is compiled runs once and need not be fast. Traced arrays' shapes are JAX's to check."""
    import jax

    monkeypatch.setattr(jaxtyping_config, "jaxtyping_disable", True)
    monkeypatch.setattr(jax, "jit", functools.partial(jax.jit, compiler_options=QUICKLY))
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
