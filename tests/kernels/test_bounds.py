"""No kernel reads or writes outside its arrays, nor reads what it has not written.

Each array begins, or ends, at a page nobody may touch; and what stands in new memory changes no bit.
"""

import subprocess
import sys

import pytest

SCRIPT = '''
import sys
import numpy as np
from handgrad import tree
from handgrad.counted import Counted
from handgrad.kernels import workspace as workspace_module
from handgrad.kernels.precision import OF
from handgrad.kernels.twins import Twins
from handgrad.kernels.workspace import Workspace
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from handgrad.model.transformer import LanguageModel, Transformer
from tests.kernels.conftest import weights
from tests.kernels.guard import Guard

kernels = OF[sys.argv[1]]

class GuardedArena:
    """Every array between its own pages."""
    def take(self, *shape, dtype=np.float32):
        return guard.new(shape, dtype)
    def reset(self):
        pass

def step(config, token_ids):
    own = weights(init(config, 1), kernels.products, guard.zeros)
    workspace = Workspace(GuardedArena(), guard.new((1,)), kernels, *(GuardedArena() for _ in range(2)))
    model = LanguageModel(Transformer(config, Twins(workspace)))
    loss, gradients = model.loss_and_gradients(1.0, own, token_ids, token_ids, rng=Counted(1))
    return [np.copy(array) for array in (loss, *tree.leaves(gradients))]

workspace_module.aligned = lambda n, dtype=np.float32: guard.new((n,), dtype)
rng = np.random.default_rng(0)
for at_end in (True, False):
    guard = Guard(at_end)
    assert guard.works()
    for name, changes in {
        "paper": {}, "nano": {"activation": "prelu", "gated": True, "n_heads": 1}, "gpt2": {"tied": False},
        "llama": {"qk_norm": True, "dropout": 0.1, "n_kv_heads": 1, "d_head": 6, "qkv_bias": True},
    }.items():
        for B, T, width, vocabulary in ((1, 1, 4, 2), (3, 50, 20, 65), (2, 17, 44, 33)):
            config = PRESETS[name].replace(**{"vocab_size": vocabulary, "context_length": 50, "n_layers": 1,
                                              "n_heads": 2, "d_model": width, "d_ff": 23, **changes})
            token_ids = guard.filled(rng.integers(vocabulary, size=(B, T)), np.int64)
            results = []
            for guard.left in (0, 255):
                results.append(step(config, token_ids))
            assert np.isfinite(results[0][0]), name
            for clean, used in zip(*results, strict=True):
                assert clean.tobytes() == used.tobytes(), (name, B, T)
            guard.kept.clear()
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
