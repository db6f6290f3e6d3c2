"""A row's D channels held at once, in parts that are powers of two as Triton's tensors are.

D = 48 is 32 and 16, not 64 with a quarter of every product wasted; and two products where 3 times 16 would be three.
"""

import triton
import triton.language as tl


def parts(D: int) -> tuple[tuple[int, int], ...]:
    """First channel and size of each part: D rounded up to a multiple of 16 as a sum of powers of two up to 128.

    Matrix products take no fewer than 16 channels at a time. Large parts come first: few products, and each part starts
    at a multiple of its own size, which keeps its loads aligned.
    """
    rest, found = triton.cdiv(D, 16) * 16, []
    while rest:
        size = min(128, 1 << (rest.bit_length() - 1))
        found.append((sum(size for _, size in found), size))
        rest -= size
    return tuple(found)


@triton.jit
def load_parts(rows, o_row, m_row, D: tl.constexpr, PARTS: tl.constexpr):
    """Rows o_row [ROWS] in parts, a tuple of [ROWS, part], zeros where the mask m_row is not set; None masks nothing.

    Args:
        rows: (pointer, stride), see `strides.rows_at`.
    """
    p_rows, stride = rows
    p_row = p_rows + o_row * stride  # [ROWS]
    b_parts = ()
    for i in tl.static_range(len(PARTS)):
        o_d = PARTS[i][0] + tl.arange(0, PARTS[i][1])  # [part]
        p_part = p_row[:, None] + o_d[None, :]  # [ROWS, part]
        if D < PARTS[i][0] + PARTS[i][1]:
            m = (o_d < D)[None, :]
            if m_row is not None:
                m = m & m_row[:, None]
            b_parts += (tl.load(p_part, mask=m, other=0.0),)
        elif m_row is not None:
            b_parts += (tl.load(p_part, mask=m_row[:, None], other=0.0),)
        else:
            b_parts += (tl.load(p_part),)
    return b_parts


@triton.jit
def store_parts(rows, o_row, m_row, b_parts, D: tl.constexpr, PARTS: tl.constexpr):
    """Writes the rows o_row whose mask m_row is set."""
    p_rows, stride = rows
    p_row = p_rows + o_row * stride  # [ROWS]
    for i in tl.static_range(len(PARTS)):
        o_d = PARTS[i][0] + tl.arange(0, PARTS[i][1])  # [part]
        m = m_row[:, None]  # [ROWS, 1]
        if D < PARTS[i][0] + PARTS[i][1]:
            m = m & (o_d < D)[None, :]  # [ROWS, part]
        tl.store(p_row[:, None] + o_d[None, :], b_parts[i].to(p_rows.dtype.element_ty), mask=m)
