"""Products of few rows are exact to the roundings of a sum, whatever rows and threads are beside them."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from handgrad.engines import cpu_weights
from handgrad.kernels import machine
from handgrad.kernels.jit import kernel
from handgrad.kernels.rounding import round_rows
from handgrad.kernels.writing import barrier, block_panels
from handgrad.kernels.writing.arrays import Room, Team
from handgrad.kernels.writing.blocks import BLOCK, Q4_0, Q4_1, Q8_0
from handgrad.kernels.writing.products import convert, multiply, needs_of, room_of_products, wait
from handgrad.parameters import Blocks

R_MOST, WIDEST = 48, 192


@kernel
def product(out, x, matrix, biases, room, team):
    """What `writing` does with one matrix."""
    operand = convert(x, x.shape[1], x.shape[0], needs_of(matrix[0]), room, team)
    multiply(out, 0, operand, matrix[0], biases, room, team)
    wait(team)


def room(n_workers):
    none = np.empty((0, 0, 0), np.float32)
    every = {name: none for name in Room._fields}
    whole = np.zeros((n_workers, R_MOST * WIDEST * 3 // 2), np.uint8)
    halves = np.zeros((n_workers, R_MOST, WIDEST), np.uint16)
    tile = np.zeros((n_workers, room_of_products(WIDEST)), np.float32)
    every |= {name: np.empty((0, 0), np.float32) for name in ("x", "y", "wide", "mixed", "weights")}
    every["widened"] = np.empty((0, 0), np.uint16)
    every["queue"] = np.empty((0, 0, 0), np.int64)
    return Room(**every | {"whole": whole, "halves": halves, "tile": tile})


def multiplied(x, panels, bias=None, n_threads=1):
    """x @ W + bias, by so many threads."""
    packed = cpu_weights._laid_out([panels], [bias])
    out = np.full((len(x), panels.width * len(panels.panels)), np.nan, np.float32)
    place, shared = barrier.meeting_place(), room(n_threads)
    barrier.open_place(place)

    def work(worker):
        arrivals = np.zeros(1, np.int64)
        team = Team(worker, n_threads, place.ctypes.data, arrivals)
        product(out, x, packed.matrices, packed.biases, shared, team)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(1, n_threads)]
    for thread in threads:
        thread.start()
    work(0)
    for thread in threads:
        thread.join()
    return out


def numbers_near(x):
    """The bfloat16 numbers nearest to x."""
    numbers = np.empty(x.shape, np.uint16)
    round_rows(numbers, x)
    return (numbers.astype(np.uint32) << 16).view(np.float32)


def some_blocks(kind, N, K, rng):
    """Rows of blocks as files hold them, and the weight (K, N) that they mean."""
    shape = N, K // BLOCK, BLOCK
    scales, least = (rng.normal(size=(N, K // BLOCK, 1)).astype(np.float16) for _ in range(2))
    whole = rng.integers(0, 1 << kind.n_bits, shape).astype(np.uint8)
    values = scales.astype(float) * (whole.astype(float) - kind.zero) + (least if kind.has_least else 0.0)
    head = [scales.view(np.uint8)] + [least.view(np.uint8)] * kind.has_least
    body = whole ^ 128 if kind.n_bits == 8 else whole[..., :16] | (whole[..., 16:] << 4)
    return Blocks(kind.name, np.concatenate([*head, body], 2).reshape(N, -1)), values.reshape(N, K).T


def int8(weight):
    return cpu_weights._int8(weight, cpu_weights._bfloat16)


EVERY = {"float32": cpu_weights._float32, "bfloat16": cpu_weights._bfloat16, "int8": int8}
if machine.AMX != "none":
    EVERY["tiles"] = cpu_weights._tiles


SIZES = [(1, 32, 1), (2, 64, 70), (7, 192, 33), (33, 96, 130)]


@pytest.mark.parametrize("kind", [kind for kind in EVERY if kind != "int8"])
@pytest.mark.parametrize(("R", "K", "N"), [*SIZES, (6, 65, 31)])
def test_a_product_is_exact_to_the_roundings_of_its_sums(R, K, N, kind, rng):
    x, weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((R, K), (K, N), N))
    out = multiplied(x, EVERY[kind](weight), bias)
    W = weight if kind == "float32" else numbers_near(weight)
    seen = numbers_near(x) if kind == "tiles" else x
    seen, W = seen.astype(float), W.astype(float)
    error = np.abs(out[:, :N] - (seen @ W + bias))
    assert np.all(error <= (K + 2) * 2.0**-24 * (np.abs(seen) @ np.abs(W) + np.abs(bias)))
    assert not out[:, N:].any()


@pytest.mark.parametrize("kind", [Q8_0, Q4_0, Q4_1], ids=lambda kind: kind.name)
@pytest.mark.parametrize(("R", "K", "N"), SIZES)
def test_a_product_with_blocks_is_off_by_half_a_unit_of_what_they_meet(R, K, N, kind, rng):
    x = rng.normal(size=(R, K)).astype(np.float32)
    x[0, :BLOCK] = 0.0
    blocks, weight = some_blocks(kind, N, K, rng)
    out = multiplied(x, cpu_weights._of_blocks(blocks))[:, :N]
    units = np.abs(x).reshape(R, -1, BLOCK).max(2, keepdims=True).astype(float) / 127
    seen = (units * np.rint(x.reshape(R, -1, BLOCK) / np.where(units > 0, units, 1))).reshape(R, K)
    near = np.abs(seen) @ np.abs(weight)
    np.testing.assert_array_less(np.abs(out - seen @ weight), 1e-5 * near.max() + 1e-30)  # float32's sums
    half = np.repeat(units, BLOCK, 2).reshape(R, K) / 2
    assert np.all(np.abs(out - x.astype(float) @ weight) <= 1.001 * half @ np.abs(weight) + 1e-5 * near.max())


def test_eight_bits_of_a_weight_are_off_by_half_a_unit(rng):
    weight = rng.normal(size=(64, 5)).astype(np.float32)
    weight[:32, 2] = 0.0
    rows = block_panels.quantized(weight).reshape(5, 2, 34)
    scales = np.ascontiguousarray(rows[..., :2]).view(np.float16).astype(float)
    found = (scales * rows[..., 2:].view(np.int8)).reshape(5, 64).T
    largest = np.repeat(np.abs(weight.reshape(2, 32, 5)).max(1, keepdims=True), 32, 1).reshape(64, 5)
    assert np.all(np.abs(found - weight) <= largest * (1 / 254 + 2.0**-11))  # and its scale's rounding


@pytest.mark.parametrize("pack", EVERY.values(), ids=EVERY)
def test_a_row_has_the_same_bits_whatever_rows_and_threads_are_beside_it(pack, rng):
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((35, 64), (64, 200)))
    panels = pack(weight)
    together = multiplied(x, panels)
    np.testing.assert_array_equal(multiplied(x, panels, n_threads=2), together)
    for row in (0, 6, 16, 34):
        np.testing.assert_array_equal(multiplied(x[row : row + 1], panels)[0], together[row])
        np.testing.assert_array_equal(multiplied(x[row : row + 1], panels, n_threads=3)[0], together[row])


@pytest.mark.parametrize("pack", EVERY.values(), ids=EVERY)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_none_reaches_its_row_and_no_other(pack, number, rng):
    x, weight = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 64), (64, 8)))
    x[1, 4] = number
    out = multiplied(x, pack(weight))[:, :8]
    assert not np.isfinite(out[1]).any()
    assert np.isfinite(out[[0, 2]]).all()


def test_a_thread_whose_others_fail_is_let_through():
    place = barrier.meeting_place()
    barrier.open_place(place)
    team = Team(0, 2, place.ctypes.data, np.zeros(1, np.int64))
    x, panels = np.ones((1, 32), np.float32), cpu_weights._float32(np.ones((32, 1), np.float32))
    packed = cpu_weights._laid_out([panels], [None])
    arguments = np.empty((1, 64), np.float32), x, packed.matrices, packed.biases, room(2), team
    waiting = threading.Thread(target=product, args=arguments)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    barrier.give_up(place)
    waiting.join(10)
    assert not waiting.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="guard pages are made with mprotect")
def test_reading_a_text_stays_in_its_arrays_and_reads_nothing_that_is_not_written():
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.kernels.guarded_writing"],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:] or f"killed by signal {-result.returncode}"
    assert result.stdout.endswith("whole\n")
