"""A model's matrices as the writing kernels read them: each of its kind, all in one block of memory.

A matrix of a quantized file is multiplied as the file holds it (`block_panels`). What has no kernel, and what
`int8` asks for, becomes Q8_0: 8 bits, and a float16 scale for 32 numbers of a column. Blocks are 32 rows: a
matrix with another number of rows becomes bfloat16 instead.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from handgrad import parameters as p
from handgrad import tree
from handgrad.kernels import machine
from handgrad.kernels.arena import ALIGNMENT, in_large_pages, round_up
from handgrad.kernels.writing import arrays as kinds
from handgrad.kernels.writing import block_panels, tiles, vectors
from handgrad.kernels.writing.arrays import MATRIX, NONE
from handgrad.kernels.writing.blocks import BLOCK
from handgrad.model.config import ModelConfig

PRECISIONS = "auto", "float32", "bfloat16", "int8", "blocks"
LARGE = 32 << 20
"""Weights from which "auto" takes bfloat16: those of smaller models stay in caches, and cost little."""
SMALL = 2 << 20
"""Weights up to which bfloat16 is unpacked in registers, tiles or not: out of a near cache that is faster."""
IN_BLOCKS = {"Q8_0": kinds.Q8_0, "Q4_0": kinds.Q4_0, "Q4_1": kinds.Q4_1}
Blocks = Mapping[str, p.Blocks] | None


class Packed(NamedTuple):
    """All matrices."""

    matrices: np.ndarray
    """Of dtype `MATRIX`, in the order of `writing.arrays`."""
    memory: np.ndarray
    """Their panels: addresses in `matrices` point into it."""
    biases: np.ndarray
    n_bytes: int
    """Read for one token."""


class Panels(NamedTuple):
    """One matrix."""

    kind: int
    panels: np.ndarray
    """(n_panels, ...), of any dtype."""
    width: int
    n_rows: int
    n_columns: int


def chosen(config: ModelConfig, precision: str, n_weights: int, blocks: Blocks) -> str:
    """What "auto" takes: blocks where there are some, bfloat16 for large models on tiles, else float32."""
    if precision == "blocks" and not blocks:
        return "int8"
    if precision != "auto":
        return precision
    if blocks:
        return "blocks"
    return "bfloat16" if n_weights >= LARGE and machine.AMX == "hardware" else "float32"


def pack(weights: p.Transformer, precision: str, blocks: Blocks) -> Packed:
    """All matrices of a model, in `precision`, which is none of "auto"."""
    of_float = _packer(precision, kind_of_halves(weights))
    packed: list[Panels | None] = []
    biases: list[np.ndarray | None] = []
    for name, linear in _linears(weights):
        found = (blocks or {}).get(name) if precision == "blocks" else None
        if linear is None:
            packed.append(None)
        elif found is not None and found.kind in IN_BLOCKS:
            packed.append(_of_blocks(found))
        else:
            packed.append(of_float(np.asarray(linear.weight, np.float32)))
        biases.append(None if linear is None else linear.bias)
    return _laid_out(packed, biases)


def _linears(weights: p.Transformer) -> Iterator[tuple[str, p.Linear | None]]:
    """The matrices in their order, with the names of their weights."""
    for i, block in enumerate(weights.blocks):
        for part, names in (("attention", "query key value output"), ("feed_forward", "gate up down")):
            for name in names.split():
                linear = getattr(getattr(block, part), name)
                yield f"blocks.{i}.{part}.{name}.weight", linear
    if weights.head is None:
        yield "embedding", p.Linear(weights.embedding.T)
    else:
        yield "head.weight", weights.head


def kind_of_halves(weights: p.Transformer) -> int:
    """How a model's bfloat16 numbers lie: on tiles, or for vectors."""
    return kinds.TILES if machine.AMX != "none" and tree.size(weights) > SMALL else kinds.BFLOAT16


def _packer(precision: str, kind: int) -> Callable[[np.ndarray], Panels]:
    if precision == "float32":
        return _float32
    of_halves = _tiles if kind == kinds.TILES else _bfloat16
    return of_halves if precision == "bfloat16" else lambda weight: _int8(weight, of_halves)


def _float32(weight: np.ndarray) -> Panels:
    return Panels(kinds.FLOAT32, vectors.packed(weight, np.float32), vectors.WIDTH, *weight.shape)


def _bfloat16(weight: np.ndarray) -> Panels:
    return Panels(kinds.BFLOAT16, vectors.packed(weight, np.uint16), vectors.WIDTH, *weight.shape)


def _tiles(weight: np.ndarray) -> Panels:
    return Panels(kinds.TILES, tiles.packed(weight), tiles.SIDE, *weight.shape)


def _int8(weight: np.ndarray, of_halves: Callable[[np.ndarray], Panels]) -> Panels:
    if len(weight) % BLOCK:
        return of_halves(weight)
    return _of_blocks(p.Blocks("Q8_0", block_panels.quantized(weight)))


def _of_blocks(blocks: p.Blocks) -> Panels:
    kind = block_panels.KINDS[blocks.kind]
    panels = block_panels.packed(kind, blocks.data)
    return Panels(IN_BLOCKS[blocks.kind], panels, machine.LANES, panels.shape[1] * BLOCK, len(blocks.data))


def _laid_out(packed: list[Panels | None], biases: list[np.ndarray | None]) -> Packed:
    """All in one block, so that large pages hold it, each at an aligned address."""
    sizes = [0 if each is None else round_up(each.panels.nbytes, ALIGNMENT) for each in packed]
    memory = in_large_pages(max(1, sum(sizes)))
    places = [0, *itertools.accumulate(sizes)]
    lengths = [0, *itertools.accumulate(0 if bias is None else len(bias) for bias in biases)]
    matrices = np.zeros(len(packed), MATRIX)
    matrices["kind"] = matrices["bias"] = NONE
    for i, (each, bias) in enumerate(zip(packed, biases, strict=True)):
        if each is not None:
            memory[places[i] : places[i] + each.panels.nbytes] = each.panels.reshape(-1).view(np.uint8)
            n_panels, at = len(each.panels), memory.ctypes.data + places[i]
            sizes_of_panels = each.panels.nbytes // n_panels, each.width, n_panels
            begin = NONE if bias is None else lengths[i]
            matrices[i] = (each.kind, at, *sizes_of_panels, each.n_rows, each.n_columns, begin)
    flat = [np.asarray(bias, np.float32) for bias in biases if bias is not None]
    together = np.concatenate(flat) if flat else np.zeros(0, np.float32)
    return Packed(matrices, memory, together, sum(sizes))
