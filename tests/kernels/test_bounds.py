"""No kernel reads or writes outside its arrays: each array ends, or begins, at a page nobody may touch."""

import subprocess
import sys

import pytest

SCRIPT = '''
import ctypes, mmap, sys
import numpy as np
from handgrad import tree
from handgrad.kernels import workspace as workspace_module
from handgrad.kernels.precision import BFLOAT16, FLOAT32
from handgrad.kernels.random import Counted
from handgrad.kernels.twins import Twins
from handgrad.kernels.workspace import Workspace
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from tests.kernels.conftest import weights

at_end, kernels = sys.argv[1] == "end", BFLOAT16 if sys.argv[2] == "bfloat16" else FLOAT32
PAGE, kept = mmap.PAGESIZE, []
libc = ctypes.CDLL(None, use_errno=True)

def guarded(shape, dtype=np.float32):
    """Zeros between two pages that may not be touched."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    n_pages = -(-size // PAGE)
    memory = mmap.mmap(-1, (n_pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, n_pages + 1):
        assert libc.mprotect(ctypes.c_void_p(address + page * PAGE), PAGE, 0) == 0
    kept.append(memory)
    start = PAGE + (n_pages * PAGE - size if at_end else 0)
    return np.frombuffer(memory, dtype, size // np.dtype(dtype).itemsize, start).reshape(shape)

class GuardedArena:
    """Every array between its own pages."""
    def take(self, *shape):
        return guarded(shape)
    def reset(self):
        pass

if len(sys.argv) > 3:  # touch what may not be touched
    array = guarded((5,))
    ctypes.memset(array.ctypes.data + (array.nbytes if at_end else -1), 1, 1)
    print("survived")

workspace_module.aligned = lambda n, dtype=np.float32: guarded((n,), dtype)
rng = np.random.default_rng(0)
for name, changes in {
    "paper": {}, "nano": {"activation": "prelu", "gated": True, "n_heads": 1}, "gpt2": {"tied": False},
    "llama": {"qk_norm": True, "dropout": 0.1, "n_kv_heads": 1},
}.items():
    for B, T, width, vocabulary in ((1, 1, 4, 2), (3, 50, 20, 65), (2, 17, 44, 33)):
        config = PRESETS[name].replace(**{"vocab_size": vocabulary, "context_length": 50, "n_layers": 1,
                                          "n_heads": 2, "d_model": width, "d_ff": 23, **changes})
        own = weights(init(config, 1), kernels.products, guarded)
        workspace = Workspace(GuardedArena(), guarded((1,)), kernels)
        model = LanguageModel(Transformer(config, Twins(workspace)))
        token_ids = guarded((B, T), np.int64)
        token_ids[...] = rng.integers(vocabulary, size=(B, T))
        loss, _ = model.loss_and_gradients(1.0, own, token_ids, token_ids, rng=Counted(1))
        assert np.isfinite(loss), (name, loss)
        kept.clear()
print("whole")
'''


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=300
    )


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with mprotect")


@pytest.mark.parametrize("side", ["end", "start"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_no_kernel_leaves_its_arrays(side, precision):
    result = run(side, precision)
    assert result.returncode == 0, result.stderr[-2000:] or f"killed by signal {-result.returncode}"
    assert result.stdout.endswith("whole\n")


@pytest.mark.parametrize("side", ["end", "start"])
def test_the_guard_pages_do_catch(side):
    result = run(side, "float32", "touch")
    assert result.returncode < 0
    assert "survived" not in result.stdout
