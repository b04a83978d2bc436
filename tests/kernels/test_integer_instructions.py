"""Every instruction that multiplies integers: the same bits, inside of its arrays, and really compiled to."""

import sys
from pathlib import Path

import pytest

from handgrad.kernels import machine
from tests.kernels.test_machines import python

BOUNDS = str(Path(__file__).with_name("test_integer_products.py"))

GUARDED = '''
import hashlib
import numpy as np
from handgrad.kernels import machine
from handgrad.kernels import products_int16 as products
from handgrad.kernels.rounding import round_rows
from tests.kernels.guard import Guard

def run(guard, M, K, N):
    """The bits of all products."""
    rng = np.random.default_rng(0)
    x, weight, dy = (guard.filled(rng.normal(size=s).astype(np.float32)) for s in ((M, K), (K, N), (M, N)))
    a, b = (guard.new(products.operand_shape(M, width), np.int16) for width in (K, N))
    round_rows(a, x)
    round_rows(b, dy)
    panels, transposed = (guard.new(products.packed_shape(*s), np.uint32) for s in ((K, N), (N, K)))
    step = products.slice_rows(K)
    for first in range(0, K, step):
        products.pack(panels, transposed, weight, first, min(first + step, K))
    out, dx, dweight, dbias = guard.new((M, N)), guard.new((M, K)), guard.zeros((K, N)), guard.zeros((N,))
    ones, nothing = guard.filled(np.ones(N)), np.empty(0, np.float32)
    products.affine(out, a, panels, ones, False, guard.new((products.scratch_size(K),)))
    products.affine(dx, b, transposed, nothing, False, guard.new((products.scratch_size(N),)))
    products.add_gradient(dweight, a, b, True, guard.new((products.scratch_size(K),)))
    products.add_column_sums(dbias, b)
    guard.kept.clear()
    return b"".join(array.tobytes() for array in (out, dx, dweight, dbias))

bits = hashlib.sha256()
for size in ((1, 1, 1), (2, 33, 31), (13, 513, 65), (514, 40, 12), (25, 128, 1025)):
    guards = [Guard(at_end, left) for at_end in (True, False) for left in (0, 255)]
    (result,) = {run(guard, *size) for guard in guards}
    bits.update(result)
found = []
for kernel in (products.affine, products.add_gradient):
    (code,) = kernel.inspect_asm().values()
    found.append("+".join(name for name in ("vpdpwssd", "pmaddwd") if name in code) or "none")
print(machine.LANES, machine.INT16, *found, bits.hexdigest())
'''

INSTRUCTIONS = {"vnni": "vpdpwssd", "madd": "pmaddwd"}
"""What is not named is emulated."""


def _here(lanes: int) -> list[str]:
    """How this processor can multiply with so many lanes. Each way takes a process to compile: with its own
    lanes it is two, with others the best one."""
    best = machine._int16(machine.FEATURES, lanes)
    if lanes != machine.LANES:
        return [best]
    if best == "vnni":
        return ["vnni", "emulate" if lanes == 4 else "madd"]
    return ["madd", "emulate"] if best == "madd" else ["emulate"]


@pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with mprotect")
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_every_instruction_computes_the_same_bits_and_stays_in_its_arrays(lanes, tmp_path):
    if lanes == 16 and not machine.FEATURES.get("avx512f"):
        pytest.skip("no AVX-512")
    digests = set()
    for how in _here(lanes):
        chosen = {"HANDGRAD_LANES": str(lanes), "HANDGRAD_INT16": how}
        result = python(GUARDED, tmp_path / how, **chosen)
        assert result.returncode == 0, result.stderr[-2000:] or f"killed by signal {-result.returncode}"
        n, named, *instructions, digest = result.stdout.split()
        assert (n, named) == (str(lanes), how)
        assert instructions == [INSTRUCTIONS.get(how, "none")] * 2
        digests.add(digest)
    assert len(digests) == 1
    if lanes != machine.LANES:  # else this process runs them
        assert_bounds_hold(tmp_path / _here(lanes)[0], lanes)


def assert_bounds_hold(cache: object, lanes: int) -> None:
    """The tests of `test_integer_products` with other vectors, whose kernels are compiled already."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"]
    run = f"import sys, pytest; sys.exit(pytest.main({[BOUNDS, *options]}))"
    result = python(run, cache, HANDGRAD_LANES=str(lanes), HANDGRAD_INT16=_here(lanes)[0])
    assert result.returncode == 0, result.stdout[-3000:]


WITHOUT_AVX512 = """
import re
from numba import types
from handgrad.kernels import machine, products_int16
matrix, operand, packed, vector = (
    types.Array(kind, n, "C")
    for kind, n in ((types.float32, 2), (types.int16, 2), (types.uint32, 3), (types.float32, 1))
)
of_affine = matrix, operand, packed, vector, types.boolean, vector
for kernel, signature in (
    (products_int16.affine, of_affine),
    (products_int16.add_gradient, (matrix, operand, operand, types.boolean, vector)),
):
    kernel.compile(signature)
    (code,) = kernel.inspect_asm().values()
    vex = re.findall(r"\\{vex\\}\\s+vpdpwssd\\s+%ymm", code)
    print(machine.LANES, machine.INT16, len(vex) > 12, "zmm" in code)
"""


@pytest.mark.skipif(not machine.FEATURES.get("sse2"), reason="compiled for x86, never run")
def test_avx_vnni_has_its_own_form_of_the_instruction(tmp_path):
    features = "+avx2,+fma,+avxvnni,-avx512f"
    chosen = {"NUMBA_CPU_NAME": "alderlake", "NUMBA_CPU_FEATURES": features, "HANDGRAD_LANES": "auto"}
    result = python(WITHOUT_AVX512, tmp_path, **chosen)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines() == ["8 vnni True False"] * 2
