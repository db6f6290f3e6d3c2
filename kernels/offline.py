"""Compiles a kernel for a GPU that need not be there."""

import dataclasses
from collections.abc import Mapping

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

_NUMBERS = {"int32": "i32", "int64": "i64", "i32": "i32", "i64": "i64", "float64": "fp64", "fp64": "fp64"}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """cubin: what a GPU runs. shared_bytes; columns of tensor memory (Blackwell): a program's, set by the launch."""

    cubin: bytes
    shared_bytes: int
    columns: int


def compile_kernel(
    kernel: triton.JITFunction,
    capability: int,
    pointers: Mapping[str, tl.dtype | None],
    constants: Mapping[str, object],
) -> Compiled:
    """Compiles `kernel` as a launch would.

    Args:
        capability: compute capability times ten: 80, 90, 100.
        pointers: dtype of each tensor argument, 16-byte aligned as fresh tensors are (those that the kernel does not
            specialize may lie anywhere), or None where None is passed. Others may be among them.
        constants: the constexpr arguments and launch options (num_warps, …); sizes and strides are the other arguments.
    """
    signature, constexprs, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        name = parameter.name
        if parameter.is_constexpr or pointers.get(name, ...) is None:
            signature[name] = "constexpr"
            constexprs[name] = constants[name] if parameter.is_constexpr else None
        elif name in pointers:
            signature[name] = f"*{_NUMBERS.get(pointers[name].name, pointers[name].name)}"
            if not parameter.do_not_specialize:
                attributes[(index,)] = [["tt.divisibility", 16]]
        else:
            signature[name] = _NUMBERS[parameter.annotation]
    options = {name: value for name, value in constants.items() if name not in signature}
    compiled = triton.compile(
        ASTSource(kernel, signature, constexprs=constexprs, attrs=attributes),
        target=GPUTarget("cuda", capability, 32),
        options=options,
    )
    columns = getattr(compiled.metadata, "tmem_size", None) or 0
    return Compiled(compiled.asm["cubin"], compiled.metadata.shared, columns)
