"""What of mixed_attention's Triton kernels stands in the static table."""

from collections.abc import Iterator

import torch
import triton.language as tl
from static_table import TARGETS, Row

from bertkernels.kernels import mixed_attention, mixed_attention_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel

KERNELS = ("mixed_attention_fwd", "mixed_attention_bwd_query", "mixed_attention_bwd_key")


def cases() -> Iterator[Row]:
    """options: what a launch has beside its tensors: "", "dropout" or "bias"."""
    for kernel in KERNELS:
        for target in TARGETS:
            for D, form, options in ((64, "packed", "dropout"), (64, "padded", "bias"), (48, "packed", "")):
                yield _case(kernel, target, "bfloat16", D, form, options)
        for dtype, D, options in (
            ("bfloat16", 48, "dropout"),
            ("float16", 64, "dropout"),
            ("float32", 64, "dropout"),
            ("float64", 64, ""),
        ):
            yield _case(kernel, 90, dtype, D, "packed", options)


def _case(kernel: str, target: int, dtype: str, D: int, form: str, options: str) -> Row:
    return {"kernel": kernel, "target": target, "dtype": dtype, "D": D, "K": 9, "form": form, "options": options}


def compile_case(kernel: str, target: int, dtype: str, D: int, K: int, form: str, options: str) -> Compiled:
    dtype = getattr(torch, dtype)
    function = getattr(mixed_attention_kernels, f"{kernel}_kernel")
    constants = mixed_attention.configuration(kernel, torch.device("cpu"), dtype, D, K, options == "dropout")
    wide = triton_dtype(sum_dtype(dtype))
    pointers = {
        **{name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")},
        "p_lse": wide,
        "p_query_terms": wide,
        "p_terms": wide if K > constants.get("TAPS", K) else None,
        "p_key_bias": triton_dtype(dtype) if options == "bias" else None,
        "p_lengths": None,
        "p_cu_seqlens": tl.int32 if form == "packed" else None,
        "p_seed": tl.int64 if options == "dropout" else None,
    }
    return compile_kernel(function, target, pointers, {**constants, "UNIT": 16})
