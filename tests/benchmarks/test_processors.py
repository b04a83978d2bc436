"""A processor limited to the instructions of another."""

import processors
import pytest
from numba import config

from handgrad.kernels import machine

XEON = dict.fromkeys(
    [
        "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512vnni", "avx512bf16", "avx512fp16", "avx10.1",
        "avxvnni", "amx-tile", "amx-bf16", "amx-int8",
    ],
    True,
)  # fmt: skip
LATER = {"avx512fp16", "avx10.1", "amx-tile", "amx-bf16", "amx-int8"}


@pytest.mark.parametrize(
    ("name", "lanes", "int16", "left"),
    [
        ("avx2", 8, "madd", {"avx2", "fma"}),
        ("avx2-vnni", 8, "vnni", {"avx2", "fma", "avxvnni"}),
        ("avx512", 16, "madd", {"avx2", "fma", "avx512f", "avx512bw", "avx512vl"}),
        ("avx512-vnni", 16, "vnni", set(XEON) - {"avx512bf16", *LATER}),
        ("avx512-bf16", 16, "vnni", set(XEON) - LATER),
    ],
)
def test_kernels_are_compiled_for_what_is_left(name, lanes, int16, left, monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", processors.environment(name, XEON)["NUMBA_CPU_FEATURES"])
    features = machine._features()
    assert {feature for feature, has in features.items() if has} == left
    assert features.keys() == XEON.keys()
    assert machine._lanes(features) == lanes
    assert machine._int16(features, lanes) == int16
    assert machine._amx(features) == "none"


def test_a_processor_is_not_limited_to_what_it_lacks():
    with pytest.raises(SystemExit, match=r"--as avx512 needs a processor with AVX-512.*no avx512f"):
        processors.environment("avx512", {"avx2": True})
