"""What of span_conv's Triton kernels stands in the static table."""

import math
from collections.abc import Iterator

import torch
import triton.language as tl
from static_table import TARGETS, Row

from bertkernels.kernels import span_conv, span_conv_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel

SMALL, MEDIUM_SMALL, BASE = (256, 2, 64), (384, 4, 48), (768, 6, 64)  # C, H, D


def cases() -> Iterator[Row]:
    """writes: "out" and what is kept for its gradient, or "logits" alone."""
    for target in TARGETS:
        for dtype, size, form, writes in (
            ("bfloat16", SMALL, "padded", "out"),
            ("bfloat16", MEDIUM_SMALL, "padded", "out"),
            ("bfloat16", BASE, "padded", "out"),
            ("bfloat16", BASE, "padded", "logits"),
            ("bfloat16", BASE, "packed", "out"),
            ("float32", SMALL, "padded", "out"),
            ("float32", BASE, "padded", "out"),
        ):
            yield _case("span_conv_fwd", target, dtype, size, form, writes)
    for dtype, size, writes in (("float16", BASE, "out"), ("float64", SMALL, "out"), ("bfloat16", SMALL, "logits")):
        yield _case("span_conv_fwd", 90, dtype, size, "packed", writes)
    for kernel in ("span_conv_bwd", "span_conv_sum"):
        for target in TARGETS:
            for dtype, size in (
                ("bfloat16", SMALL),
                ("bfloat16", MEDIUM_SMALL),
                ("bfloat16", BASE),
                ("float32", BASE),
                ("float64", SMALL),
            ):
                yield _case(kernel, target, dtype, size, "padded", "gradients")


def _case(kernel: str, target: int, dtype: str, size: tuple[int, int, int], form: str, writes: str) -> Row:
    C, H, D = size
    widths = {"C": C, "H": H, "D": D, "K": 9, "S": 9}
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
        constants = span_conv.backward_configuration(device, dtype, H, D, K)
    return compile_kernel(function, target, pointers, {**constants, "UNIT": math.gcd(16, C, D)})
