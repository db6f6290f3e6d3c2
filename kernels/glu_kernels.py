"""Triton kernels of `glu`: the product of one half with the sigmoid of the other, and its gradients, in one pass each.

Programs take their elements as those of `bias_activation` do: CHUNK neighbouring columns, forward of ROWS rows,
backward of a block of rows, ROWS at a time, whose sums are the block's shares of the biases' gradients.

Bytes moved, N elements of s bytes; in brackets N = 32·512·768, bf16:
    forward   3·s·N                                                   [75.5 MB]
    backward  5·s·N, and shares of 8 bytes a block and column         [125.8 MB]
"""

import triton
import triton.language as tl

from .bias_activation_kernels import load_bias
from .channels import load_channels, store_channels
from .launch import program_index


@triton.jit
def logistic(b_x):
    """1 / (1 + e^-x) and one minus it, both exact where they are small."""
    b_exp = tl.exp(-tl.abs(b_x))
    b_share = 1.0 / (b_exp + 1.0)
    b_small = b_exp * b_share
    return tl.where(b_x < 0, b_small, b_share), tl.where(b_x < 0, b_share, b_small)


@triton.jit(do_not_specialize=["rows", "stride_out", "stride_left", "stride_gate"])
def glu_fwd_kernel(
    p_out,
    p_left,
    p_gate,
    p_left_bias,
    p_gate_bias,
    rows: tl.int64,
    stride_out: tl.int64,
    stride_left: tl.int64,
    stride_gate: tl.int64,
    UNIT: tl.constexpr,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes (left + left_bias) · sigmoid(gate + gate_bias) [rows, C]; either bias may be None."""
    i_program = program_index()
    o_c = i_program % tl.cdiv(C, CHUNK) * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    i_row = (i_program // tl.cdiv(C, CHUNK)).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    m_row = i_row < rows
    b_left = load_channels(p_left + i_row * stride_left * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
    b_gate = load_channels(p_gate + i_row * stride_gate * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
    if p_left_bias is not None:
        b_left += load_bias(p_left_bias, o_c, C, WIDE)
    if p_gate_bias is not None:
        b_gate += load_bias(p_gate_bias, o_c, C, WIDE)
    b_value, _ = logistic(b_gate)
    store_channels(p_out + i_row * stride_out * UNIT, b_left * b_value, m_row, o_c, C, CHUNK)


@triton.jit(
    do_not_specialize=["rows", "span", "stride_d_left", "stride_d_gate", "stride_grad", "stride_out", "stride_gate"]
)
def glu_bwd_kernel(
    p_d_left,
    p_d_gate,
    p_shares,
    p_grad,
    p_out,
    p_gate,
    p_gate_bias,
    rows: tl.int64,
    span: tl.int64,
    stride_d_left: tl.int64,
    stride_d_gate: tl.int64,
    stride_grad: tl.int64,
    stride_out: tl.int64,
    stride_gate: tl.int64,
    UNIT: tl.constexpr,
    C: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes d_left and d_gate [rows, C], and of each block of `span` rows the shares of the gradients of left_bias and
    gate_bias: [blocks, 2·C]. Each is None where it is not wanted."""
    i_program = program_index()
    o_c = i_program % tl.cdiv(C, CHUNK) * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    i_block = (i_program // tl.cdiv(C, CHUNK)).to(tl.int64)
    if p_gate_bias is not None:
        b_bias = load_bias(p_gate_bias, o_c, C, WIDE)  # [1, CHUNK]
    b_left_sums = tl.zeros([ROWS, CHUNK], dtype=WIDE)
    b_gate_sums = tl.zeros([ROWS, CHUNK], dtype=WIDE)
    for i_row in range(i_block * span, tl.minimum((i_block + 1) * span, rows), ROWS):
        o_row = (i_row + tl.arange(0, ROWS)).to(tl.int64)  # [ROWS]
        m_row = o_row < rows
        b_grad = load_channels(p_grad + o_row * stride_grad * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
        b_out = load_channels(p_out + o_row * stride_out * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
        b_gate = load_channels(p_gate + o_row * stride_gate * UNIT, m_row, o_c, C, CHUNK, WIDE)  # [ROWS, CHUNK]
        if p_gate_bias is not None:
            b_gate += b_bias
        b_value, b_rest = logistic(b_gate)
        b_d_left = b_grad * b_value
        b_d_gate = b_grad * b_out * b_rest
        if p_d_left is not None:
            store_channels(p_d_left + o_row * stride_d_left * UNIT, b_d_left, m_row, o_c, C, CHUNK)
        if p_d_gate is not None:
            store_channels(p_d_gate + o_row * stride_d_gate * UNIT, b_d_gate, m_row, o_c, C, CHUNK)
        b_left_sums += b_d_left
        b_gate_sums += b_d_gate
    if p_shares is not None:
        if i_block * span < rows:
            p_share = p_shares + i_block * 2 * C + o_c
            tl.store(p_share, tl.sum(b_left_sums, axis=0), mask=o_c < C)
            tl.store(p_share + C, tl.sum(b_gate_sums, axis=0), mask=o_c < C)
