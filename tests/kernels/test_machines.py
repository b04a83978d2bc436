"""Other machines, as far as this one can play them: other vectors, AMX compiled for, kernels kept on disk."""

import os
import subprocess
import sys

import pytest

COMPARE = """
import numpy as np
from handgrad.api import loss_and_gradients
from handgrad.engines import cpu
from handgrad.engines.engine import OptimizerSettings, State
from handgrad.kernels import machine
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad import tree

rng = np.random.default_rng(0)
size = {"context_length": 50, "n_layers": 2, "d_model": 36, "n_heads": 2}
config = PRESETS["nano"].replace(**size, bias=True)
batch = rng.integers(65, size=(2, 3, 50))
names = []
cpu.compile_kernels(config, "auto", names.append)
training = cpu.Training(config, State(init(config)), OptimizerSettings())
loss, found = training.loss_and_gradients(*batch)
expected, gradients = loss_and_gradients(config, init(config, dtype=np.float64), *batch)
scale = {n: np.abs(g).max() for n, g in gradients.items() if "key.bias" not in n}  # which has none
ours = dict(tree.named_leaves(found))
error = max(np.abs(ours[n] - gradients[n]).max() / scale[n] for n in scale)
print(machine.LANES, machine.TILE_ROWS, machine.AMX, abs(loss - expected) < 1e-5, error < 2e-5, len(names))
"""

TILES = """
import collections, importlib.util, re, sys
from importlib.util import find_spec
import handgrad
package = handgrad.__path__[0]
path = package + "/kernels/machine.py"
spec = importlib.util.spec_from_file_location("handgrad.kernels.machine", path)
machine = importlib.util.module_from_spec(spec)
spec.loader.exec_module(machine)
machine.AMX = "hardware"  # compiled for, never run
sys.modules["handgrad.kernels.machine"] = machine
from numba import types
from handgrad.kernels import attention_bfloat16, products_bfloat16
kinds = ((types.float32, 2), (types.float32, 1), (types.uint32, 3))
floats, vector, words = (types.Array(kind, n, "C") for kind, n in kinds)
draw = types.uint32, types.uint32, types.uint32, types.float32
settings = types.int64, types.int64, types.int64, types.float32, types.boolean, *draw, vector
for kernel, signature in (
    (products_bfloat16.affine, (floats, floats, words, vector, types.boolean, vector)),
    (products_bfloat16.add_gradient, (floats, floats, floats, vector)),
    (attention_bfloat16.forward, (floats, vector, *[floats] * 3, *settings)),
    (attention_bfloat16.backward, (*[floats] * 4, vector, *settings)),
):
    kernel.compile(signature)
    (code,) = kernel.inspect_asm().values()
    names = r"\\b(tdpbf16ps|tileloadd|tilestored|ldtilecfg|tilerelease)\\b"
    found = collections.Counter(re.findall(names, code))
    print(sorted(found), found["tdpbf16ps"] >= 4)
"""


def python(script: str, cache: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(("lanes", "rows"), [("4", "6"), ("16", "12")])
def test_other_vectors_compute_the_same(lanes, rows, tmp_path):
    result = python(COMPARE, tmp_path, HANDGRAD_LANES=lanes, HANDGRAD_AMX="off")
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.split()[:5] == [lanes, rows, "none", "True", "True"]


def test_kernels_are_compiled_once_and_then_loaded(tmp_path):
    first, second = (python(COMPARE, tmp_path, HANDGRAD_AMX="off") for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr[-2000:] + second.stderr[-2000:]
    assert int(first.stdout.split()[-1]) > 20
    assert int(second.stdout.split()[-1]) == 0


def test_a_cache_that_cannot_be_written_to_is_no_obstacle(tmp_path):
    (tmp_path / "handgrad").write_text("a file where the folder should be")
    result = python("import handgrad.kernels.cache as c; print(c.folder())", tmp_path)
    assert result.returncode == 0, result.stderr[-2000:]
    assert str(tmp_path) not in result.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="AMX is asked for on Linux")
def test_kernels_of_bfloat16_compile_to_tile_instructions(tmp_path):
    features = "+avx512f,+avx2,+fma,+amx-tile,+amx-bf16"
    machine = {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": features, "HANDGRAD_LANES": "16"}
    result = python(TILES, tmp_path, **machine)
    assert result.returncode == 0, result.stderr[-2000:]
    tiles = "['ldtilecfg', 'tdpbf16ps', 'tileloadd', 'tilerelease', 'tilestored'] True"
    assert result.stdout.splitlines() == [tiles] * 4


@pytest.mark.parametrize(("variable", "value"), [("HANDGRAD_AMX", "yes"), ("HANDGRAD_LANES", "5")])
def test_a_variable_that_means_nothing_is_said(variable, value, tmp_path):
    command = [sys.executable, "-m", "handgrad", "train", "--out", str(tmp_path / "run")]
    result = subprocess.run(
        command, env={**os.environ, variable: value}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert f"{variable} must be one of" in result.stderr
    assert "Traceback" not in result.stderr
