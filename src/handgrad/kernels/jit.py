"""How kernels are compiled: without Python's lock, each self-contained, kept on disk.

`kernel` is what Python calls, `inner` what kernels call, and `reduction` an inner function whose sums may be
reordered, so that they run in vectors. `shared` is what both call: sizes and places. No flag assumes that
numbers are finite: a NaN must reach the loss.

Inner functions are always inlined. A function that is not becomes a weak symbol in every kernel that calls
it: the process keeps whichever was compiled or loaded first, and two compilations of one sum add its numbers
in different orders. So a process that compiled the kernels computed other bits than one that loaded them.
"""

from collections.abc import Callable
from typing import Any

from numba import config, njit
from numba.core.dispatcher import Dispatcher
from numba.extending import register_jitable

from handgrad.errors import UserError
from handgrad.kernels import cache

FLAGS = {"contract", "nsz", "arcp"}

if config.DISABLE_JIT:
    raise UserError(
        "The kernels need Numba's compiler, which NUMBA_DISABLE_JIT turns off. Unset NUMBA_DISABLE_JIT."
    )

_compiled = njit(nogil=True, error_model="numpy", fastmath=FLAGS, boundscheck=False)
inner = njit(nogil=True, error_model="numpy", fastmath=FLAGS, boundscheck=False, forceinline=True)
reduction = njit(
    nogil=True, error_model="numpy", fastmath={*FLAGS, "reassoc"}, boundscheck=False, forceinline=True
)
shared = register_jitable(nogil=True, error_model="numpy", forceinline=True)


def kernel(function: Callable[..., Any]) -> Any:
    """A function that Python calls, compiled at its first call; its machine code is kept on disk."""
    dispatcher = _compiled(function)
    cache.keep(dispatcher)
    return dispatcher


def is_kernel(value: object) -> bool:
    """Whether `value` is what `kernel` returns."""
    return isinstance(value, Dispatcher) and not value.targetoptions.get("forceinline", False)
