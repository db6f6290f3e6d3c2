"""Triton kernels of `span_conv`: from a block's input to the kernels of its convolution heads, and what they convolve.

Forward, a program takes ROWS groups of GROUP neighbouring tokens through all of it:

    span    depthwise convolution of BLOCK_C channels at a time, worked out where the product needs them
    key     span · pointwiseᵀ + bias, in BLOCKS accumulators of BLOCK_A columns, times the query
    logits  key · kernelᵀ + bias, in accumulators whose columns are `parts` of H·K
    out     the light convolution of the groups' neighbours with softmax(logits)

so that neither span nor key is ever written. Where H·D has more columns than BLOCKS accumulators, it takes several
passes over the channels, each of which works out the span anew.

Bytes moved, N tokens, A = H·D, s bytes an element; in brackets N = 32·512, C 768, A 384, H·K 54, bf16:
    forward, out           s·N·(C + 3·A + H·K): x, query and values in, out out; logits out     [64.7 MB]
    forward, logits only   s·N·(C + A + H·K)                                                    [39.5 MB]
    kept for the gradient  s·N·A more: the product of span and pointwise, bias included         [12.6 MB]
Logits are the one thing between that is written, 3 % of these bytes. The program itself reads them back, from the first
cache, and autograd keeps them. Taking them out of the accumulators instead, where a token's lie spread over a quad of
threads, is H·K masked sums over rows of H·K columns: more arithmetic than the convolution they are for.

Backward, of what lies between, autograd keeps the product (recomputing it is 90 % of forward's arithmetic, and reads x)
and the logits; the span, read off x again at 2·s·N·C bytes, is never kept. Given the logits' gradient,

    d_key = d_logits · kernel      d_query = d_key ⊙ product    d_product = d_key ⊙ query    d_kernel = d_logitsᵀ · key

are one kernel, s·N·(4·A + H·K) bytes [52.1 MB], where one by one d_key and key alone cost 8·A [100 MB] more. A program
takes BLOCK_A columns and every so-many-th tile of tokens, and writes its share of d_kernel and of the biases'
gradients; a second kernel adds up the shares, in order. What remains, d_product times span and times pointwise, are
plain products of matrices.

What the functions here hand each other: `rows` and `group` as in `light_conv_kernels`. WIDE is the dtype of sums; UNIT
is explained in `strides`.
"""

import triton
import triton.language as tl

from .channels import load_channels
from .depthwise_conv_kernels import tile_count
from .launch import program_index
from .light_conv_kernels import convolve_forward
from .products import add_product
from .sequences import locate_groups
from .strides import names, rows_at

# Sizes of batches and addresses that no code depends on: no launch may compile a kernel anew for them.
_VARYING = [
    "batches",
    "tokens",
    "chunks",
    "stride_pointwise",
    "stride_kernel",
    "p_pointwise_bias",
    "p_kernel_bias",
    "p_lengths",
    "p_cu_seqlens",
]


@triton.jit
def per_token(b_first, step, GROUP: tl.constexpr):
    """b_first [ROWS] + step · r for each token r of each group: [ROWS · GROUP], a group's tokens side by side."""
    b_tokens = b_first[:, None] + tl.arange(0, GROUP)[None, :] * step  # [ROWS, GROUP]
    return tl.reshape(b_tokens, [b_first.shape[0] * GROUP])


@triton.jit
def per_head(b_group, HEADS: tl.constexpr):
    """[ROWS] for each of the HEADS rows that a group has: [ROWS · HEADS]."""
    b_heads = tl.broadcast_to(b_group[:, None], [b_group.shape[0], HEADS])
    return tl.reshape(b_heads, [b_group.shape[0] * HEADS])


