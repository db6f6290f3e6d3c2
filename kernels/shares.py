"""The second stage of sums over tokens: what each block of tokens has summed up, its share, is added in block order."""

import functools
from collections.abc import Mapping

import torch
import triton
import triton.language as tl

from .dtypes import triton_dtype
from .launch import grid, on_device_of, program_index


def add_shares(total: torch.Tensor, shares: torch.Tensor) -> None:
    """Writes Σ over blocks of shares [blocks, N] into `total` [N], both contiguous; shares in the dtype of sums."""
    blocks, numbers = shares.shape
    constants = configuration(shares.dtype)
    with on_device_of(shares):
        launch = add_shares_kernel[grid(triton.cdiv(numbers, constants["CHUNK"]))]
        launch(total, shares, blocks, numbers, **constants)


@functools.cache
def configuration(dtype: torch.dtype) -> Mapping[str, object]:
    """256 bytes of a share side by side; as many shares at once as one batch of loads in flight holds."""
    wide = triton_dtype(dtype)
    return {"CHUNK": 256 // dtype.itemsize, "ROWS": 32, "WIDE": wide, "num_warps": 4, "enable_fp_fusion": True}


@triton.jit(do_not_specialize=["blocks", "numbers"])
def add_shares_kernel(
    p_total,
    p_shares,
    blocks: tl.int32,
    numbers: tl.int64,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    o_n = program_index().to(tl.int64) * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    o_row = tl.arange(0, ROWS)  # [ROWS]
    m_n = o_n < numbers
    b_sums = tl.zeros([ROWS, CHUNK], dtype=WIDE)
    for i_block in range(0, blocks, ROWS):
        o_block = i_block + o_row  # [ROWS]
        p_share = p_shares + o_block.to(tl.int64)[:, None] * numbers + o_n[None, :]  # [ROWS, CHUNK]
        b_sums += tl.load(p_share, mask=(o_block < blocks)[:, None] & m_n[None, :], other=0.0)
    tl.store(p_total + o_n, tl.sum(b_sums, axis=0).to(p_total.dtype.element_ty), mask=m_n)
