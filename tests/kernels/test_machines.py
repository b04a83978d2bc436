"""Other machines, as far as this one can play them: other vectors, AMX compiled for, kernels kept on disk."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import handgrad
from handgrad.kernels import cache, machine

COMPARE = """
import hashlib
import os
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
names, bits = [], hashlib.sha256()
there = {"float32": True, "bfloat16": machine.AMX != "none", "int16": machine.INT16 != "none"}
for precision in (name for name in os.environ["PRECISIONS"].split() if there[name]):
    cpu.compile_kernels(config, precision, names.append)
    training = cpu.Training(config, State(init(config)), OptimizerSettings(), precision=precision)
    loss, found = training.loss_and_gradients(*batch)
    if precision == "float32":
        expected, gradients = loss_and_gradients(config, init(config, dtype=np.float64), *batch)
        scale = {n: np.abs(g).max() for n, g in gradients.items() if "key.bias" not in n}  # which has none
        ours = dict(tree.named_leaves(found))
        error = max(np.abs(ours[n] - gradients[n]).max() / scale[n] for n in scale)
        right = abs(loss - expected) < 1e-5 and error < 2e-5
    config_dropped, state = config.replace(dropout=0.1), State(init(config))
    dropped = cpu.Training(config_dropped, state, OptimizerSettings(), precision=precision)
    dropped.step(*batch, 1e-3, rng)
    for array in (*tree.leaves(found), *tree.leaves(dropped.state().weights)):
        bits.update(np.ascontiguousarray(array))
print(machine.LANES, machine.MICRO_ROWS, right, bits.hexdigest(), len(names))
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
from handgrad.kernels.attention import Heads
from handgrad.kernels.dropout import Dropping
kinds = ((types.float32, 2), (types.float32, 1), (types.uint16, 2), (types.uint32, 3))
floats, vector, operand, words = (types.Array(kind, n, "C") for kind, n in kinds)
heads = types.NamedTuple((*[types.int64] * 4, types.float32, types.boolean), Heads)
dropping = types.NamedTuple((types.uint32, types.uint32, types.uint32, types.float32), Dropping)
settings = floats, heads, dropping, vector
for kernel, signature in (
    (products_bfloat16.affine, (floats, operand, words, vector, types.boolean, vector)),
    (products_bfloat16.add_gradient, (floats, operand, operand, types.boolean, vector)),
    (attention_bfloat16.forward, (operand, floats, operand, operand, operand, *settings[1:])),
    (attention_bfloat16.backward, (*[floats] * 3, *[operand] * 3, floats, *settings)),
):
    kernel.compile(signature)
    (code,) = kernel.inspect_asm().values()
    names = r"\\b(tdpbf16ps|tileloadd|tilestored|ldtilecfg|tilerelease)\\b"
    found = collections.Counter(re.findall(names, code))
    (ir,) = kernel.inspect_llvm().values()
    weak = re.findall(r"^define linkonce_odr .*@(_ZN8handgrad\\w+)", ir, re.MULTILINE)
    print(sorted(found), found["tdpbf16ps"] >= 4, weak)
"""


def python(script: str, cache: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "XDG_CACHE_HOME": str(cache), **environment},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lanes", "rows", "amx", "precisions"),
    [("4", "6", "off", "float32 int16"), ("16", "12", "auto", "float32 bfloat16")],
)
def test_other_vectors_compute_the_same_and_loaded_kernels_the_same_bits(
    lanes, rows, amx, precisions, tmp_path
):
    if lanes == str(machine.LANES):
        pytest.skip("all other tests run with these vectors")
    chosen = {"HANDGRAD_LANES": lanes, "HANDGRAD_AMX": amx, "PRECISIONS": precisions}
    first, second = (python(COMPARE, tmp_path, **chosen) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr[-2000:] + second.stderr[-2000:]
    *compiled, n_compiled = first.stdout.split()
    *loaded, n_loaded = second.stdout.split()
    assert compiled[:3] == [lanes, rows, "True"]
    assert loaded == compiled
    assert int(n_compiled) > 20
    assert int(n_loaded) == 0


LOOP = """
import re
from numba import types
from handgrad.kernels import activations
matrix, vector = types.Array(types.float32, 2, "C"), types.Array(types.float32, 1, "C")
activations.gelu.compile((matrix, matrix, matrix, vector))
(code,) = activations.gelu.inspect_asm().values()
print(bool(re.search("vfmadd.*zmm", code)))  # some processors also move by whole vectors what is none
"""


@pytest.mark.skipif(not machine.FEATURES.get("avx512f"), reason="vectors of AVX-512")
@pytest.mark.parametrize(("lanes", "whole"), [("16", "True"), ("8", "False")])
def test_loops_run_in_vectors_of_as_many_numbers_as_products(lanes, whole, tmp_path):
    result = python(LOOP, tmp_path, HANDGRAD_LANES=lanes)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout == f"{whole}\n"


LOADED = """
import sys
import numpy as np
from handgrad.kernels import cache, elementwise
x = np.ones(3, np.float32)
elementwise.add_to(x, x)
prepared = "numba.np.arraymath" in sys.modules
elementwise.multiply(x, x, x)
print(*x, prepared)
"""


def test_a_kernel_that_is_loaded_needs_no_compiler_and_one_that_is_not_finds_it(tmp_path):
    add_only = LOADED.replace("elementwise.multiply(x, x, x)", "x *= x")
    runs = [python(script, tmp_path) for script in (add_only, LOADED, add_only)]
    assert [run.stdout.split() for run in runs] == [
        ["4.0", "4.0", "4.0", "True"],  # compiled
        ["4.0", "4.0", "4.0", "False"],  # one is loaded, then one is compiled
        ["4.0", "4.0", "4.0", "False"],
    ], [run.stderr[-500:] for run in runs]


def test_code_of_a_version_of_numba_that_is_not_known_is_loaded_as_numba_does(tmp_path):
    unknown = LOADED.replace("x = np", "cache.KNOWN = (0, 0)\nx = np")
    runs = [python(unknown, tmp_path) for _ in range(2)]
    assert [run.stdout.split()[-1] for run in runs] == ["True", "True"]


NOTHING_KEPT = """
import numpy as np
from handgrad.kernels import cache, elementwise
x = np.ones(3, np.float32)
elementwise.add_to(x, x)
print(*x, cache.folder())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a limit on the size of files")
def test_a_full_disk_is_no_obstacle_the_second_time_either(tmp_path):
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))\n"  # bytes a file may have
    for _ in range(2):
        result = python(full + NOTHING_KEPT, tmp_path)
        assert result.returncode == 0, result.stderr[-2000:]
        assert result.stdout.split()[:3] == ["2.0", "2.0", "2.0"]
    assert not list(tmp_path.rglob("*.nbc"))


