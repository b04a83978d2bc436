"""Quantized numbers are read and written as the `gguf` package does, and Q4_K and Q6_K with little error."""

import gguf
import numpy as np
import pytest
import quantizers

from handgrad.errors import UserError
from handgrad.formats import quantization
from handgrad.formats.quantization import KINDS, WRITTEN

LIBRARY_WRITES = ("F32", "F16", "BF16", "Q8_0", "Q4_0")


@pytest.fixture
def rows(rng):
    """Rows of different sizes, with blocks that are all zero, one number, or of one sign."""
    rows = rng.normal(size=(40, 512)).astype(np.float32) * np.exp(rng.normal(size=(40, 1))).astype(np.float32)
    rows[0], rows[1], rows[2] = 0, 0.25, -0.25
    rows[3], rows[4] = np.abs(rows[3]), -np.abs(rows[4])
    rows[5, ::32] = 30
    return rows


def library(name):
    return gguf.GGMLQuantizationType[name]


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_the_librarys_code_and_sizes(name):
    assert KINDS[name].code == library(name)
    assert KINDS[name][1:3] == gguf.GGML_QUANT_SIZES[library(name)]


@pytest.mark.parametrize("name", KINDS)
def test_any_bytes_are_read_as_the_library_reads_them(name, rng):
    data = rng.integers(0, 256, size=(30, 7 * KINDS[name].n_bytes), dtype=np.uint8)
    with np.errstate(all="ignore"):  # some of them are no numbers
        ours, theirs = quantization.dequantize(name, data), gguf.quants.dequantize(data, library(name))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", LIBRARY_WRITES)
def test_simple_kinds_are_written_as_the_library_writes_them(name, rows):
    theirs = gguf.quants.quantize(rows, library(name)).view(np.uint8)
    np.testing.assert_array_equal(quantization.quantize(name, rows), theirs)


@pytest.mark.parametrize("name", WRITTEN)
def test_what_was_read_is_written_with_hardly_a_further_loss(name, rows):
    once = quantization.dequantize(name, quantization.quantize(name, rows))
    again = quantization.dequantize(name, quantization.quantize(name, once))
    assert np.square(again - rows).sum() <= 1.02 * np.square(once - rows).sum()


@pytest.mark.parametrize("name", WRITTEN)
def test_rows_do_not_touch_one_another(name, rows, monkeypatch):
    whole = quantization.quantize(name, rows)
    monkeypatch.setattr(quantization, "CHUNK", 7 * 512)
    np.testing.assert_array_equal(quantization.quantize(name, rows), whole)
    np.testing.assert_array_equal(quantization.quantize(name, rows[::-1]), whole[::-1])


@pytest.mark.parametrize("name", ["Q4_K", "Q6_K"])
def test_our_search_loses_less_than_llama_cpps(name, rng):
    for x in (
        rng.normal(size=(64, 256)),
        rng.standard_t(4, size=(64, 256)),
        rng.uniform(-1, 1, size=(64, 256)),
    ):
        ours, theirs = quantizers.errors(name, x.astype(np.float32))
        assert ours < theirs


@pytest.mark.parametrize("name", ["F16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"])
def test_numbers_too_large_for_float16_are_refused(name):
    with pytest.raises(UserError, match="ends at 65,504"):
        quantization.quantize(name, np.full((1, 256), 1e30, np.float32) * np.resize([1, -1], 256))
