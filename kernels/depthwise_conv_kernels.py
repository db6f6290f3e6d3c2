"""Triton kernels of `depthwise_conv`: one kernel a channel, the same at every token, forward and backward.

A program takes CHUNK channels, of which a thread has two (one in fp64), and keeps their kernels in registers while it
walks over groups of GROUP neighbouring tokens of one sequence. It loads each row once for all tokens of a group that it
reaches: GROUP + K - 1 rows where token by token it would be GROUP · K.

The tokens are cut into tiles of SPAN groups that follow each other, and the tiles are dealt out to `chunks` rows of
programs: chunk i has tiles i, i + chunks, … All that depends on sizes alone, so results are the same bits in every run.

Bytes moved, N tokens, s bytes an element; in brackets N = 32·512, C 768, bf16:
    forward   s·N·C·2: x in, out out                    [50.3 MB]
    backward  s·N·C·3: grad and x in, d_x out           [75.5 MB]
Backward reads each input once, for the gradients of x and of the kernels meet the same window of grad at a token:

    d_x[t]      = Σ_k weight[k] · grad[t + left - k]
    d_weight[k] = Σ_t x[t] · grad[t + left - k]

Each program adds up its share of d_weight and d_bias; a second kernel adds up the shares, in order.

A window wider than TAPS takes several rounds over its taps, TAPS at a time.

What the functions here hand each other:
    rows    (pointers [1], stride): where the row of the group's first token lies, and how far it is to the next token's
    group   (b_position, b_length, b_room), each [1]: see `sequences.locate_groups`
    place   (o_c, b_taps): the program's channels [CHUNK]; their kernels, entry k [1, CHUNK], None in several rounds
WIDE is the dtype of sums; UNIT is explained in `strides`.
"""

import triton
import triton.language as tl

from .channels import load_channels, store_channels
from .launch import program_index
from .sequences import locate_groups
from .strides import rows_at

# Sizes of batches and addresses that no code depends on: no launch may compile a kernel anew for them.
_VARYING = ["batches", "tokens", "tiles", "chunks", "p_lengths", "p_cu_seqlens", "p_bias", "stride_weight"]


def _strides(*tensors: str) -> list[str]:
    return [f"stride_{tensor}_{axis}" for tensor in tensors for axis in "bt"]


