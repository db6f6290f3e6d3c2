"""What of residual_norm's Triton kernels stands in the static table."""

import math
from collections.abc import Iterator

import torch
import triton.language as tl
from static_table import TARGETS, Row

from bertkernels.kernels import residual_norm, residual_norm_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel

from .sizes import BASE, MEDIUM_SMALL, SMALL


def cases() -> Iterator[Row]:
    """C = 2048: more than registers hold."""
    for kernel in ("residual_norm_fwd", "residual_norm_bwd"):
        for target in TARGETS:
            for C, dropout in ((BASE.C, True), (BASE.C, False), (MEDIUM_SMALL.C, True), (SMALL.C, True)):
                yield {"kernel": kernel, "target": target, "dtype": "bfloat16", "C": C, "dropout": dropout}
        for dtype, C in (("float16", BASE.C), ("float32", BASE.C), ("float64", BASE.C), ("bfloat16", 2048)):
            yield {"kernel": kernel, "target": 90, "dtype": dtype, "C": C, "dropout": True}


def compile_case(kernel: str, target: int, dtype: str, C: int, dropout: bool) -> Compiled:
    dtype = getattr(torch, dtype)
    function = getattr(residual_norm_kernels, f"{kernel}_kernel")
    pointers = {name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")}
    pointers["p_moments"] = pointers["p_shares"] = triton_dtype(sum_dtype(dtype))
    pointers["p_seed"] = tl.int64 if dropout else None
    if not dropout:  # then d_x is d_residual
        pointers["p_d_x"] = None
    constants = residual_norm.configuration(kernel, torch.device("cpu"), dtype, C)
    return compile_kernel(function, target, pointers, {**constants, "UNIT": math.gcd(16, C)})
