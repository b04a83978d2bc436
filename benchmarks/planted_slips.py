"""How small a slip the proof catches: one wrong element in the 256 x 256 weight gradient of `linear`.

    python benchmarks/planted_slips.py           # two minutes

Each draw has its own inputs and directions, and a random element off by a relative error.
"""

import sys
from types import SimpleNamespace

import numpy as np

from handgrad import gradcheck, ops

WIDTH, ROWS = 256, 32
SLIPS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def caught(slip: float, seed: int) -> bool:
    """Whether the proof fails for a backward with one element of `weight`'s gradient off by `slip`."""
    rng = np.random.default_rng(seed)
    element = tuple(rng.integers(WIDTH, size=2))

    def backward(dy, saved):
        dx, dweight, dbias = ops.linear.backward(dy, saved)
        dweight[element] *= 1 + slip
        return dx, dweight, dbias

    inputs = {"x": rng.normal(size=(ROWS, WIDTH)), "weight": rng.normal(size=(WIDTH, WIDTH))}
    op = SimpleNamespace(forward=ops.linear.forward, backward=backward)
    verdicts = {proof.input: proof.passed for proof in gradcheck.check(op, inputs, rng)}
    return verdicts["x"] and not verdicts["weight"]


def main(n_draws: int = 200) -> None:
    for slip in SLIPS:
        n_caught = sum(caught(slip, seed) for seed in range(n_draws))
        print(f"off by {slip:.0e}: {n_caught} of {n_draws} caught", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
