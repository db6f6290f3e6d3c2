"""What of light_conv's Triton kernels stands in the static table."""

from collections.abc import Iterator

import torch
import triton.language as tl
from static_table import TARGETS, Row

from bertkernels.kernels import light_conv, light_conv_kernels
from bertkernels.kernels.dtypes import triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel


def cases() -> Iterator[Row]:
    for kernel in ("light_conv_fwd", "light_conv_bwd"):
        for target in TARGETS:
            for dtype, D, form in (
                ("bfloat16", 64, "padded"),
                ("bfloat16", 64, "packed"),
                ("bfloat16", 48, "padded"),
                ("float32", 64, "padded"),
            ):
                yield {"kernel": kernel, "target": target, "dtype": dtype, "D": D, "K": 9, "form": form}
        for dtype, D, K in (("float16", 64, 9), ("float32", 48, 9), ("float64", 64, 9), ("bfloat16", 64, 31)):
            yield {"kernel": kernel, "target": 90, "dtype": dtype, "D": D, "K": K, "form": "packed"}
    for target in TARGETS:
        yield {"kernel": "light_conv_terms", "target": target, "dtype": "bfloat16", "D": 64, "K": 31, "form": "padded"}


def compile_case(kernel: str, target: int, dtype: str, D: int, K: int, form: str) -> Compiled:
    dtype = getattr(torch, dtype)
    function = getattr(light_conv_kernels, f"{kernel}_kernel")
    pointers = {name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")}
    if kernel == "light_conv_terms":
        constants = light_conv.terms_configuration(dtype, K)
        return compile_kernel(function, target, {**pointers, "p_terms": constants["WIDE"]}, constants)
    constants = light_conv.configuration(kernel, torch.device("cpu"), dtype, D, K)
    pointers |= {
        "p_terms": constants["WIDE"] if K > constants["TAPS"] else None,
        "p_lengths": None,
        "p_cu_seqlens": tl.int32 if form == "packed" else None,
    }
    layout = {"UNIT": 16, "SOFTMAX": True, "LEFT": (K - 1) // 2}
    return compile_kernel(function, target, pointers, {**constants, **layout})
