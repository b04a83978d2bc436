"""LLVM functions of their own in a kernel's module: called and never inlined."""

from collections.abc import Callable

from llvmlite import ir


def own_function(module: ir.Module, name: str, n_arguments: int, emit: Callable[..., None]) -> ir.Function:
    """The function `name` of so many 64-bit integers, whose instructions `emit(builder, *arguments)` writes.

    Inlined, its accumulators and addresses compete for registers with the loops around it, which costs 4 % of
    a product (docs/performance.md). Internal linkage keeps it out of other kernels' modules.
    """
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * n_arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    emit(builder, *function.args)
    builder.ret_void()
    return function
