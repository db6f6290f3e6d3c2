"""Triton kernels of `grouped_linear`: products of each group's channels with its matrix, and of two groups' channels.

A program works out a tile of the result for one group: TILE rows, and WIDTH columns in parts that are powers of two
(`parts`), so that widths which are not are tiled with little waste. The programs of a tile of rows follow each other:
its channels are read from memory once, then from the cache, where the matrices stay as well.

Bytes moved, M tokens, s bytes an element, matrices aside; in brackets M = 32·512, G·I 384, G·O 1536, bf16, with gelu:
    forward        s·M·(G·I + 2·G·O): x in, out and the product that backward starts from out          [113.2 MB]
    d_product      s·M·3·G·O: grad and product in, d_product out (`bias_activation`'s backward pass)   [151.0 MB]
    d_x            s·M·(G·O + G·I)                                                                      [62.9 MB]
    d_weight       s·M·(G·O + G·I), and each block of tokens' share, 4·G·I·O bytes, out and in          [62.9 MB]
d_product could be worked out where the two products read it, from 2·G·O channels each instead of G·O. That is
s·M·(4·G·O + 2·G·I), against s·M·(5·G·O + 2·G·I) above: 50.3 MB less if each product read its tokens once. But every
tile of columns reads them again, from the cache, so that there the separate pass moves less from two tiles on; and it
works out the derivative, some 40 instructions an element, once and not once a tile and product.
"""

import triton
import triton.language as tl

from .activations import activate
from .launch import program_index
from .products import add_product


@triton.jit
def load_tile(p_rows, m_row, i_column, END: tl.constexpr, COUNT: tl.constexpr, EVEN: tl.constexpr):
    """Columns i_column, … of the rows at p_rows [ROWS]: [ROWS, COUNT]; zeros where the mask is not set and from END on.

    m_row may be None. EVEN: no column is END or past it.
    """
    o_column = i_column + tl.arange(0, COUNT)  # [COUNT]
    p = p_rows[:, None] + o_column[None, :]  # [ROWS, COUNT]
    if EVEN:
        return tl.load(p) if m_row is None else tl.load(p, mask=m_row[:, None], other=0.0)
    else:
        m = (o_column < END)[None, :]
        if m_row is not None:
            m = m & m_row[:, None]
        return tl.load(p, mask=m, other=0.0)


