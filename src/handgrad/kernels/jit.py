"""How kernels are compiled: without Python's lock, each self-contained, kept on disk.

`kernel` is what Python calls, `inner` what kernels call, and `reduction` an inner function whose sums may be
reordered, so that they run in vectors. `shared` is what both call: sizes and places. `apart` is a function of
one kernel that it calls from several places: never inlined, it is compiled once, and any call computes the
same bits. `view` is an inner function that returns an array, a part of one that it is given. No flag assumes
that numbers are finite: a NaN must reach the loss.

Inner functions are always inlined. A function that is not becomes a weak symbol in every kernel that calls
it: the process keeps whichever was compiled or loaded first, and two compilations of one sum add its numbers
in different orders. So a process that compiled the kernels computed other bits than one that loaded them.

Loops run in vectors as long as the processor has them. LLVM takes half of that on most processors with
AVX-512, out of care for the clock of the first ones; docs/performance.md says what that costs.
"""

from collections.abc import Callable
from typing import Any

from numba import config, njit
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.lowering import Lower
from numba.core.typed_passes import NativeLowering
from numba.extending import register_jitable

from handgrad.errors import UserError
from handgrad.kernels import cache
from handgrad.kernels.machine import LANES

FLAGS = {"contract", "nsz", "arcp"}
VECTOR_BITS = 32 * LANES

if config.DISABLE_JIT:
    raise UserError(
        "The kernels need Numba's compiler, which NUMBA_DISABLE_JIT turns off. Unset NUMBA_DISABLE_JIT."
    )


class _Lower(Lower):
    attributes: tuple[str, ...] = (f'"prefer-vector-width"="{VECTOR_BITS}"',)

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        for attribute in self.attributes:
            set.add(self.function.attributes, attribute)  # its own `add` knows none with a value


class _LowerApart(_Lower):
    attributes = (*_Lower.attributes, "noinline")


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerToWholeVectors(NativeLowering):
    _name = "lower_to_whole_vectors"
    lowering_class = _Lower


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerToWholeVectorsApart(NativeLowering):
    _name = "lower_to_whole_vectors_apart"
    lowering_class = _LowerApart


class _Compiler(CompilerBase):
    """Numba's own pipeline, whose functions ask LLVM for vectors of `VECTOR_BITS`."""

    lowering: type = _LowerToWholeVectors

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.add_pass_after(self.lowering, NativeLowering)
        pipeline.passes = [entry for entry in pipeline.passes if entry[0] is not NativeLowering]
        pipeline.finalize()
        return [pipeline]


class _CompilerApart(_Compiler):
    lowering = _LowerToWholeVectorsApart


COMMON: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False, "_nrt": False}
"""`_nrt` is Numba's memory. Kernels make no arrays, and counting the references to those that they are given
took half the time of writing with a small model."""

_compiled = njit(**COMMON, fastmath=FLAGS, pipeline_class=_Compiler)
apart = njit(**COMMON, fastmath=FLAGS, pipeline_class=_CompilerApart)
inner = njit(**COMMON, fastmath=FLAGS, forceinline=True)
view = njit(**{**COMMON, "_nrt": True}, fastmath=FLAGS, forceinline=True)
reduction = njit(**COMMON, fastmath={*FLAGS, "reassoc"}, forceinline=True)
shared = register_jitable(nogil=True, error_model="numpy", forceinline=True)


def kernel(function: Callable[..., Any]) -> Any:
    """A function that Python calls, compiled at its first call; its machine code is kept on disk."""
    dispatcher = _compiled(function)
    cache.keep(dispatcher)
    return dispatcher


def is_kernel(value: object) -> bool:
    """Whether `value` is what `kernel` returns."""
    return isinstance(value, Dispatcher) and not value.targetoptions.get("forceinline", False)