@triton.jit
def pair_rows(b_tiles, COUNT: tl.constexpr):
    """COUNT / 2 tiles from COUNT: the rows of tiles i and i + COUNT / 2 in turns."""
    b_pairs = ()
    for i in tl.static_range(COUNT // 2):
        b_pair = tl.permute(tl.join(b_tiles[i], b_tiles[i + COUNT // 2]), (0, 2, 1))  # [ROWS, 2, BLOCK]
        b_pairs += (tl.reshape(b_pair, [2 * b_tiles[0].shape[0], b_tiles[0].shape[1]]),)
    return b_pairs


@triton.jit
def tokens_of_groups(b_tiles, GROUP: tl.constexpr):
    """One tile [ROWS · GROUP, BLOCK], a group's tokens side by side, from one [ROWS, BLOCK] for each of its tokens."""
    if GROUP >= 8:
        b_tiles = pair_rows(b_tiles, 8)
    if GROUP >= 4:
        b_tiles = pair_rows(b_tiles, 4)
    if GROUP >= 2:
        b_tiles = pair_rows(b_tiles, 2)
    return b_tiles[0]


@triton.jit
def span_of(
    x,
    p_taps,
    group,
    o_c,
    C: tl.constexpr,
    S: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Depthwise convolution of channels o_c, in x's dtype: [ROWS · GROUP, BLOCK_C].

    Row j of the GROUP + S - 1 that a group reaches gives tap j - r to token r: each is loaded once, and no more than
    GROUP taps are in use at a time.
    """
    p_x, stride = x
    b_position, b_length, _ = group
    LEFT: tl.constexpr = (S - 1) // 2
    b_taps = ()
    b_sums = (tl.full([ROWS, BLOCK_C], 0.0, WIDE),) * GROUP
    for j in tl.static_range(S + GROUP - 1):
        b_read = b_position + (j - LEFT)  # [ROWS]
        b_row = load_channels(
            p_x + (j - LEFT) * stride, (b_read >= 0) & (b_read < b_length), o_c, C, BLOCK_C, WIDE
        )  # [ROWS, BLOCK_C]
        if j < S:
            if C % BLOCK_C == 0:
                b_tap = tl.load(p_taps + j * C + o_c)
            else:
                b_tap = tl.load(p_taps + j * C + o_c, mask=o_c < C, other=0.0)
            b_taps += (b_tap.to(WIDE)[None, :],)
        b_added = ()
        for r in tl.static_range(GROUP):
            if j >= r and j - r < S:
                b_added += (b_sums[r] + b_taps[j - r] * b_row,)
            else:
                b_added += (b_sums[r],)
        b_sums = b_added
    b_tokens = ()
    for r in tl.static_range(GROUP):
        b_tokens += (b_sums[r].to(p_x.dtype.element_ty),)
    return tokens_of_groups(b_tokens, GROUP)


@triton.jit
def load_weight(p, stride, o_out, o_in, OUT: tl.constexpr, IN: tl.constexpr, WHOLE: tl.constexpr):
    """Rows o_out and columns o_in of a weight [OUT, IN], zeros past its ends; WHOLE: they all lie inside."""
    p_weight = p + o_out.to(tl.int64)[:, None] * stride + o_in[None, :]
    if WHOLE:
        return tl.load(p_weight)
    else:
        return tl.load(p_weight, mask=(o_out < OUT)[:, None] & (o_in < IN)[None, :], other=0.0)


@triton.jit
def load_bias(p_bias, o, SIZE: tl.constexpr, WIDE: tl.constexpr):
    return tl.load(p_bias + o, mask=o < SIZE, other=0.0).to(WIDE)[None, :]


@triton.jit
def at_columns(p_row, stride_h, o_a, D: tl.constexpr):
    """Addresses of columns o_a = head · D + channel of the rows of a tensor [B, T, H, D]."""
    return p_row[:, None] + ((o_a // D) * stride_h + o_a % D)[None, :]


@triton.jit(do_not_specialize=_VARYING + names("x", "query", "values"))
def span_conv_fwd_kernel(
    p_out,
    p_logits,
    p_product,
    p_x,
    p_query,
    p_values,
    p_taps,
    p_pointwise,
    p_pointwise_bias,
    p_kernel,
    p_kernel_bias,
    p_lengths,
    p_cu_seqlens,
    batches: tl.int32,
    tokens: tl.int32,
    stride_pointwise: tl.int64,
    stride_kernel: tl.int64,
    stride_x_b: tl.int64,
    stride_x_t: tl.int64,
    stride_x_h: tl.int64,
    stride_query_b: tl.int64,
    stride_query_t: tl.int64,
    stride_query_h: tl.int64,
    stride_values_b: tl.int64,
    stride_values_t: tl.int64,
    stride_values_h: tl.int64,
    UNIT: tl.constexpr,
    C: tl.constexpr,
    S: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCKS: tl.constexpr,
    PARTS: tl.constexpr,
    HEADS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes logits [B, T, H, K]; product [B, T, H, D], unless it is None; and out [B, T, H, D], unless it is None.

    Taps are the depthwise weight tap by tap, [S, C]. p_product, p_logits and p_out are contiguous.
    """
    A: tl.constexpr = H * D
    PASS: tl.constexpr = BLOCK_A * BLOCKS
    i_batch, b_token, group = locate_groups(program_index(), p_lengths, p_cu_seqlens, batches, tokens, GROUP, ROWS)
    b_position, b_length, b_room = group
    dtype = p_x.dtype.element_ty
    x = rows_at(p_x, (i_batch, b_token, 0), stride_x_b, stride_x_t, stride_x_h, UNIT)
    p_first_query, query_step = rows_at(
        p_query, (i_batch, b_token, 0), stride_query_b, stride_query_t, stride_query_h, UNIT
    )
    b_first = i_batch * tokens + b_token  # [ROWS]: number of the group's first token among all
    # what is known of groups, for each of their tokens [ROWS · GROUP]
    b_number = per_token(b_first, 1, GROUP)
    m_real = per_token(b_position - b_length, 1, GROUP) < 0
    m_room = per_token(b_position - b_room, 1, GROUP) < 0

    b_logits = ()
    for i in tl.static_range(len(PARTS)):
        b_logits += (tl.full([ROWS * GROUP, PARTS[i][1]], 0.0, WIDE),)
    for i_pass in range(0, A, PASS):
        b_products = (tl.full([ROWS * GROUP, BLOCK_A], 0.0, WIDE),) * BLOCKS
        for i_c in range(0, C, BLOCK_C):
            o_c = i_c + tl.arange(0, BLOCK_C)  # [BLOCK_C]
            b_span = span_of(x, p_taps, group, o_c, C, S, GROUP, ROWS, BLOCK_C, WIDE)  # [ROWS · GROUP, BLOCK_C]
            b_added = ()
            for i in tl.static_range(BLOCKS):
                o_a = i_pass + i * BLOCK_A + tl.arange(0, BLOCK_A)  # [BLOCK_A]
                b_weight = load_weight(
                    p_pointwise, stride_pointwise * UNIT, o_a, o_c, A, C, A % PASS == 0 and C % BLOCK_C == 0
                )  # [BLOCK_A, BLOCK_C]
                b_added += (add_product(b_products[i], b_span, b_weight.T, WIDE),)
            b_products = b_added
        for i in tl.static_range(BLOCKS):
            o_a = i_pass + i * BLOCK_A + tl.arange(0, BLOCK_A)  # [BLOCK_A]
            b_product = b_products[i]  # [ROWS · GROUP, BLOCK_A]
            if p_pointwise_bias is not None:
                b_product += load_bias(p_pointwise_bias, o_a, A, WIDE)
            m_read = m_real[:, None]
            if A % PASS != 0:
                m_read = m_read & (o_a < A)[None, :]
            p_query_token = tl.reshape(
                p_first_query[:, None] + tl.arange(0, GROUP)[None, :] * query_step, [ROWS * GROUP]
            )
            b_query = tl.load(at_columns(p_query_token, stride_query_h * UNIT, o_a, D), mask=m_read, other=0.0)
            if p_product is not None:
                m_write = m_room[:, None]
                if A % PASS != 0:
                    m_write = m_write & (o_a < A)[None, :]
                b_kept = tl.where(m_real[:, None], b_product, 0.0).to(dtype)
                tl.store(p_product + (b_number * A)[:, None] + o_a[None, :], b_kept, mask=m_write)
            b_key = (b_product * b_query.to(WIDE)).to(dtype)
            b_added = ()
            for j in tl.static_range(len(PARTS)):
                o_l = PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
                b_weight = load_weight(p_kernel, stride_kernel * UNIT, o_l, o_a, H * K, A, False)  # [part, BLOCK_A]
                b_added += (add_product(b_logits[j], b_key, b_weight.T, WIDE),)
            b_logits = b_added
    for i in tl.static_range(len(PARTS)):
        o_l = PARTS[i][0] + tl.arange(0, PARTS[i][1])  # [part]
        b_part = b_logits[i]  # [ROWS · GROUP, part]
        if p_kernel_bias is not None:
            b_part += load_bias(p_kernel_bias, o_l, H * K, WIDE)
        b_part = tl.where(m_real[:, None], b_part, 0.0).to(dtype)
        m_write = m_room[:, None] & (o_l < H * K)[None, :]
        tl.store(p_logits + (b_number * (H * K))[:, None] + o_l[None, :], b_part, mask=m_write)

    if p_out is not None:
        tl.debug_barrier()  # what other threads wrote of the logits is read from here on
        for i_head in range(0, H, HEADS):
            # A row each for a group and head, the heads of a group side by side.
            o_head = i_head + tl.arange(0, HEADS)  # [HEADS]
            b_head = tl.reshape(tl.broadcast_to(o_head[None, :], [ROWS, HEADS]), [ROWS * HEADS])
            m_head = b_head < H
            place = (per_head(i_batch, HEADS), per_head(b_token, HEADS), b_head)
            group_of_head = (
                per_head(b_position, HEADS),
                tl.where(m_head, per_head(b_length, HEADS), 0),
                tl.where(m_head, per_head(b_room, HEADS), 0),
            )
            out = rows_at(p_out, place, tokens.to(tl.int64) * A, A, D, 1)
            values = rows_at(p_values, place, stride_values_b, stride_values_t, stride_values_h, UNIT)
            logits = rows_at(p_logits, place, tokens.to(tl.int64) * (H * K), H * K, K, 1)
            convolve_forward(
                out, values, logits, None, group_of_head, True, (K - 1) // 2, D, K, K, GROUP, ROWS * HEADS, CHUNK, WIDE
            )


@triton.jit(do_not_specialize=_VARYING + names("query"))
def span_conv_bwd_kernel(
    p_d_query,
    p_d_product,
    p_shares,
    p_d_logits,
    p_product,
    p_query,
    p_kernel,
    p_lengths,
    batches: tl.int32,
    tokens: tl.int32,
    chunks: tl.int32,
    stride_kernel: tl.int64,
    stride_query_b: tl.int64,
    stride_query_t: tl.int64,
    stride_query_h: tl.int64,
    UNIT: tl.constexpr,
    H: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    TILE: tl.constexpr,
    BLOCK_A: tl.constexpr,
    PARTS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes d_query and d_product [B, T, H, D], and shares [chunks, H·K·H·D + H·D + H·K]: see `span_conv_sum_kernel`.

    shares may be None. All tensors but query and kernel are contiguous; packed sequences are one row of tokens.
    """
    A: tl.constexpr = H * D
    L: tl.constexpr = H * K
    WHOLE: tl.constexpr = A % BLOCK_A == 0
    blocks = tl.cdiv(A, BLOCK_A)
    i_program = program_index()
    i_chunk = i_program // blocks
    i_block = i_program % blocks
    o_a = i_block * BLOCK_A + tl.arange(0, BLOCK_A)  # [BLOCK_A]
    dtype = p_product.dtype.element_ty

    b_weights = ()
    b_d_weights = ()
    b_d_kernel_biases = ()
    for j in tl.static_range(len(PARTS)):
        o_l = PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
        b_weights += (load_weight(p_kernel, stride_kernel * UNIT, o_l, o_a, L, A, False),)  # [part, BLOCK_A]
        b_d_weights += (tl.full([PARTS[j][1], BLOCK_A], 0.0, WIDE),)
        b_d_kernel_biases += (tl.full([PARTS[j][1]], 0.0, WIDE),)
    b_d_bias = tl.full([BLOCK_A], 0.0, WIDE)
    tiles = (batches.to(tl.int64) * tokens + TILE - 1) // TILE
    for i in range(0, tile_count(i_chunk, tiles, chunks)):
        # 64-bit divisions once a tile, 32-bit ones a token
        i_first = (i_chunk + i * chunks.to(tl.int64)) * TILE
        i_row = (i_first % tokens).to(tl.int32) + tl.arange(0, TILE)  # [TILE]
        i_batch = i_first // tokens + i_row // tokens  # [TILE]
        i_token = (i_row % tokens).to(tl.int64)
        m_room = i_batch < batches
        m_real = m_room
        if p_lengths is not None:
            m_real = m_real & (i_token < tl.load(p_lengths + i_batch, mask=m_room, other=0))
        b_number = i_first + tl.arange(0, TILE)  # [TILE]
        m_read, m_write = m_real[:, None], m_room[:, None]
        if not WHOLE:
            m_read, m_write = m_read & (o_a < A)[None, :], m_write & (o_a < A)[None, :]
        p_place = (b_number * A)[:, None] + o_a[None, :]
        b_product = tl.load(p_product + p_place, mask=m_read, other=0.0).to(WIDE)  # [TILE, BLOCK_A]
        p_token, _ = rows_at(p_query, (i_batch, i_token, 0), stride_query_b, stride_query_t, stride_query_h, UNIT)
        b_query = tl.load(at_columns(p_token, stride_query_h * UNIT, o_a, D), mask=m_read, other=0.0).to(WIDE)
        b_key = (b_product * b_query).to(dtype)
        b_d_key = tl.full([TILE, BLOCK_A], 0.0, WIDE)
        b_added = ()
        b_added_biases = ()
        for j in tl.static_range(len(PARTS)):
            o_l = PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
            b_d_logits = tl.load(
                p_d_logits + (b_number * L)[:, None] + o_l[None, :],
                mask=m_real[:, None] & (o_l < L)[None, :],
                other=0.0,
            )  # [TILE, part]
            b_d_key = add_product(b_d_key, b_d_logits, b_weights[j], WIDE)
            if p_shares is not None:
                b_added += (add_product(b_d_weights[j], b_d_logits.T, b_key, WIDE),)
                b_added_biases += (b_d_kernel_biases[j] + tl.sum(b_d_logits.to(WIDE), axis=0),)
        b_d_product = b_d_key * b_query
        if p_shares is not None:
            b_d_weights = b_added
            b_d_kernel_biases = b_added_biases
            b_d_bias += tl.sum(b_d_product, axis=0)
        tl.store(p_d_query + p_place, (b_d_key * b_product).to(dtype), mask=m_write)
        tl.store(p_d_product + p_place, b_d_product.to(dtype), mask=m_write)

    if p_shares is not None:
        if i_chunk < chunks:
            p_share = p_shares + i_chunk.to(tl.int64) * (L * A + A + L)
            for j in tl.static_range(len(PARTS)):
                o_l = PARTS[j][0] + tl.arange(0, PARTS[j][1])  # [part]
                m_weight = (o_l < L)[:, None] & (o_a < A)[None, :]
                tl.store(p_share + o_l[:, None] * A + o_a[None, :], b_d_weights[j], mask=m_weight)
                if i_block == 0:
                    tl.store(p_share + L * A + A + o_l, b_d_kernel_biases[j], mask=o_l < L)
            tl.store(p_share + L * A + o_a, b_d_bias, mask=o_a < A)


@triton.jit(do_not_specialize=["chunks"])
def span_conv_sum_kernel(
    p_d_kernel,
    p_d_pointwise_bias,
    p_d_kernel_bias,
    p_shares,
    chunks: tl.int32,
    A: tl.constexpr,
    L: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Adds up the shares. A chunk's are d_kernel [H·K, H·D], d_pointwise_bias [H·D] and d_kernel_bias [H·K] in a row.

    Of the three that it writes any may be None.
    """
    WIDTH: tl.constexpr = L * A + A + L
    o = program_index() * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    b_sums = tl.zeros([ROWS, CHUNK], dtype=WIDE)
    for i_first in range(0, chunks, ROWS):
        i_chunk = i_first + tl.arange(0, ROWS)  # [ROWS]
        b_sums += load_channels(p_shares + i_chunk.to(tl.int64) * WIDTH, i_chunk < chunks, o, WIDTH, CHUNK, WIDE)
    b_sum = tl.sum(b_sums, axis=0)  # [CHUNK]
    if p_d_kernel is not None:
        tl.store(p_d_kernel + o, b_sum.to(p_d_kernel.dtype.element_ty), mask=o < L * A)
    if p_d_pointwise_bias is not None:
        m_bias = (o >= L * A) & (o < L * A + A)
        tl.store(p_d_pointwise_bias + (o - L * A), b_sum.to(p_d_pointwise_bias.dtype.element_ty), mask=m_bias)
    if p_d_kernel_bias is not None:
        m_bias = (o >= L * A + A) & (o < WIDTH)
        tl.store(p_d_kernel_bias + (o - (L * A + A)), b_sum.to(p_d_kernel_bias.dtype.element_ty), mask=m_bias)
