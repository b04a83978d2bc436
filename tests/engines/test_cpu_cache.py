"""Keys and values of 8 bits: off by half a unit, attended to as the formula does; memory as it was said."""

import numpy as np
import pytest

from handgrad import engines
from handgrad.engines import cpu, cpu_cache, cpu_weights, cpu_writing, reference
from handgrad.errors import UserError
from handgrad.kernels.arena import ALIGNMENT, round_up
from handgrad.kernels.writing.vectors import WIDTH
from handgrad.model.transformer import Transformer
from handgrad.ops import attention
from tests import rounding
from tests.engines.test_cpu import INSTALLED, lively, small

T = 70
"""Tokens: more than a panel of positions."""
KINDS = cpu_weights.SMALL, 0
"""Up to how many weights there are no tiles: of small models none, or where there are any, all."""


@pytest.fixture
def model(rng):
    config = small("llama").replace(context_length=T)
    return config, lively(config, rng), rng.integers(67, size=T)


def panels(decoding):
    """Of all heads of one text, a layer's after the other: whole numbers (heads, S, K) and scales (heads, S)
    of keys, and of values."""
    config, cache = decoding.config, decoding._kept.cache
    unit, n = cpu_cache.unit(cache.kind), config.n_layers * config.kv_heads
    S, K = round_up(decoding.capacity, unit), config.head_width
    keys, values = np.split(decoding._keys_and_values, [n * cache.key_head])
    keys, values = keys.reshape(n, -1), values[: n * cache.value_head].reshape(n, -1)
    k, v = keys[:, : cache.key_scales].view(np.int8), values[:, : cache.value_scales].view(np.int8)
    if cpu_cache.is_on_tiles(cache.kind):  # in words of two
        k = k.reshape(n, S // unit, -1, unit, 2).swapaxes(2, 3)
        v = v.reshape(n, -1, S // 2, unit, 2).transpose(0, 2, 4, 1, 3)
    else:
        k, v = k.reshape(n, S // unit, K, unit).swapaxes(2, 3), v.reshape(n, -1, S, unit).swapaxes(1, 2)
    for whole, memory, at in (k, keys, cache.key_scales), (v, values, cache.value_scales):
        yield whole.reshape(n, S, -1)[..., :K], memory[:, at : at + 4 * S].copy().view(np.float32)


def rms(x):
    return np.sqrt(np.mean(np.square(x)))


@pytest.mark.parametrize("few", KINDS)
def test_keys_and_values_of_8_bits_are_off_by_half_a_unit_of_their_head_and_position(few, model, monkeypatch):
    monkeypatch.setattr(cpu_weights, "SMALL", few)
    config, weights, ids = model
    config = config.replace(n_layers=1)  # behind it, they differ by what came before, too
    weights = weights._replace(blocks=weights.blocks[:1])
    decoding = cpu_writing.Decoding(config, weights, cache="int8")
    exact = reference.Decoding(config, weights)
    decoding.read([ids])
    exact.read([ids])
    for (whole, scales), expected in zip(panels(decoding), exact.past[0][0], strict=True):
        largest = np.abs(expected[0]).max(-1)
        np.testing.assert_allclose(scales[:, :T], largest / 127, rtol=1e-5)
        assert np.all(np.abs(whole[:, :T]).max(-1) == 127)
        error = np.abs(scales[:, :T, None] * whole[:, :T] - expected[0])
        assert np.all(error <= largest[..., None] * (0.5 / 127 + 1e-5))  # float32's own error


@pytest.mark.parametrize("few", KINDS)
def test_logits_are_those_of_the_formula_that_attends_to_whole_numbers(few, model, monkeypatch):
    monkeypatch.setattr(cpu_weights, "SMALL", few)
    config, weights, ids = model
    decoding = cpu_writing.Decoding(config, weights, cache="int8")
    found = decoding.read([ids], every=True)
    unrounded, _ = Transformer(config).forward(weights, ids[None])
    on_tiles = cpu_cache.is_on_tiles(decoding._kept.cache.kind)
    formula = rounding.WholeNumberAttention(on_tiles)
    monkeypatch.setattr(attention, "forward", formula.forward)
    expected, _ = Transformer(config).forward(weights, ids[None])
    effect = rms(expected - unrounded)
    assert 0 < effect < rms(unrounded) / 50
    assert rms(found - expected[0]) < effect / 5  # a number near a tie may be rounded the other way


@pytest.mark.parametrize("few", KINDS)
@pytest.mark.parametrize("cache", cpu_cache.CACHES)
def test_a_cache_takes_the_memory_that_was_said(cache, few, model, monkeypatch):
    monkeypatch.setattr(cpu_weights, "SMALL", few)
    config, weights, _ = model
    for precision in ("float32", "bfloat16"):
        how = {"n_texts": 3, "capacity": 66, "precision": precision, "cache": cache}
        said = cpu.cache_bytes(config, weights, **how)
        memory = cpu_writing.Decoding(config, weights, precision, 3, 66, cache=cache)._keys_and_values
        assert said <= memory.nbytes < said + ALIGNMENT


def test_a_wide_head_of_8_bits_takes_a_byte_a_number_and_four_for_its_scale(model):
    config = small("llama").replace(d_model=6 * WIDTH)
    weights = model[1]
    sizes = {
        kind: cpu.cache_bytes(config, weights, capacity=WIDTH, cache=kind) for kind in cpu_cache.CACHES[1:]
    }
    n = 2 * WIDTH * config.n_layers * config.n_kv_heads
    assert sizes == {"float32": 4 * WIDTH * n, "bfloat16": 2 * WIDTH * n, "int8": (WIDTH + 4) * n}


@pytest.mark.parametrize("name", INSTALLED)
def test_a_cache_that_an_engine_does_not_have_is_refused(name, model):
    config, weights, _ = model
    engine = engines.get(name)
    for entry in (engine.decoding, engine.cache_bytes):
        with pytest.raises(UserError, match="no cache 'int4'; choose one of auto, float32, bfloat16, int8"):
            entry(config, weights, cache="int4")
        if name != "cpu":
            with pytest.raises(UserError, match=r"in float32.* got a cache in int8\. Take the cpu engine"):
                entry(config, weights, cache="int8", precision="float32")


@pytest.mark.parametrize("few", KINDS)
def test_a_key_that_is_no_number_is_seen_until_it_is_cut(few, model, monkeypatch):
    monkeypatch.setattr(cpu_weights, "SMALL", few)
    config, weights, _ = model
    weights.embedding[7] = np.nan  # the head's, too: of the logits, one is none in any case
    decoding = cpu_writing.Decoding(config, weights, cache="int8")

    def n_finite(*ids):
        return np.isfinite(decoding.read([np.array(ids)])).sum()

    assert n_finite(5, 6, 8) == n_finite(5) == config.vocab_size - 1
    assert n_finite(7) == n_finite(8) == 0
    decoding.cut(0, 3)
    assert n_finite(8) == config.vocab_size - 1
