"""What twins compute with: weights, and memory for arrays."""

from dataclasses import dataclass, field

import numpy as np

from handgrad.kernels import rounding
from handgrad.kernels.arena import Arena, aligned
from handgrad.kernels.precision import FLOAT32, Kernels

NONE = np.empty(0, np.float32)
"""Stands for an array that is not there."""


@dataclass
class Weight:
    """A weight as the kernels use it.

    Its gradient is added into. At the beginning of a step it counts as zero and is not written: the first
    product overwrites it, which saves a pass over all weights.
    """

    value: np.ndarray
    sums: np.ndarray
    """What `gradient` is kept in."""
    panels: np.ndarray
    """A matrix, packed for x @ W."""
    transposed: np.ndarray
    """And for dy @ W^T."""
    is_zero: bool = False
    """Whether the gradient counts as zero, whatever `sums` hold."""

    @property
    def gradient(self) -> np.ndarray:
        """`sums`, written with zeros if need be."""
        self.settle()
        return self.sums

    def settle(self) -> None:
        """Write zeros where the gradient counts as zero."""
        if self.is_zero:
            self.sums[...] = 0.0
            self.is_zero = False


@dataclass
class Workspace:
    """Where the twins of one worker compute."""

    arena: Arena
    """Of activations, which live until the batch is done."""
    scratch: np.ndarray
    kernels: Kernels = FLOAT32
    passing: Arena = field(default_factory=lambda: Arena(0))
    """Of what lives within one forward or one backward of a twin: each begins with a reset."""
    entering: Arena = field(default_factory=lambda: Arena(0))
    """Of the gradient, dropout undone, that enters a branch: there is one at a time."""

    def like(self, x: np.ndarray) -> np.ndarray:
        """A new array of the shape of x."""
        return self.arena.take(*x.shape)

    @property
    def rounds(self) -> bool:
        """Whether an operand is another array than the activation."""
        return self.kernels.products.OPERAND is not np.float32

    @property
    def rounds_heads(self) -> bool:
        """Whether attention reads and writes operands too; else they are float32."""
        return self.kernels.attention.OPERAND is not np.float32

    def operand(self, x: np.ndarray) -> np.ndarray:
        """x as products read it: rounded, or itself where they multiply float32."""
        return self._rounded(x, self.arena)

    def unrounded(self, *shape: int) -> np.ndarray:
        """Room for an activation of which only the operand is kept: the arena, if they are one array."""
        return (self.passing if self.rounds else self.arena).take(*shape)

    def normed(self, x: np.ndarray, before_products: bool) -> np.ndarray:
        """Room for what a norm makes of x, of which only the operand is kept `before_products`."""
        if not before_products:
            return self.like(x)
        self.passing.reset()
        return self.unrounded(*x.shape)

    def head_operand(self, x: np.ndarray) -> np.ndarray:
        """Queries, keys or values as attention reads them."""
        return self.operand(x) if self.rounds_heads else rows(x)

    def unrounded_heads(self, *shape: int) -> np.ndarray:
        """Room for queries, keys or values: the arena, if attention reads these themselves."""
        return (self.passing if self.rounds_heads else self.arena).take(*shape)

    def attended(self, q: np.ndarray) -> np.ndarray:
        """Room for what attention makes of q: an operand if it writes one, else what becomes one."""
        return self.new_operand(q, self.arena) if self.rounds_heads else rows(self.unrounded(*q.shape))

    def passing_operand(self, dx: np.ndarray) -> np.ndarray:
        """The operand of a gradient, in `passing`."""
        return self._rounded(dx, self.passing)

    def slopes(self, x: np.ndarray) -> np.ndarray:
        """Room for an activation's derivatives at x: x itself, or bfloat16 where operands are rounded.

        They are read number by number; a scaled integer would need its scale.
        """
        return self.arena.take(*rows(x).shape, dtype=np.uint16) if self.rounds else rows(x)

    def passing_operand_or(self, x: np.ndarray) -> np.ndarray:
        """Room in `passing` for an operand like x that is x itself where operands are float32."""
        return self.place(x, self.passing)

    def new_operand(self, x: np.ndarray, arena: Arena) -> np.ndarray:
        """Room for the operand of an activation like x."""
        products = self.kernels.products
        return arena.take(*products.operand_shape(*rows(x).shape), dtype=products.OPERAND)

    def place(self, x: np.ndarray, arena: Arena) -> np.ndarray:
        """Room for the operand of x; x itself where products multiply float32."""
        return self.new_operand(x, arena) if self.rounds else rows(x)

    def _rounded(self, x: np.ndarray, arena: Arena) -> np.ndarray:
        return self.round(x, self.place(x, arena))

    def round(self, x: np.ndarray, operand: np.ndarray) -> np.ndarray:
        """x as products read it, in the place of an operand; or x itself where they multiply float32."""
        if not self.rounds:
            return rows(x)
        rounding.round_rows(operand, rows(x))
        return operand

    def need(self, n: int) -> np.ndarray:
        """Scratch of at least n numbers."""
        if self.scratch.size < n:
            self.scratch = aligned(n)
        return self.scratch


def rows(x: np.ndarray) -> np.ndarray:
    """All leading axes as one."""
    return x.reshape(-1, x.shape[-1])


def value_of(weight: Weight | None) -> np.ndarray:
    """Its value; `NONE` where there is no weight."""
    return NONE if weight is None else weight.value


def gradient_of(weight: Weight | None) -> np.ndarray:
    """Its gradient; `NONE` where there is no weight."""
    return NONE if weight is None else weight.gradient
