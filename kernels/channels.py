"""Channels in chunks: a program walks a row's D channels CHUNK at a time, CHUNK a power of two.

D = 48 is 3 chunks of 16, not one of 64 with a quarter of its lanes idle.
"""

import triton
import triton.language as tl


def chunk_size(D: int, largest: int) -> int:
    """The power of two from 8 to `largest` whose multiple covers D with least waste, the larger of equals."""
    sizes = [size for size in (largest, largest // 2, largest // 4) if size >= min(8, largest)]
    return min(triton.next_power_of_2(D), min(sizes, key=lambda size: triton.cdiv(D, size) * size))


@triton.jit
def load_channels(p_row, m_row, o_d, D: tl.constexpr, CHUNK: tl.constexpr, WIDE: tl.constexpr):
    """Channels o_d of each row as WIDE, zeros where the mask m_row is not set: [ROWS, CHUNK]."""
    m = m_row[:, None]  # [ROWS, 1]
    if D % CHUNK != 0:
        m = m & (o_d < D)[None, :]  # [ROWS, CHUNK]
    return tl.load(p_row[:, None] + o_d[None, :], mask=m, other=0.0).to(WIDE)


@triton.jit
def store_channels(p_row, b_channels, m_row, o_d, D: tl.constexpr, CHUNK: tl.constexpr):
    """Writes channels o_d of the rows whose mask m_row is set."""
    m = m_row[:, None]  # [ROWS, 1]
    if D % CHUNK != 0:
        m = m & (o_d < D)[None, :]  # [ROWS, CHUNK]
    tl.store(p_row[:, None] + o_d[None, :], b_channels.to(p_row.dtype.element_ty), mask=m)
