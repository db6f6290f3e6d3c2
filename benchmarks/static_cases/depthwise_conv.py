"""What of depthwise_conv's Triton kernels stands in the static table."""

import math
from collections.abc import Iterator

import torch
import triton.language as tl
from static_table import TARGETS, Row

from bertkernels.kernels import depthwise_conv, depthwise_conv_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel

from .sizes import BASE, MEDIUM_SMALL, SMALL


def cases() -> Iterator[Row]:
    for kernel in ("depthwise_conv_fwd", "depthwise_conv_bwd"):
        for target in TARGETS:
            for C, form in ((BASE.C, "padded"), (BASE.C, "packed"), (MEDIUM_SMALL.C, "padded"), (SMALL.C, "padded")):
                yield _case(kernel, target, "bfloat16", C, 9, form)
        for dtype in ("float16", "float32", "float64"):
            yield _case(kernel, 90, dtype, BASE.C, 9, "packed")
        for C, K in ((100, 9), (BASE.C, 15), (BASE.C, 31)):
            yield _case(kernel, 90, "bfloat16", C, K, "packed")
    for target in TARGETS:
        yield _case("depthwise_conv_sum", target, "bfloat16", BASE.C, 9, "padded")


def _case(kernel: str, target: int, dtype: str, C: int, K: int, form: str) -> Row:
    return {"kernel": kernel, "target": target, "dtype": dtype, "C": C, "K": K, "form": form}


def compile_case(kernel: str, target: int, dtype: str, C: int, K: int, form: str) -> Compiled:
    dtype = getattr(torch, dtype)
    function = getattr(depthwise_conv_kernels, f"{kernel}_kernel")
    tensors = {name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")}
    shares = {"p_shares": triton_dtype(sum_dtype(dtype))}
    if kernel == "depthwise_conv_sum":
        constants = depthwise_conv.sum_configuration(dtype, C, K)
        return compile_kernel(function, target, {**tensors, **shares}, constants)
    constants = depthwise_conv.configuration(kernel, torch.device("cpu"), dtype, C, K)
    layout = {"UNIT": math.gcd(16, C), "STEP": C, "REVERSED": False, "LEFT": (K - 1) // 2}
    pointers = {
        **tensors,
        **shares,
        "p_lengths": None,
        "p_cu_seqlens": tl.int32 if form == "packed" else None,
        "p_d_x": None if K > constants["TAPS"] else triton_dtype(dtype),
    }
    return compile_kernel(function, target, pointers, {**constants, **layout})
