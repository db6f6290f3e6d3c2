"""The second stage of sums over tokens: what each block of tokens has summed up, its share, is added in block order."""

import functools
from collections.abc import Mapping

import torch
import triton
import triton.language as tl

from .dtypes import triton_dtype
from .launch import grid, on_device_of, program_index


def add_shares(totals: tuple[torch.Tensor | None, ...], shares: torch.Tensor) -> None:
    """Writes Σ over blocks of shares [blocks, k·N] into one or two totals [N], of which either may be None.

    All are contiguous; shares are in the dtype of sums.
    """
    first, second = (*totals, None)[:2]
    blocks, numbers = shares.shape[0], shares.shape[1] // len(totals)
    constants = configuration(shares.dtype)
    programs = len(totals) * triton.cdiv(numbers, constants["CHUNK"])
    with on_device_of(shares):
        add_shares_kernel[grid(programs)](first, second, shares, blocks, numbers, shares.shape[1], **constants)


@functools.cache
def configuration(dtype: torch.dtype) -> Mapping[str, object]:
    """256 bytes of a share side by side; as many shares at once as one batch of loads in flight holds."""
    wide = triton_dtype(dtype)
    return {"CHUNK": 256 // dtype.itemsize, "ROWS": 32, "WIDE": wide, "num_warps": 4, "enable_fp_fusion": True}


@triton.jit(do_not_specialize=["blocks", "numbers", "width"])
def add_shares_kernel(
    p_first,
    p_second,
    p_shares,
    blocks: tl.int32,
    numbers: tl.int64,
    width: tl.int64,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Adds up shares [blocks, width], the first `numbers` of which go to p_first and the others to p_second."""
    chunks = tl.cdiv(numbers, CHUNK)
    i_total = program_index() // chunks
    o_n = program_index().to(tl.int64) % chunks * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    o_row = tl.arange(0, ROWS)  # [ROWS]
    m_n = o_n < numbers
    count = tl.where(i_total * numbers < width, blocks, 0)  # none for the programs too many of a grid
    b_sums = tl.zeros([ROWS, CHUNK], dtype=WIDE)
    for i_block in range(0, count, ROWS):
        o_block = i_block + o_row  # [ROWS]
        p_share = p_shares + o_block.to(tl.int64)[:, None] * width + (i_total * numbers + o_n)[None, :]  # [ROWS, CHUNK]
        b_sums += tl.load(p_share, mask=(o_block < count)[:, None] & m_n[None, :], other=0.0)
    b_sum = tl.sum(b_sums, axis=0)  # [CHUNK]
    if p_first is not None:
        if i_total == 0:
            tl.store(p_first + o_n, b_sum.to(p_first.dtype.element_ty), mask=m_n)
    if p_second is not None:
        if i_total == 1:
            tl.store(p_second + o_n, b_sum.to(p_second.dtype.element_ty), mask=m_n)
