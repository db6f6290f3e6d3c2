"""In which dtype the kernels keep sums, and what Triton calls torch's dtypes."""

import torch
import triton.language as tl

_TRITON = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


def triton_dtype(dtype: torch.dtype) -> tl.dtype:
    return _TRITON[dtype]


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """fp64 for fp64, else fp32."""
    return torch.promote_types(dtype, torch.float32)
