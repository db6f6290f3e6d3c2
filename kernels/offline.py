"""Compiles a kernel for a GPU that need not be there, and tells what the compiler alone knows: registers and spills."""

import dataclasses
import inspect
import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.compiler import ASTSource

_NUMBERS = {"int32": "i32", "int64": "i64", "i32": "i32", "i64": "i64", "float64": "fp64", "fp64": "fp64"}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """registers, stack_bytes, spill_bytes (stores and loads together): a thread's. shared_bytes: a program's."""

    registers: int
    shared_bytes: int
    stack_bytes: int
    spill_bytes: int
    ptx: str


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
            specialize may lie anywhere), or None where None is passed.
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
    target = GPUTarget("cuda", capability, 32)
    compiled = triton.compile(
        ASTSource(kernel, signature, constexprs=constexprs, attrs=attributes), target=target, options=options
    )
    registers, stack_bytes, spill_bytes = _assemble(compiled.asm["ptx"], capability)
    return Compiled(registers, compiled.metadata.shared, stack_bytes, spill_bytes, compiled.asm["ptx"])


def _assemble(ptx: str, capability: int) -> tuple[int, int, int]:
    """Registers, bytes of stack and spilled bytes that the assembler which ships with Triton reports."""
    assembler = get_ptxas(*([capability] if inspect.signature(get_ptxas).parameters else [])).path  # Triton 3.5: none
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE).group(1)
    with tempfile.TemporaryDirectory() as work:
        source = Path(work) / "kernel.ptx"
        source.write_text(ptx, encoding="utf-8")
        command = [assembler, "-v", f"--gpu-name={target}", source, "-o", Path(work) / "kernel.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = int(re.search(r"Used (\d+) registers", report).group(1))
    stack_bytes = int(re.search(r"(\d+) bytes stack frame", report).group(1))
    return registers, stack_bytes, sum(int(count) for count in re.findall(r"(\d+) bytes spill", report))
