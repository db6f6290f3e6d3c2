"""What of the Triton kernel that adds up shares stands in the static table."""

from collections.abc import Iterator

import torch
from static_table import TARGETS, Row

from bertkernels.kernels import shares
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel


def cases() -> Iterator[Row]:
    """totals: how many are written, as of a bias alone or of weight and bias."""
    for target in TARGETS:
        yield {"kernel": "add_shares", "target": target, "dtype": "bfloat16", "totals": 1}
    for dtype in ("bfloat16", "float32", "float64"):
        yield {"kernel": "add_shares", "target": 90, "dtype": dtype, "totals": 2}


def compile_case(kernel: str, target: int, dtype: str, totals: int) -> Compiled:
    dtype = getattr(torch, dtype)
    total = triton_dtype(dtype)
    pointers = {
        "p_shares": triton_dtype(sum_dtype(dtype)),
        "p_first": total,
        "p_second": total if totals == 2 else None,
    }
    return compile_kernel(shares.add_shares_kernel, target, pointers, shares.configuration(sum_dtype(dtype)))
