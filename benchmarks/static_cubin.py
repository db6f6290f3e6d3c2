"""Reads compiled GPU code (a cubin): what each of its kernels takes, and which instructions it is made of.

Everything is counted where it stands in the code: an instruction in a loop counts once, however often it runs.
"""

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*(?:\.\w+)*)", re.MULTILINE)
_BYTES = {"256": 32, "128": 16, "64": 8, "U16": 2, "S16": 2, "U8": 1, "S8": 1}  # modifiers; 4 without


class Instructions(NamedTuple):
    """How many instructions of each kind a kernel has.

    tensor: on tensor cores, by name: HMMA (a warp's), HGMMA (Hopper's, four warps'), UTCHMMA (Blackwell's), DMMA, …
    loads, stores: of global memory, by bytes a thread.
    copies: from global to shared memory past the registers: "LDGSTS.16" by bytes a thread; UTMALDG, UBLKCP (TMA).
    atomics: on global memory.
    local_bytes: that a thread stores to memory of its own, and loads from there, together: spilled registers.
    """

    tensor: Mapping[str, int]
    loads: Mapping[int, int]
    stores: Mapping[int, int]
    copies: Mapping[str, int]
    atomics: int
    local_bytes: int


class Kernel(NamedTuple):
    """registers, stack_bytes: a thread's. threads: of a block, at most if the code leaves that open."""

    threads: int
    registers: int
    stack_bytes: int
    instructions: Instructions


def find_cuobjdump() -> str | None:
    """The one that ships with Triton, else one on PATH or in CUDA's usual place; it needs nvdisasm beside it."""
    triton = importlib.util.find_spec("triton")
    beside_triton = [Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"] if triton and triton.origin else []
    tried = (*beside_triton, "cuobjdump", "/usr/local/cuda/bin/cuobjdump")
    return next((found for found in map(shutil.which, map(str, tried)) if found), None)


def read(cubin: bytes) -> dict[str, Kernel]:
    """The kernels of a cubin by their mangled names.

    Raises:
        FileNotFoundError: there is no cuobjdump.
    """
    cuobjdump = find_cuobjdump()
    if cuobjdump is None:
        raise FileNotFoundError("cuobjdump not found: install Triton or the CUDA toolkit")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        sizes, elf, code = (
            subprocess.run([cuobjdump, option, file.name], capture_output=True, text=True, check=True).stdout
            for option in ("-res-usage", "-elf", "-sass")
        )
    threads, instructions = parse_threads(elf), parse_instructions(code)
    return {
        name: Kernel(threads[name], *numbers, instructions[name]) for name, numbers in parse_resources(sizes).items()
    }


def parse_resources(report: str) -> dict[str, tuple[int, int]]:
    """Registers and bytes of stack of each kernel in what `cuobjdump -res-usage` prints."""
    found = re.findall(r"^ *Function (\S+):\n +REG:(\d+) STACK:(\d+) ", report, re.MULTILINE)
    return {name: (int(registers), int(stack)) for name, registers, stack in found}


def parse_threads(report: str) -> dict[str, int]:
    """Threads a block, which the code requires or is bound to, of each kernel in what `cuobjdump -elf` prints."""
    limit = re.compile(r"EIATTR_(?:REQNTID|MAX_THREADS)\n.*\n\tValue:\t(\w+) (\w+) (\w+)")
    sections = re.split(r"^\.nv\.info\.(\S+)$", report, flags=re.MULTILINE)[1:]
    found = {}
    for name, attributes in zip(sections[::2], sections[1::2], strict=True):
        x, y, z = (int(size, 16) for size in limit.search(attributes).groups())
        found[name] = x * y * z
    return found


def parse_instructions(report: str) -> dict[str, Instructions]:
    """Of each kernel in what `cuobjdump -sass` prints."""
    functions = re.split(r"^\s*Function : (\S+)$", report, flags=re.MULTILINE)[1:]
    return {name: count(_INSTRUCTION.findall(code)) for name, code in zip(functions[::2], functions[1::2], strict=True)}


def count(instructions: Iterable[str]) -> Instructions:
    """Sorts instructions, such as "LDG.E.128", by kind."""
    tensor, loads, stores, copies = (Counter() for _ in range(4))
    atomics = local_bytes = 0
    for instruction in instructions:
        name, *modifiers = instruction.split(".")
        width = next((_BYTES[modifier] for modifier in modifiers if modifier in _BYTES), 4)
        # HFMA2.MMA is none of these: there MMA is no part of the name
        if name.endswith("MMA"):
            tensor[name] += 1
        elif name in ("LDG", "LD"):
            loads[width] += 1
        elif name in ("STG", "ST"):
            stores[width] += 1
        elif name == "LDGSTS":
            copies[f"LDGSTS.{width}"] += 1
        elif name.startswith(("UTMALDG", "UBLKCP")):
            copies[name] += 1
        elif name in ("ATOMG", "ATOM", "RED", "REDG"):
            atomics += 1
        elif name in ("LDL", "STL"):
            local_bytes += width
    by_width = ({width: counts[width] for width in sorted(counts, reverse=True)} for counts in (loads, stores))
    return Instructions(dict(sorted(tensor.items())), *by_width, dict(sorted(copies.items())), atomics, local_bytes)
