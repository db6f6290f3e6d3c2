"""Which cases a run measures."""

import importlib
from collections.abc import Collection

from . import OPS
from .case import BOTH, FORWARD, Case
from .encoder import EncoderBench
from .op_bench import OpBench
from .padded_batch import LENGTHS, PaddedBatchBench, padded_case

SIZES = ("small", "medium-small", "base")
MAIN_SIZES = ("small", "base")
SHAPES = {"cpu": ((8, 128), (2, 512), (1, 128)), "cuda": ((32, 512), (128, 128))}  # (B, T)
MAIN_TEXT = "SST-2"
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}


def bench_of(case: Case) -> OpBench | EncoderBench | PaddedBatchBench:
    """What builds the peers of a case."""
    return importlib.import_module(f"bertkernels.bench.{case.op}").BENCH


def select_cases(
    ops: Collection[str] = OPS, device: str = "cpu", quick: bool = False, compiled: bool = True
) -> list[Case]:
    """The cases of a run.

    Args:
        ops: names from `bertkernels.bench.OPS`.
        device: "cpu" (fp32) or "cuda" (bf16).
        quick: one shape of one size for each op, nothing compiled, no memory.
        compiled: with peers that go through torch.compile, as far as time allows: in forward mode on the CPU for all
            shapes; in forward+backward and on a GPU for the first shape of small and base.
    """
    first, *others = SHAPES[device]
    cases = []
    for op in ops:
        if op == "padded_batch":
            cases += _padded_cases(device, quick, compiled)
            continue
        sizes = SIZES if not quick else ("small",) if op == "encoder" else ("base",)
        for size in sizes:
            for batch, tokens in [first] if quick else [first, *others]:
                for mode in (FORWARD, BOTH):
                    is_main = not quick and (batch, tokens) == first and size in MAIN_SIZES
                    compile_this = compiled and not quick and (is_main or (mode == FORWARD and device == "cpu"))
                    memory = device == "cpu" and is_main
                    kind = (DTYPES[device], device)
                    cases.append(Case(op, size, batch, tokens, mode, *kind, compile_this, memory=memory))
    return cases


def _padded_cases(device: str, quick: bool, compiled: bool) -> list[Case]:
    """Training of base takes minutes a batch on a CPU: there it is measured on one task."""
    texts, sizes = ((MAIN_TEXT,), ("small",)) if quick else (tuple(LENGTHS), MAIN_SIZES)
    options = {"dtype": DTYPES[device], "device": device}
    return [
        padded_case(
            text,
            size,
            mode,
            compiled=compiled and not quick and mode == FORWARD,
            memory=device == "cpu" and not quick and text == MAIN_TEXT,
            **options,
        )
        for size in sizes
        for text in texts
        for mode in (FORWARD, BOTH)
        if mode == FORWARD or size != "base" or device != "cpu" or text == MAIN_TEXT
    ]
