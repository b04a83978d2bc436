"""No kernel reads or writes outside its arrays, nor reads what it has not written.

Each array begins, or ends, at a page nobody may touch; and what stands in new memory changes no bit.
"""

import subprocess
import sys

import pytest

SCRIPT = '''
import ctypes, mmap, os, signal, sys
import numpy as np
from handgrad import tree
from handgrad.kernels import workspace as workspace_module
from handgrad.kernels.precision import OF
from handgrad.kernels.random import Counted
from handgrad.kernels.twins import Twins
from handgrad.kernels.workspace import Workspace
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from tests.kernels.conftest import weights

kernels = OF[sys.argv[1]]
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

def touched_outside():
    """The signal that kills a process which does."""
    child = os.fork()
    if not child:
        array = guarded((5,))
        ctypes.memset(array.ctypes.data + (array.nbytes if at_end else -1), 1, 1)
        os._exit(0)
    return os.WTERMSIG(os.waitpid(child, 0)[1])

def new(shape, dtype=np.float32):
    """Memory that was used before: full of `left`."""
    array = guarded(shape, dtype)
    array.view(np.float16 if dtype is np.uint16 else np.float32)[...] = left
    return array

class GuardedArena:
    """Every array between its own pages."""
    def take(self, *shape, dtype=np.float32):
        return new(shape, dtype)
    def reset(self):
        pass

def step(config, token_ids):
    own = weights(init(config, 1), kernels.products, guarded)
    workspace = Workspace(GuardedArena(), new((1,)), kernels, GuardedArena())
    model = LanguageModel(Transformer(config, Twins(workspace)))
    loss, gradients = model.loss_and_gradients(1.0, own, token_ids, token_ids, rng=Counted(1))
    return [np.copy(array) for array in (loss, *tree.leaves(gradients))]

workspace_module.aligned = lambda n, dtype=np.float32: new((n,), dtype)
rng = np.random.default_rng(0)
for at_end in (True, False):
    assert touched_outside() in (signal.SIGSEGV, signal.SIGBUS)
    for name, changes in {
        "paper": {}, "nano": {"activation": "prelu", "gated": True, "n_heads": 1}, "gpt2": {"tied": False},
        "llama": {"qk_norm": True, "dropout": 0.1, "n_kv_heads": 1},
    }.items():
        for B, T, width, vocabulary in ((1, 1, 4, 2), (3, 50, 20, 65), (2, 17, 44, 33)):
            config = PRESETS[name].replace(**{"vocab_size": vocabulary, "context_length": 50, "n_layers": 1,
                                              "n_heads": 2, "d_model": width, "d_ff": 23, **changes})
            token_ids = guarded((B, T), np.int64)
            token_ids[...] = rng.integers(vocabulary, size=(B, T))
            results = []
            for left in (0.0, np.nan):
                results.append(step(config, token_ids))
            assert np.isfinite(results[0][0]), name
            for clean, used in zip(*results, strict=True):
                assert clean.tobytes() == used.tobytes(), (name, B, T)
            kept.clear()
print("whole")
'''


@pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with mprotect")
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int16"])
def test_no_kernel_leaves_its_arrays_or_reads_what_it_has_not_written(precision):
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, precision], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:] or f"killed by signal {-result.returncode}"
    assert result.stdout.endswith("whole\n")
