"""What of glu's Triton kernels stands in the static table."""

import math
from collections.abc import Iterator

import torch
from static_table import TARGETS, Row

from bertkernels.kernels import glu, glu_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel

from .sizes import BASE, SMALL


def cases() -> Iterator[Row]:
    """C = 312: less than whole chunks."""
    for kernel in ("glu_fwd", "glu_bwd"):
        for target in TARGETS:
            for dtype, C in (("bfloat16", BASE.C), ("bfloat16", SMALL.C), ("bfloat16", 312), ("float32", BASE.C)):
                yield {"kernel": kernel, "target": target, "dtype": dtype, "C": C}
        for dtype in ("float16", "float64"):
            yield {"kernel": kernel, "target": 90, "dtype": dtype, "C": BASE.C}


def compile_case(kernel: str, target: int, dtype: str, C: int) -> Compiled:
    dtype = getattr(torch, dtype)
    function = getattr(glu_kernels, f"{kernel}_kernel")
    pointers = {name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")}
    pointers["p_shares"] = triton_dtype(sum_dtype(dtype))
    constants = glu.configuration(kernel, torch.device("cpu"), dtype, C)
    return compile_kernel(function, target, pointers, {**constants, "UNIT": math.gcd(16, C)})
