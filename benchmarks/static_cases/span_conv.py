"""What of span_conv's Triton kernels stands in the static table."""

import math
from collections.abc import Iterator

import torch
import triton.language as tl
from static_table import TARGETS, Row

from bertkernels.kernels import span_conv, span_conv_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel

from .sizes import BASE, MEDIUM_SMALL, SMALL, Size


def cases() -> Iterator[Row]:
    """writes: "out" and what is kept for its gradient, or "logits" alone."""
    for target in TARGETS:
        for size, form in ((SMALL, "padded"), (MEDIUM_SMALL, "padded"), (BASE, "padded"), (BASE, "packed")):
            yield _case("span_conv_fwd", target, "bfloat16", size, form, "out")
    yield _case("span_conv_fwd", 90, "bfloat16", BASE, "packed", "logits")
    for dtype, size in (("float16", BASE), ("float32", BASE), ("float64", SMALL)):
        yield _case("span_conv_fwd", 90, dtype, size, "packed", "out")
    for kernel in ("span_conv_bwd", "span_conv_sum"):
        for target in TARGETS:
            for size in (SMALL, MEDIUM_SMALL, BASE) if kernel == "span_conv_bwd" else (BASE,):
                yield _case(kernel, target, "bfloat16", size, "padded", "gradients")
        for dtype, size in (("float32", BASE), ("float64", SMALL)):
            yield _case(kernel, 90, dtype, size, "padded", "gradients")


def _case(kernel: str, target: int, dtype: str, size: Size, form: str, writes: str) -> Row:
    widths = {**size._asdict(), "K": 9, "S": 9}
    return {"kernel": kernel, "target": target, "dtype": dtype, **widths, "form": form, "writes": writes}


def compile_case(
    kernel: str, target: int, dtype: str, C: int, H: int, D: int, K: int, S: int, form: str, writes: str
) -> Compiled:
    dtype, device = getattr(torch, dtype), torch.device("cpu")
    function = getattr(span_conv_kernels, f"{kernel}_kernel")
    pointers = {name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")}
    pointers["p_shares"] = triton_dtype(sum_dtype(dtype))
    if kernel == "span_conv_sum":
        return compile_kernel(function, target, pointers, span_conv.sum_configuration(dtype, H * D, H * K))
    pointers["p_lengths"] = tl.int32 if form == "padded" else None
    pointers["p_cu_seqlens"] = tl.int32 if form == "packed" else None
    if writes == "logits":
        pointers["p_out"] = pointers["p_values"] = pointers["p_product"] = None
    if kernel == "span_conv_fwd":
        constants = span_conv.forward_configuration(device, target, dtype, C, H, D, K, S)
    else:
        constants = span_conv.backward_configuration(device, target, dtype, H, D, K)
    return compile_kernel(function, target, pointers, {**constants, "UNIT": math.gcd(16, C, D)})
