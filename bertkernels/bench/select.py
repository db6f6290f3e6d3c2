"""Which cases a run measures."""

import importlib
from collections.abc import Collection

from . import OPS
from .case import BOTH, FORWARD, GROWTH, MEMORY, Case
from .encoder import EncoderBench
from .op_bench import OpBench
from .padded_batch import LENGTHS, PaddedBatchBench, padded_case

SIZES = ("small", "medium-small", "base")
MAIN_SIZES = ("small", "base")
SHAPES = {"cpu": ((8, 128), (2, 512), (1, 128)), "cuda": ((32, 512), (128, 128))}  # (B, T)
MAIN_TEXT = "SST-2"
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
HALF = "bfloat16"  # in which encoders run on the CPU too
GROWN = ("light_conv", "depthwise_conv", "span_conv")  # whose time is measured up to MOST_TOKENS
MOST_TOKENS = 2**16
MEMORY_SHAPE = (8, 512)  # (B, T) of the training step whose memory alone is measured


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
        compiled: with peers that go through torch.compile, as far as time allows: for the first shape of small and
            base; in forward mode on the CPU for all shapes of convolutions, attention and encoders; and whole training
            steps on a GPU for all shapes of small and base.
    """
    first, *others = SHAPES[device]
    cases = []
    for op in ops:
        if op == "padded_batch":
            cases += _padded_cases(device, quick, compiled)
            continue
        sizes = SIZES if not quick else ("small",) if op == "encoder" else ("base",)
        shapes = [(size, shape) for size in sizes for shape in ([first] if quick else [first, *others])]
        if device == "cuda":  # time may be short there: what the short tables show first
            shapes.sort(key=lambda size_and_shape: size_and_shape[1] != first)
        for size, shape in shapes:
            for mode in (FORWARD, BOTH):
                is_main = not quick and shape == first and size in MAIN_SIZES
                compile_this = compiled and not quick and (is_main or _compiled_too(op, size, mode, device))
                kind = (DTYPES[device], device)
                memory, profile = device == "cpu" and is_main, not quick and _profiled(op, size, mode, device, is_main)
                cases.append(Case(op, size, *shape, mode, *kind, compile_this, memory=memory, profile=profile))
        if device == "cpu" and not quick:
            cases += _more_on_cpu(op)
    return cases


def _compiled_too(op: str, size: str, mode: str, device: str) -> bool:
    """Whether peers are compiled for other than the first shape."""
    if device == "cpu":
        return mode == FORWARD and op not in ("linear", "grouped_linear", "residual_norm", "dynamic_conv")
    return _is_main_step(op, size, mode)


def _profiled(op: str, size: str, mode: str, device: str, is_main: bool) -> bool:
    """Encoders that limits are about."""
    return op == "encoder" and (mode == FORWARD or is_main) if device == "cpu" else _is_main_step(op, size, mode)


def _is_main_step(op: str, size: str, mode: str) -> bool:
    return op == "encoder" and mode == BOTH and size in MAIN_SIZES


def _more_on_cpu(op: str) -> list[Case]:
    """Inference of encoders in half precision, memory of a long training step, and growth of convolutions."""
    if op == "encoder":
        half = [Case(op, size, *SHAPES["cpu"][0], FORWARD, HALF, profile=True) for size in SIZES]
        return [*half, Case(op, "base", *MEMORY_SHAPE, BOTH, record=MEMORY)]
    return [Case(op, "base", 1, MOST_TOKENS, FORWARD, record=GROWTH)] if op in GROWN else []


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
            profile=device == "cpu" and not quick and mode == FORWARD,
            **options,
        )
        for size in sizes
        for text in texts
        for mode in (FORWARD, BOTH)
        if mode == FORWARD or size != "base" or device != "cpu" or text == MAIN_TEXT
    ]
