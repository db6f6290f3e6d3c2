"""Which cases a run measures."""

import importlib
from collections.abc import Collection

from . import OPS
from .case import BOTH, FORWARD, Case
from .encoder import EncoderBench
from .op_bench import OpBench

SIZES = ("small", "medium-small", "base")
SHAPES = {"cpu": ((8, 128), (2, 512), (1, 128)), "cuda": ((32, 512), (128, 128))}  # (B, T)
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}


def bench_of(case: Case) -> OpBench | EncoderBench:
    """What builds the peers of a case."""
    return importlib.import_module(f"bertkernels.bench.{case.op}").BENCH


def select_cases(
    ops: Collection[str] = OPS, device: str = "cpu", quick: bool = False, compiled: bool = True
) -> list[Case]:
    """The cases of a run.

    Args:
        ops: names from `bertkernels.bench.OPS`.
        device: "cpu" (fp32) or "cuda" (bf16).
        quick: one shape of one size for each op, nothing compiled.
        compiled: with peers that go through torch.compile: in forward mode for all shapes (on a GPU for the first), in
            forward+backward, which takes several times as long to compile, for the first.
    """
    first, *others = SHAPES[device]
    cases = []
    for op in ops:
        sizes = SIZES if not quick else ("small",) if op == "encoder" else ("base",)
        for size in sizes:
            for batch, tokens in [first] if quick else [first, *others]:
                for mode in (FORWARD, BOTH):
                    compile_this = (batch, tokens) == first or (mode == FORWARD and device == "cpu")
                    compile_this = compile_this and compiled and not quick
                    cases.append(Case(op, size, batch, tokens, mode, DTYPES[device], device, compile_this))
    return cases
