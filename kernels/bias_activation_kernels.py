"""Triton kernels of `bias_activation`: what follows a matrix product, and its gradient, in one pass each.

A program takes CHUNK neighbouring columns: of ROWS rows forward; backward of a block of rows, ROWS at a time, whose
sum is the block's share of the bias's gradient. A thread reads 16 bytes of a row at a time.

Bytes moved, N elements of s bytes; in brackets N = 32·512·1536, bf16:
    forward   2·s·N                                                   [100.7 MB]
    backward  3·s·N, or 2·s·N where the activation is None, and shares of 4 bytes a block and column
"""

import triton
import triton.language as tl

from .activations import activate, differentiate
from .channels import load_channels, store_channels
from .launch import program_index


@triton.jit
def load_bias(p_bias, o_c, C: tl.constexpr, WIDE: tl.constexpr):
    """[1, CHUNK]."""
    return tl.load(p_bias + o_c, mask=o_c < C, other=0.0).to(WIDE)[None, :]


@triton.jit(do_not_specialize=["rows", "stride_out", "stride_x"])
def bias_activation_fwd_kernel(
    p_out,
    p_x,
    p_bias,
    rows: tl.int64,
    stride_out: tl.int64,
    stride_x: tl.int64,
    UNIT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes activation(x + bias) [rows, C]; the bias may be None."""
    i_program = program_index()
    o_c = i_program % tl.cdiv(C, CHUNK) * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    i_row = (i_program // tl.cdiv(C, CHUNK)).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    m_row = i_row < rows
    b_x = load_channels(p_x + i_row * stride_x * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
    if p_bias is not None:
        b_x += load_bias(p_bias, o_c, C, WIDE)
    b_out = activate(b_x, ACTIVATION, p_x.dtype.element_ty.primitive_bitwidth == 16)
    store_channels(p_out + i_row * stride_out * UNIT, b_out, m_row, o_c, C, CHUNK)


@triton.jit(do_not_specialize=["rows", "span", "stride_d_x", "stride_grad", "stride_x"])
def bias_activation_bwd_kernel(
    p_d_x,
    p_shares,
    p_grad,
    p_x,
    p_bias,
    rows: tl.int64,
    span: tl.int64,
    stride_d_x: tl.int64,
    stride_grad: tl.int64,
    stride_x: tl.int64,
    UNIT: tl.constexpr,
    ACTIVATION: tl.constexpr,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes d_x [rows, C] and the share [C] of the bias's gradient of each block of `span` rows: [blocks, C].

    d_x or shares are None where they are not wanted. x is not read where the activation is None.
    """
    i_program = program_index()
    o_c = i_program % tl.cdiv(C, CHUNK) * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    i_block = (i_program // tl.cdiv(C, CHUNK)).to(tl.int64)
    if ACTIVATION is not None and p_bias is not None:
        b_bias = load_bias(p_bias, o_c, C, WIDE)  # [1, CHUNK]
    b_sums = tl.zeros([ROWS, CHUNK], dtype=WIDE)
    for i_row in range(i_block * span, tl.minimum((i_block + 1) * span, rows), ROWS):
        o_row = (i_row + tl.arange(0, ROWS)).to(tl.int64)  # [ROWS]
        m_row = o_row < rows
        b_grad = load_channels(p_grad + o_row * stride_grad * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
        if ACTIVATION is not None:
            b_x = load_channels(p_x + o_row * stride_x * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
            if p_bias is not None:
                b_x += b_bias
            b_grad = differentiate(b_grad, b_x, ACTIVATION, p_x.dtype.element_ty.primitive_bitwidth == 16)
        if p_d_x is not None:
            store_channels(p_d_x + o_row * stride_d_x * UNIT, b_grad, m_row, o_c, C, CHUNK)
        b_sums += b_grad
    if p_shares is not None:
        if i_block * span < rows:
            tl.store(p_shares + i_block * C + o_c, tl.sum(b_sums, axis=0), mask=o_c < C)
