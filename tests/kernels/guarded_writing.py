"""Texts are read with every array between guard pages: prints `whole` where nothing beyond one is touched.

A process of its own (`python -m tests.kernels.guarded_writing`), which a touched guard page kills.
"""

import numpy as np

from handgrad.engines import cpu_weights, cpu_writing
from handgrad.kernels.writing import kept
from handgrad.model.config import PRESETS
from handgrad.model.init import init
from tests.kernels.guard import Guard

SMALL = {"vocab_size": 33, "context_length": 9, "n_layers": 2, "n_heads": 2, "d_model": 44, "d_ff": 23}
MODELS = {"nano": {"activation": "prelu", "gated": True}, "llama": {"n_kv_heads": 1, "d_head": 10}}
FEW = cpu_weights.SMALL
KINDS = [
    ("float32", FEW, "auto"),
    ("float32", FEW, "int8"),
    ("float32", 0, "int8"),
    ("bfloat16", FEW, "auto"),
    ("bfloat16", 0, "auto"),
    ("int8", 0, "auto"),
]
"""Of weights, up to which size they stay as they are, and of what a text leaves behind."""


def check(config, precision, small, cache, guard):
    """What memory held before has no say in what is computed, and all of it is a number."""
    cpu_weights.SMALL, ids, results = small, np.arange(21).reshape(3, 7), []
    for guard.left in (0, 255):
        decoding = cpu_writing.Decoding(
            config, init(config, 1), precision, n_texts=3, n_threads=1, cache=cache
        )
        put_between_guards(decoding, guard)
        results.append([decoding.read(ids), decoding.read(ids[:, :1])])
    for clean, used in zip(*results, strict=True):
        assert np.isfinite(clean).all()
        assert clean.tobytes() == used.tobytes()


def put_between_guards(decoding, guard):
    def copied(array):
        return guard.filled(array, array.dtype)

    def not_written(array):
        return guard.new(array.shape, array.dtype)

    packed, known = decoding.packed, decoding._kept
    memory = copied(packed.memory)
    packed.matrices["at"] += memory.ctypes.data - packed.memory.ctypes.data
    decoding.packed = packed._replace(memory=memory)
    keys = not_written(decoding._keys_and_values)
    moved = keys.ctypes.data - known.cache.keys
    cache = known.cache._replace(keys=known.cache.keys + moved, values=known.cache.values + moved)
    decoding._keys_and_values = keys
    room = each(known.room, not_written)._replace(halves=copied(known.room.halves))
    small, rows, arrivals = (each(part, copied) for part in (known.small, known.rows, known.arrivals))
    decoding._kept = known._replace(rows=rows, cache=cache, small=small, room=room, arrivals=arrivals)
    decoding._table = copied(kept.table(decoding._kept))
    decoding._at = decoding._table.ctypes.data


def each(nested, new):
    """Tuples with a new array in the place of each."""
    if isinstance(nested, np.ndarray):
        return new(nested)
    return type(nested)(*(each(part, new) for part in nested)) if isinstance(nested, tuple) else nested


if __name__ == "__main__":
    for at_end in (True, False):
        guard = Guard(at_end)
        for name, changes in MODELS.items():
            narrow = PRESETS[name].replace(**(SMALL | changes))
            for precision, small, cache in KINDS:
                config = narrow.replace(d_model=96, d_ff=64) if precision == "int8" else narrow
                check(config, precision, small, cache, guard)
                guard.kept.clear()
    print("whole")