@triton.jit(do_not_specialize=["rows", "groups", "stride_out", "stride_x", "stride_weight_g", "stride_weight"])
def grouped_linear_fwd_kernel(
    p_out,
    p_product,
    p_x,
    p_weight,
    p_bias,
    rows: tl.int64,
    groups: tl.int32,
    stride_out: tl.int64,
    stride_x: tl.int64,
    stride_weight_g: tl.int64,
    stride_weight: tl.int64,
    UNIT: tl.constexpr,
    UNIT_WEIGHT: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    ACTIVATION: tl.constexpr,
    I: tl.constexpr,  # noqa: E741 (the letters of the formula)
    O: tl.constexpr,  # noqa: E741
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
    STEP: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes activation(x · weight + bias) [rows, G·O], and the product x · weight alone if p_product is not None.

    out and product have rows of one stride. The weight [G, I, O] has contiguous rows [O], or BY_COLUMN contiguous
    columns [I]; `stride_weight` is its other stride. The bias may be None.
    """
    i_program = program_index()
    tiles = tl.cdiv(O, WIDTH)
    i_o = i_program % tiles * WIDTH
    i_group = (i_program // tiles % groups).to(tl.int64)
    i_row = (i_program // tiles // groups).to(tl.int64) * TILE + tl.arange(0, TILE)  # [TILE]
    p_x_row = p_x + tl.minimum(i_row, rows - 1) * stride_x * UNIT + i_group * I  # [TILE]; rows past the last: the last
    p_matrix = p_weight + i_group * stride_weight_g * UNIT_WEIGHT

    b_sums = ()
    for j in tl.static_range(len(PARTS)):
        b_sums += (tl.full([TILE, PARTS[j][1]], 0.0, WIDE),)
    for i_i in range(0, I, STEP):
        b_x = load_tile(p_x_row, None, i_i, I, STEP, I % STEP == 0)  # [TILE, STEP]
        o_i = i_i + tl.arange(0, STEP)  # [STEP]
        b_added = ()
        for j in tl.static_range(len(PARTS)):
            o_o = i_o + PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
            if BY_COLUMN:
                p = p_matrix + o_i[:, None] + o_o.to(tl.int64)[None, :] * stride_weight * UNIT_WEIGHT
            else:
                p = p_matrix + o_i.to(tl.int64)[:, None] * stride_weight * UNIT_WEIGHT + o_o[None, :]
            if I % STEP == 0 and O % WIDTH == 0:
                b_weight = tl.load(p)  # [STEP, part]
            else:
                b_weight = tl.load(p, mask=(o_i < I)[:, None] & (o_o < O)[None, :], other=0.0)
            b_added += (add_product(b_sums[j], b_x, b_weight, WIDE),)
        b_sums = b_added

    m_row = i_row < rows
    o_row = i_row * stride_out * UNIT + i_group * O  # [TILE]
    for j in tl.static_range(len(PARTS)):
        o_o = i_o + PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
        m = m_row[:, None]
        if O % WIDTH != 0:
            m = m & (o_o < O)[None, :]
        o_out = o_row[:, None] + o_o[None, :]  # [TILE, part]
        b_out = b_sums[j]
        if p_product is not None:
            tl.store(p_product + o_out, b_out.to(p_product.dtype.element_ty), mask=m)
        if p_bias is not None:
            b_out += tl.load(p_bias + i_group * O + o_o, mask=o_o < O, other=0.0).to(WIDE)[None, :]
        b_out = activate(b_out, ACTIVATION, p_out.dtype.element_ty.primitive_bitwidth == 16)
        tl.store(p_out + o_out, b_out.to(p_out.dtype.element_ty), mask=m)


@triton.jit(
    do_not_specialize=["rows", "span", "blocks", "groups", "stride_left", "stride_right", "size"]
    + ["stride_weight_g", "stride_weight"]
)
def grouped_linear_bwd_weight_kernel(
    p_shares,
    p_left,
    p_right,
    rows: tl.int64,
    span: tl.int64,
    blocks: tl.int32,
    groups: tl.int32,
    size: tl.int64,
    stride_weight_g: tl.int64,
    stride_weight: tl.int64,
    stride_left: tl.int64,
    stride_right: tl.int64,
    UNIT: tl.constexpr,
    UNIT_WEIGHT: tl.constexpr,
    BY_COLUMN: tl.constexpr,
    L: tl.constexpr,
    R: tl.constexpr,
    TILE: tl.constexpr,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
    STEP: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes leftᵀ · right [L, R] of each group, for each block of `span` rows: `blocks` shares, `size` numbers apart.

    left [rows, G·L] is taken in PARTS, right [rows, G·R] in tiles. Strides as those of the weight's, in which rows [R]
    are contiguous, or BY_COLUMN columns [L].
    """
    i_program = program_index()
    left_tiles = tl.cdiv(L, WIDTH)
    tiles = left_tiles * tl.cdiv(R, TILE)
    i_l = i_program % left_tiles * WIDTH
    i_r = i_program % tiles // left_tiles * TILE
    i_group = (i_program // tiles % groups).to(tl.int64)
    i_block = (i_program // tiles // groups).to(tl.int64)

    b_sums = ()
    for j in tl.static_range(len(PARTS)):
        b_sums += (tl.full([PARTS[j][1], TILE], 0.0, WIDE),)
    for i_row in range(i_block * span, tl.minimum((i_block + 1) * span, rows), STEP):
        o_row = (i_row + tl.arange(0, STEP)).to(tl.int64)  # [STEP]
        m_row = o_row < rows
        p_left_row = p_left + o_row * stride_left * UNIT + i_group * L  # [STEP]
        p_right_row = p_right + o_row * stride_right * UNIT + i_group * R  # [STEP]
        b_right = load_tile(p_right_row, m_row, i_r, R, TILE, R % TILE == 0)  # [STEP, TILE]
        b_added = ()
        for j in tl.static_range(len(PARTS)):
            b_left = load_tile(p_left_row, m_row, i_l + PARTS[j][0], L, PARTS[j][1], L % WIDTH == 0)  # [STEP, part]
            b_added += (add_product(b_sums[j], tl.trans(b_left), b_right, WIDE),)
        b_sums = b_added

    if i_block < blocks:
        p_share = p_shares + i_block * size + i_group * stride_weight_g * UNIT_WEIGHT
        o_r = i_r + tl.arange(0, TILE)  # [TILE]
        for j in tl.static_range(len(PARTS)):
            o_l = i_l + PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
            if BY_COLUMN:
                p = p_share + o_l[:, None] + o_r.to(tl.int64)[None, :] * stride_weight * UNIT_WEIGHT
            else:
                p = p_share + o_l.to(tl.int64)[:, None] * stride_weight * UNIT_WEIGHT + o_r[None, :]
            b_share = b_sums[j].to(p_shares.dtype.element_ty)  # [part, TILE]
            if L % WIDTH == 0 and R % TILE == 0:
                tl.store(p, b_share)
            else:
                tl.store(p, b_share, mask=(o_l < L)[:, None] & (o_r < R)[None, :])
