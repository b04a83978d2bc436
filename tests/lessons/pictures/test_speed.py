"""The pictures of speed show what was measured or counted, with the machine's limits, and hide nothing."""

import numpy as np
import pytest

from handgrad.lessons.pictures import speed
from tests.pictures import assert_good, lines

CACHES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
SIZES = 2 ** np.arange(12, 28)
RATES = np.linspace(200, 10, 16)
KERNELS = {"number by number": (0.1, 2e9), "in pieces": (0.75, 6e9), "product": (64.0, 80e9)}
SECONDS = {"products.affine": 0.06, "attention.backward": 0.03, "all others": 0.01}
LENGTHS = 2 ** np.arange(6, 14)
METHODS = {"by formulas": 4 * LENGTHS**2, "fused": 4 * LENGTHS}
TOKENS = 64 * 2 ** np.arange(11)
IN_PARTS = {"at once": 30_000 * TOKENS, "in parts": 30_000 * np.minimum(TOKENS, 384)}
COUNTS = 4 ** np.arange(2, 12)
ERRORS = {"one after the other": 3e-8 * np.sqrt(COUNTS), "in pairs": np.full(10, 4e-8)}
PICTURES = {
    "by_size": lambda: speed.by_size(SIZES, {"triad": RATES, "copy": RATES / 2}, caches=CACHES),
    "roofline": lambda: speed.roofline(88e9, 20e9, KERNELS, cache_bytes_per_second=80e9),
    "roofline, one chosen": lambda: speed.roofline(88e9, 20e9, KERNELS, chosen="product"),
    "shares": lambda: speed.shares(SECONDS, {"products.affine": "80 GFLOP/s, 91% of peak"}),
    "kept": lambda: speed.kept(
        {"attention": ("context", LENGTHS, METHODS), "logits": ("vocabulary", LENGTHS, METHODS)}
    ),
    "memory_by_micro_batch": lambda: speed.memory_by_micro_batch(
        TOKENS, IN_PARTS, caches=CACHES, title="nano"
    ),
    "rounding": speed.rounding,
    "errors_of_sums": lambda: speed.errors_of_sums(COUNTS, ERRORS),
}


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("draw", PICTURES.values(), ids=PICTURES)
def test_every_picture_is_laid_out_without_overlap_in_the_colours_of_its_theme(draw):
    assert_good(draw)


def test_rates_stand_over_their_sizes_with_the_caches_between():
    figure = PICTURES["by_size"]()
    (line,) = lines(figure, "triad")
    np.testing.assert_array_equal(line.get_data(), [SIZES, RATES])
    assert words(figure) == ["L1\n32 KiB", "L2\n1 MiB", "L3\n32 MiB"]
    assert lines(figure, "copy")[0].get_linestyle() != line.get_linestyle()


def test_caches_beyond_the_sizes_are_left_out():
    assert words(speed.by_size(SIZES[:6], {"triad": RATES[:6]}, caches=CACHES)) == ["L1\n32 KiB"]


def test_the_roof_is_the_lower_of_what_memory_brings_and_what_arithmetic_can():
    figure = PICTURES["roofline"]()
    (roof,) = lines(figure, "what memory brings")
    intensity, rate = roof.get_data()
    np.testing.assert_allclose(rate, np.minimum(88, 20 * intensity))
    assert intensity[0] < 88 / 20 < intensity[-1]  # both parts are seen
    (near,) = lines(figure, "what the cache brings")
    np.testing.assert_allclose(near.get_ydata(), np.minimum(88, 80 * near.get_xdata()))
    points = [line.get_xydata().tolist() for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    assert points == [[[intensity, rate / 1e9]] for intensity, rate in KERNELS.values()]


def test_a_chosen_kernel_alone_stands_out_and_is_told_of():
    figure = PICTURES["roofline, one chosen"]()
    assert figure.axes[0].get_title(loc="left") == "product: 64 operations a byte, 80 GFLOP/s"
    points = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) == 1]
    assert [point.get_markersize() for point in points] == [6, 6, 10]
    assert not set(words(figure)) & KERNELS.keys()


def test_a_machine_has_a_roof_before_anything_stands_below_it():
    (roof,) = lines(speed.roofline(88e9, 20e9, {}), "what memory brings")
    intensity, rate = roof.get_data()
    assert intensity[0] < 88 / 20 < intensity[-1]
    assert rate.max() == 88


def test_shares_are_those_of_the_time():
    figure = PICTURES["shares"]()
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([60, 30, 10])
    assert words(figure)[:2] == ["60.0%, 80 GFLOP/s, 91% of peak", "30.0%"]


def test_what_is_kept_is_drawn_for_every_method_in_every_panel():
    figure = PICTURES["kept"]()
    for name, n_bytes in METHODS.items():
        first, second = lines(figure, name)
        for line in (first, second):
            np.testing.assert_array_equal(line.get_data(), [LENGTHS, n_bytes])
    assert [axes.get_xlabel() for axes in figure.axes] == ["context", "vocabulary"]


def test_memory_in_parts_is_level_and_caches_are_dotted():
    figure = PICTURES["memory_by_micro_batch"]()
    (line,) = lines(figure, "in parts")
    assert len(set(line.get_ydata()[-5:])) == 1
    dotted = [line.get_ydata()[0] for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    assert dotted == list(CACHES.values())


@pytest.mark.parametrize(("name", "dtype"), [("float32", np.float32), ("float16", np.float16)])
def test_stairs_are_as_high_as_numbers_are_apart(name, dtype):
    (stairs,) = [part for part in speed.rounding().axes[0].patches if part.get_label() == name]
    exponents, distances = stairs.get_data().edges[:-1], stairs.get_data().values
    numbers = np.ldexp(1.0, exponents.astype(int)).astype(dtype)
    np.testing.assert_array_equal(np.exp2(distances), np.spacing(numbers))


def test_errors_and_their_guides_are_drawn_as_given():
    figure = PICTURES["errors_of_sums"]()
    for name, values in ERRORS.items():
        np.testing.assert_array_equal(lines(figure, name)[0].get_data(), [COUNTS, values])
    worst, likely = [line for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    np.testing.assert_allclose(worst.get_ydata(), COUNTS * 2.0**-24)
    np.testing.assert_allclose(likely.get_ydata(), np.sqrt(COUNTS) * 2.0**-24)


@pytest.mark.parametrize(
    ("n_bytes", "text"), [(16, "16 B"), (32768, "32 KiB"), (1.5 * (1 << 20), "1.5 MiB"), (1 << 31, "2 GiB")]
)
def test_bytes_in_words(n_bytes, text):
    assert speed.size_of(n_bytes) == text
