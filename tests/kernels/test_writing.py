"""Products of few rows are exact to the roundings of a sum, whatever rows are beside them."""

import subprocess
import sys

import numpy as np
import pytest

from handgrad.kernels import few_rows
from handgrad.kernels.few_rows import WIDTH, packed
from handgrad.kernels.jit import kernel
from handgrad.kernels.rounding import round_rows


@kernel
def product(out, x, panels, bias):
    few_rows.multiply(out, x, panels, bias)


def rounded(x, dtype):
    """What is multiplied: the weight, or the bfloat16 numbers nearest to it."""
    if dtype is np.float32:
        return x
    numbers = np.empty(x.shape, np.uint16)
    round_rows(numbers, x)
    return (numbers.astype(np.uint32) << 16).view(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
@pytest.mark.parametrize(
    ("R", "K", "N"), [(1, 1, 1), (2, 7, WIDTH), (3, 20, WIDTH + 1), (6, 65, 3 * WIDTH - 2)]
)
def test_a_product_of_few_rows_is_exact_to_the_roundings_of_its_sums(R, K, N, dtype, rng):
    x, weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((R, K), (K, N), N))
    out = np.full((R, -(-N // WIDTH) * WIDTH), np.nan, np.float32)
    product(out, x, packed(weight, dtype), bias)
    W = rounded(weight, dtype).astype(np.float64)
    magnitude = np.abs(x).astype(np.float64) @ np.abs(W) + np.abs(bias)
    error = np.abs(out[:, :N] - (x.astype(np.float64) @ W + bias))
    assert np.all(error <= (K + 1) * 2.0**-24 * magnitude)  # K additions, and the bias
    assert not out[:, N:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_a_row_has_the_same_bits_whatever_rows_are_beside_it(dtype, rng):
    x, weight = rng.normal(size=(7, 33)).astype(np.float32), rng.normal(size=(33, 50)).astype(np.float32)
    panels, none = packed(weight, dtype), np.empty(0, np.float32)
    width = panels.shape[0] * WIDTH
    together, alone = (np.empty((7, width), np.float32) for _ in range(2))
    product(together, x, panels, none)
    for row in range(7):
        product(alone[row : row + 1], x[row : row + 1], panels, none)
    np.testing.assert_array_equal(together, alone)


def test_a_number_that_is_none_reaches_its_row_and_no_other(rng):
    x, weight = rng.normal(size=(3, 8)).astype(np.float32), rng.normal(size=(8, 8)).astype(np.float32)
    x[1, 4] = np.nan
    out = np.empty((3, WIDTH), np.float32)
    product(out, x, packed(weight, np.float32), np.empty(0, np.float32))
    assert np.isnan(out[1, :8]).all()
    assert np.isfinite(out[[0, 2]]).all()


SCRIPT = """
import numpy as np
from handgrad.engines import cpu_writing
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from tests.kernels.guard import Guard

def guarded(nested):
    if isinstance(nested, np.ndarray):
        return guard.filled(nested, nested.dtype)
    return type(nested)(*map(guarded, nested)) if isinstance(nested, tuple) else nested

def not_written(arrays):
    return type(arrays)(*(guard.new(array.shape) for array in arrays))

empty_cache, rows = cpu_writing._empty_cache, cpu_writing.Rows
for at_end in (True, False):
    guard = Guard(at_end)
    cpu_writing._empty_cache = lambda *sizes: not_written(empty_cache(*sizes))
    cpu_writing.Rows = lambda *arrays: guarded(rows(*arrays))
    kinds = {"nano": {"activation": "prelu", "gated": True}, "llama": {"n_kv_heads": 1, "d_head": 10}}
    for name, changes in kinds.items():
        config = PRESETS[name].replace(**{"vocab_size": 33, "context_length": 9, "n_layers": 2, "n_heads": 2,
                                          "d_model": 44, "d_ff": 23, **changes})
        for precision in ("float32", "bfloat16"):
            results = []
            for guard.left in (0, 255):
                decoding = cpu_writing.Decoding(config, init(config, 1), precision, 3)
                for part in ("_layers", "_ends"):
                    setattr(decoding, part, guarded(getattr(decoding, part)))
                decoding._scratch = not_written(decoding._scratch)
                ids = np.arange(21).reshape(3, 7)
                results.append([decoding.read(ids), decoding.read(ids[:, :1])])
            for clean, used in zip(*results):
                assert np.isfinite(clean).all()
                assert clean.tobytes() == used.tobytes()
            guard.kept.clear()
print("whole")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with mprotect")
def test_reading_a_text_stays_in_its_arrays_and_reads_nothing_that_is_not_written():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:] or f"killed by signal {-result.returncode}"
    assert result.stdout.endswith("whole\n")