@triton.jit
def tile_count(i_chunk, tiles, chunks):
    """How many tiles the chunk has; none for the programs too many of a grid."""
    return tl.where(i_chunk < chunks, (tiles - i_chunk + chunks - 1) // chunks, 0)


@triton.jit
def load_taps(
    p_weight,
    stride_weight,
    o_c,
    i_round,
    REVERSED: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Taps i_round + k of the channels' kernels, counted from the last one if REVERSED: entry k is [1, CHUNK].

    Past the last tap it comes again: `add_taps` leaves it out.
    """
    p_channel = p_weight + o_c * stride_weight  # [CHUNK]
    b_taps = ()
    for k in tl.static_range(TAPS):
        i_tap = i_round + k
        if K % TAPS != 0:
            i_tap = tl.minimum(i_tap, K - 1)
        if REVERSED:
            i_tap = K - 1 - i_tap
        b_taps += (tl.load(p_channel + i_tap, mask=o_c < C, other=0.0).to(WIDE)[None, :],)
    return b_taps


@triton.jit
def rows_of(p, i_batch, b_token, stride_b, stride_t, UNIT: tl.constexpr, STEP: tl.constexpr):
    """`rows` of a tensor from a token on. STEP: how far it is to the next token's row if that is a constant, else 0."""
    p_row, stride = rows_at(p, (i_batch, b_token, 0), stride_b, stride_t, 0, UNIT)
    if STEP == 0:
        return p_row, stride
    else:
        return p + i_batch * stride_b * UNIT + b_token * STEP, STEP


@triton.jit
def load_rows(
    rows,
    group,
    i_first,
    o_c,
    COUNT: tl.constexpr,
    C: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Channels o_c of COUNT tokens from the group's token i_first on, zeros outside its sequence: each [1, CHUNK]."""
    p_rows, stride = rows
    b_position, b_length, _ = group
    b_rows = ()
    for i in tl.static_range(COUNT):
        b_read = b_position + (i_first + i)  # [1]
        m_read = b_read.to(tl.uint32) < b_length.to(tl.uint32)  # one comparison: below 0 is far above
        b_rows += (load_channels(p_rows + (i_first + i) * stride, m_read, o_c, C, CHUNK, WIDE),)
    return b_rows


@triton.jit
def add_taps(b_sum, b_rows, b_taps, r: tl.constexpr, i_round, K: tl.constexpr, TAPS: tl.constexpr):
    """b_sum + Σ_k b_taps[k] · b_rows[r + k]: [1, CHUNK]."""
    for k in tl.static_range(TAPS):
        b_product = b_taps[k] * b_rows[r + k]
        if K % TAPS != 0:
            b_product = tl.where(i_round + k < K, b_product, 0.0)
        b_sum += b_product
    return b_sum


@triton.jit
def store_token(to, b_sum, group, PADDED: tl.constexpr, r: tl.constexpr, o_c, C: tl.constexpr, CHUNK: tl.constexpr):
    """Writes the group's token r, if there is room for it; zeros past the sequence's length if rows are PADDED."""
    p_to, stride = to
    b_position, b_length, b_room = group
    if PADDED:
        b_sum = tl.where((b_position + r < b_length)[:, None], b_sum, 0.0)  # [1, CHUNK]
    store_channels(p_to + r * stride, b_sum, b_position + r < b_room, o_c, C, CHUNK)


@triton.jit
def add_products(b_gradients, b_x, b_rows, r: tl.constexpr, TAPS: tl.constexpr):
    """Entry j with b_x · b_rows[r + j] added."""
    b_added = ()
    for j in tl.static_range(TAPS):
        b_added += (b_gradients[j] + b_x * b_rows[r + j],)
    return b_added


@triton.jit(do_not_specialize=_VARYING + _strides("out", "x"))
def depthwise_conv_fwd_kernel(
    p_out,
    p_x,
    p_weight,
    p_bias,
    p_lengths,
    p_cu_seqlens,
    batches: tl.int32,
    tokens: tl.int32,
    tiles: tl.int32,
    chunks: tl.int32,
    stride_weight: tl.int64,
    stride_out_b: tl.int64,
    stride_out_t: tl.int64,
    stride_x_b: tl.int64,
    stride_x_t: tl.int64,
    UNIT: tl.constexpr,
    STEP: tl.constexpr,
    REVERSED: tl.constexpr,
    LEFT: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    SPAN: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes out [B, T, C], at token t bias + Σ_k weight[k] · x[t + k - LEFT].

    REVERSED, it takes the kernels' last tap first: with K - 1 - LEFT for LEFT, and the gradient of out for x, what it
    writes is the gradient of x.
    """
    i_program = program_index()
    i_chunk = i_program // tl.cdiv(C, CHUNK)
    o_c = i_program % tl.cdiv(C, CHUNK) * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    b_start = tl.zeros([1, CHUNK], dtype=WIDE)
    if p_bias is not None:
        b_start += tl.load(p_bias + o_c, mask=o_c < C, other=0.0).to(WIDE)[None, :]
    b_all_taps = None
    if K <= TAPS:
        b_all_taps = load_taps(p_weight, stride_weight, o_c, 0, REVERSED, C, K, TAPS, WIDE)

    for i in range(0, tile_count(i_chunk, tiles, chunks)):
        for j in range(0, SPAN):
            i_group = (i_chunk + i * chunks) * SPAN + j
            i_batch, b_token, group = locate_groups(i_group, p_lengths, p_cu_seqlens, batches, tokens, GROUP, 1)
            out = rows_of(p_out, i_batch, b_token, stride_out_b, stride_out_t, UNIT, STEP)
            x = rows_of(p_x, i_batch, b_token, stride_x_b, stride_x_t, UNIT, STEP)
            b_sums = (b_start,) * GROUP
            for i_round in range(0, K, TAPS):
                if K <= TAPS:
                    b_taps = b_all_taps
                else:
                    b_taps = load_taps(p_weight, stride_weight, o_c, i_round, REVERSED, C, K, TAPS, WIDE)
                b_rows = load_rows(x, group, i_round - LEFT, o_c, TAPS + GROUP - 1, C, CHUNK, WIDE)
                b_added = ()
                for r in tl.static_range(GROUP):
                    b_added += (add_taps(b_sums[r], b_rows, b_taps, r, i_round, K, TAPS),)
                b_sums = b_added
            for r in tl.static_range(GROUP):
                store_token(out, b_sums[r], group, p_lengths is not None, r, o_c, C, CHUNK)


@triton.jit(do_not_specialize=_VARYING + _strides("d_x", "grad", "x"))
def depthwise_conv_bwd_kernel(
    p_d_x,
    p_shares,
    p_grad,
    p_x,
    p_weight,
    p_lengths,
    p_cu_seqlens,
    batches: tl.int32,
    tokens: tl.int32,
    tiles: tl.int32,
    chunks: tl.int32,
    stride_weight: tl.int64,
    stride_d_x_b: tl.int64,
    stride_d_x_t: tl.int64,
    stride_grad_b: tl.int64,
    stride_grad_t: tl.int64,
    stride_x_b: tl.int64,
    stride_x_t: tl.int64,
    UNIT: tl.constexpr,
    STEP: tl.constexpr,
    LEFT: tl.constexpr,
    C: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    SPAN: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes each chunk's share of d_weight and, as one tap more, of d_bias: [chunks, K + 1, C]; and d_x [B, T, C].

    d_x is None where it is not wanted, and where the taps take several rounds, which are programs of their own here.
    """
    steps = tl.cdiv(C, CHUNK)
    rounds = tl.cdiv(K, TAPS)
    i_program = program_index()
    i_chunk = i_program // (steps * rounds)
    i_round = i_program // steps % rounds * TAPS
    o_c = i_program % steps * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    if p_d_x is not None:
        b_taps = load_taps(p_weight, stride_weight, o_c, 0, True, C, K, TAPS, WIDE)

    b_zeros = tl.zeros([1, CHUNK], dtype=WIDE)
    b_gradients = (b_zeros,) * TAPS  # entry j: of tap i_round + TAPS - 1 - j
    b_d_bias = b_zeros
    for i in range(0, tile_count(i_chunk, tiles, chunks)):
        for j in range(0, SPAN):
            i_group = (i_chunk + i * chunks) * SPAN + j
            i_batch, b_token, group = locate_groups(i_group, p_lengths, p_cu_seqlens, batches, tokens, GROUP, 1)
            grad = rows_of(p_grad, i_batch, b_token, stride_grad_b, stride_grad_t, UNIT, STEP)
            x = rows_of(p_x, i_batch, b_token, stride_x_b, stride_x_t, UNIT, STEP)
            b_rows = load_rows(grad, group, LEFT - i_round - (TAPS - 1), o_c, TAPS + GROUP - 1, C, CHUNK, WIDE)
            b_x = load_rows(x, group, 0, o_c, GROUP, C, CHUNK, WIDE)
            if K <= TAPS:
                b_own = b_rows[TAPS - 1 - LEFT : TAPS - 1 - LEFT + GROUP]
            else:
                b_own = load_rows(grad, group, 0, o_c, GROUP, C, CHUNK, WIDE)
            for r in tl.static_range(GROUP):
                if p_d_x is not None:
                    d_x = rows_of(p_d_x, i_batch, b_token, stride_d_x_b, stride_d_x_t, UNIT, STEP)
                    b_d_x = add_taps(b_zeros, b_rows, b_taps, r, 0, K, TAPS)
                    store_token(d_x, b_d_x, group, p_lengths is not None, r, o_c, C, CHUNK)
                b_gradients = add_products(b_gradients, b_x[r], b_rows, r, TAPS)
                b_d_bias += b_own[r]

    if i_chunk < chunks:
        p_share = p_shares + (i_chunk.to(tl.int64) * (K + 1) * C + o_c)[None, :]  # [1, CHUNK]
        m_share = (o_c < C)[None, :]
        for j in tl.static_range(TAPS):
            i_tap = i_round + TAPS - 1 - j
            if i_tap < K:
                tl.store(p_share + i_tap * C, b_gradients[j], mask=m_share)
        if i_round == 0:
            tl.store(p_share + K * C, b_d_bias, mask=m_share)


@triton.jit(do_not_specialize=["chunks"])
def depthwise_conv_sum_kernel(
    p_d_weight,
    p_d_bias,
    p_shares,
    chunks: tl.int32,
    C: tl.constexpr,
    K: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Adds up the shares [chunks, K + 1, C] and writes d_weight [C, K] and d_bias [C], each None where not wanted."""
    i_program = program_index()
    i_tap = i_program // tl.cdiv(C, CHUNK)
    o_c = i_program % tl.cdiv(C, CHUNK) * CHUNK + tl.arange(0, CHUNK)  # [CHUNK]
    count = tl.where(i_tap <= K, chunks, 0)  # none for the programs too many of a grid
    b_sums = tl.zeros([ROWS, CHUNK], dtype=WIDE)
    for i_first in range(0, count, ROWS):
        i_chunk = i_first + tl.arange(0, ROWS)  # [ROWS]
        p_share = p_shares + (i_chunk.to(tl.int64) * (K + 1) + i_tap) * C  # [ROWS]
        b_sums += load_channels(p_share, i_chunk < chunks, o_c, C, CHUNK, WIDE)
    b_sum = tl.sum(b_sums, axis=0)  # [CHUNK]
    if p_d_weight is not None:
        if i_tap < K:
            p_tap = p_d_weight + o_c.to(tl.int64) * K + i_tap
            tl.store(p_tap, b_sum.to(p_d_weight.dtype.element_ty), mask=o_c < C)
    if p_d_bias is not None:
        if i_tap == K:
            tl.store(p_d_bias + o_c, b_sum.to(p_d_bias.dtype.element_ty), mask=o_c < C)