def test_kernels_are_compiled_where_no_folder_can_be_made(tmp_path):
    (tmp_path / "handgrad").write_text("a file where the folder should be")
    (tmp_path / f"handgrad-{os.getuid()}").write_text("here too")
    result = python(NOTHING_KEPT, tmp_path, TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout == "2.0 2.0 2.0 None\n"


def test_a_user_without_a_home_has_a_folder_all_the_same(monkeypatch, tmp_path):
    def nobody(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(cache.Path, "expanduser", nobody)
    monkeypatch.setattr(cache.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache.folder.__wrapped__().is_relative_to(tmp_path)


KEPT = """
import numpy as np
from handgrad.kernels import cache, elementwise
x, names = np.ones(3, np.float32), []
with cache.listening(names.append):
    elementwise.add_to(x, x)
print(*x, *names)
"""


def test_a_damaged_index_is_replaced(tmp_path):
    assert python(KEPT, tmp_path).stdout == "2.0 2.0 2.0 elementwise.add_to\n"
    for index in tmp_path.rglob("*.nbi"):
        index.write_bytes(bytes(index.stat().st_size))
    assert python(KEPT, tmp_path).stdout == "2.0 2.0 2.0 elementwise.add_to\n"
    assert python(KEPT, tmp_path).stdout == "2.0 2.0 2.0\n"


def test_every_source_that_kernels_take_numbers_from_decides_on_the_folder():
    package = Path(handgrad.__file__).parent
    without_numbers = {package / f"{name}.py" for name in ("errors", "parameters", "shapes")}
    for source in (package / "kernels").rglob("*.py"):
        imports = (
            node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.ImportFrom)
        )
        for module in (node.module for node in imports if node.module.startswith("handgrad")):
            path = package.joinpath(*module.split(".")[1:])
            path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
            assert path in {*cache.sources(), *without_numbers}, source


def test_another_number_in_an_op_makes_another_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read, before = Path.read_bytes, cache.folder.__wrapped__()
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path).replace(b"2.260987852402578e-05", b"0.0"))
    assert cache.folder.__wrapped__() != before


def test_folders_of_versions_used_long_ago_are_removed(monkeypatch, tmp_path):
    old = [tmp_path / "handgrad" / f"kernels-{i}" for i in range(20)]
    for i, path in enumerate(old):
        path.mkdir(parents=True)
        os.utime(path, (i, i))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = cache.folder.__wrapped__()
    left = set((tmp_path / "handgrad").iterdir())
    assert left == {ours, *old[-cache.MOST_FOLDERS + 1 :]}


def test_without_a_compiler_a_sentence_says_so(tmp_path):
    result = python("import handgrad.engines.cpu", tmp_path, NUMBA_DISABLE_JIT="1")
    assert "UserError: The kernels need Numba's compiler" in result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="AMX is asked for on Linux")
@pytest.mark.skipif(machine.AMX == "hardware", reason="all other tests run these instructions")
def test_kernels_of_bfloat16_compile_to_tile_instructions(tmp_path):
    features = "+avx512f,+avx2,+fma,+amx-tile,+amx-bf16"
    machine = {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": features, "HANDGRAD_LANES": "16"}
    result = python(TILES, tmp_path, **machine)
    assert result.returncode == 0, result.stderr[-2000:]
    tiles = "['ldtilecfg', 'tdpbf16ps', 'tileloadd', 'tilerelease', 'tilestored'] True []"
    assert result.stdout.splitlines() == [tiles] * 4


@pytest.mark.parametrize(
    ("variable", "value"), [("HANDGRAD_AMX", "yes"), ("HANDGRAD_LANES", "5"), ("HANDGRAD_INT16", "8")]
)
def test_a_variable_that_means_nothing_is_said(variable, value, tmp_path):
    command = [sys.executable, "-m", "handgrad", "train", "--out", str(tmp_path / "run")]
    result = subprocess.run(
        command, env={**os.environ, variable: value}, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert f"{variable} must be one of" in result.stderr
    assert "Traceback" not in result.stderr
