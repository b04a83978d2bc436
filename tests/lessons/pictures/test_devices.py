"""The pictures of devices show what is said of them: rounds of a ring, memory, the share that computes."""

import numpy as np
import pytest

from handgrad.lessons.pictures import devices
from tests.pictures import assert_good, lines

COUNTS = np.array([2, 8, 64])
LINKS = {"fast": 450e9, "slow": 1.25e9}
TOKENS = np.geomspace(64, 1 << 20, 30)
PICTURES = {
    "ring": lambda: devices.ring(3),
    "busiest": lambda: devices.busiest(COUNTS, {"to one": COUNTS - 1.0, "ring": 2 * (COUNTS - 1) / COUNTS}),
    "memory": lambda: devices.memory(7),
    "efficiency": lambda: devices.efficiency(TOKENS, operations_per_second=4e14, links=LINKS),
}


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_after_half_the_rounds_each_device_has_one_sum_and_after_all_every_device_has_all(n):
    np.testing.assert_array_equal(devices.summed(0, n), 1)
    half = devices.summed(n - 1, n)
    np.testing.assert_array_equal(np.sort(half, axis=0)[-1], n)
    assert (half == n).sum() == n
    np.testing.assert_array_equal(devices.summed(2 * (n - 1), n), n)


def test_memory_that_is_divided_is_sixteen_bytes_a_weight_over_the_devices():
    figure = devices.memory(1.5)
    (divided,), (whole,) = lines(figure, "fsdp: divided"), lines(figure, "data: each has all")
    n, each = divided.get_data()
    np.testing.assert_allclose(each, 24 / n)
    np.testing.assert_allclose(whole.get_ydata(), 24)


def test_sending_as_long_as_computing_halves_the_share_that_computes():
    tokens = np.array([4 / 3 * 4e14 / 450e9])
    figure = devices.efficiency(tokens, operations_per_second=4e14, links=LINKS)
    np.testing.assert_allclose(lines(figure, "fast")[0].get_ydata(), 0.5)
