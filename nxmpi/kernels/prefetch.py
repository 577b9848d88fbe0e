"""Asking for memory ahead of its use."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WRITE, _ALL_CACHES, _DATA = 1, 3, 1
"""What LLVM's prefetch is told: https://llvm.org/docs/LangRef.html#llvm-prefetch-intrinsic."""


def _prefetch(_: Any, array: Any, place: Any) -> Any:
    """Ask for the cache line of an element of a 1-D array, and go on without it.

    For compiled code alone: memory that is asked for together is not waited for in turn.
    """
    tools: Any = cgutils

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        made = context.make_array(kind)(context, builder, arguments[0])
        element = tools.get_item_pointer(context, builder, kind, made, [arguments[1]])
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        function = tools.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte, word, word, word]),
            "llvm.prefetch.p0i8",
        )  # fmt: skip
        hints = [word(hint) for hint in (_WRITE, _ALL_CACHES, _DATA)]
        builder.call(function, [builder.bitcast(element, byte), *hints])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


prefetch: Any = intrinsic(_prefetch)
