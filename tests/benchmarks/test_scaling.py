"""What a step is predicted to take on a GPU is what it was seen to take."""

import pytest

pytest.importorskip("jax", reason="the xla engine runs on JAX: install the extra [xla]")
import scaling
from scaling import GPT2, MODELS

from handgrad.engines.xla.mesh import ONE

MEASURED = [  # the most in use on an H200, in bytes: docs/how-to/scaling.md
    (MODELS["GPT-2"], 16, "separate", 8.37e9),
    (MODELS["GPT-2"], 16, "scanned", 8.11e9),
    (MODELS["GPT-2"], 16, "rematerialized", 5.04e9),
    (GPT2.replace(n_layers=24, n_heads=16, d_model=1024), 16, "scanned", 18.95e9),
    (MODELS["GPT-2 XL"], 4, "scanned", 33.63e9),
    (MODELS["GPT-2 XL"], 16, "rematerialized", 28.88e9),
]


@pytest.mark.parametrize(("config", "batch_size", "layers", "measured"), MEASURED)
def test_memory_on_a_gpu_is_predicted_to_a_sixth(config, batch_size, layers, measured, monkeypatch):
    for module, name in ((scaling.device, "fused"), (scaling.plans, "layer_bytes")):
        monkeypatch.setattr(module, name, getattr(module, name))  # put back afterwards
    scaling.as_on_a_gpu()
    assert sum(scaling.held(config, ONE, batch_size, layers)) == pytest.approx(measured, rel=1 / 6)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,1,2,3},{4,5,6,7}}", 4),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("mesh['axis_0'=2,'axis_1'=1,'axis_2'=4], device_ids=([2,4]T(1,0)) {'axis_0','axis_2'}", 8),
    ],
)
def test_all_ways_to_write_who_takes_part_are_read(groups, size):
    assert scaling.group_size(f"all-reduce(%x), replica_groups={groups}, to_apply=%sum") == size
