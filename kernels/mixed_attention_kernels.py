"""Triton kernels of `mixed_attention`: attention heads and light convolution heads in one launch.

Some programs of a launch attend, the others convolve: work bound by arithmetic beside work bound by memory. Those that
attend come first, for they run longest; those that convolve are short and fill the gaps that are left at the end.

A program that attends holds a tile of one head and one sequence and walks the tiles on the other side (Dao et al. 2022,
"FlashAttention"; Dao 2023, "FlashAttention-2"):

    forward             a tile of queries walks the keys: an online softmax, the weighted values added up beside it
    backward of query   a tile of queries walks the keys: d_query, and Σ grad · out of its own rows
    backward of key     a tile of keys walks the queries: d_key and d_value

so nothing of size T² is stored, and each gradient is added up by one program, in one order. The programs that convolve
backward are part of the second launch.

Scores are s = query · key · scale + bias - top, where top is the largest bias of the sequence's keys: softmax does not
change, and what remains of masks such as -3e38 everywhere is exact. Exponentials are those of base 2; _LOG2E · s is its
exponent. lse is ln Σ exp(s) of a query, 0 where it may attend nothing.

Rows past a sequence's length are read as zeros. Such keys get the bias -inf; such queries change nothing, for the
gradient of their output is zero.

What the functions here hand each other:
    rows     (pointer, stride): see `strides.rows_at`, of the sequence's first token
    tile     (i_position, length, room): see `tiles.locate_tile`
    bias     (pointer, stride, top) of the sequence's keys; empty for no bias
    draw     see `dropout.keep_mask`; empty for no dropout
    scales   (factor of the scores' exponents, factor of the gradients, dropped); query or key has the factor's sign
    parts    a row's channels, a tuple of [ROWS, part]: see `parts`
"""

import triton
import triton.language as tl

from .dropout import keep_mask, keep_scale
from .launch import program_index
from .light_conv_kernels import convolve_backward, convolve_forward, rows_of_terms
from .parts import load_parts, store_parts
from .products import add_product
from .sequences import locate_groups
from .strides import names, rows_at
from .tiles import locate_tile

_LOG2E = tl.constexpr(1.4426950408889634)

# Sizes of batches and addresses of what is read a number at a time: no launch may compile a kernel anew for them.
_VARYING = [
    *["p_key_bias", "p_lengths", "p_cu_seqlens", "p_seed", "dropped", "batches", "tokens", "heads"],
    *["stride_key_bias_b", "stride_key_bias_t"],
]


@triton.jit
def score_options(
    p_key_bias,
    p_seed,
    scale,
    dropped,
    stride_b,
    stride_t,
    i_sequence,
    place,
    length,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """`bias`, `draw` and `scales` of the sequence and head at `place`."""
    i_batch, i_token, i_head = place
    scale = tl.full([], scale, WIDE)
    exponent_scale = tl.abs(scale) * _LOG2E
    bias = ()
    if p_key_bias is not None:
        p_bias = p_key_bias + i_batch * stride_b + i_token * stride_t
        b_top = tl.full([KEYS], float("-inf"), WIDE)
        for i_key in range(0, length, KEYS):
            o_key = i_key + tl.arange(0, KEYS)  # [KEYS]
            b_bias = tl.load(p_bias + o_key * stride_t, mask=o_key < length, other=float("-inf")).to(WIDE)
            b_top = tl.maximum(b_top, b_bias)
        top = tl.max(b_top, axis=0)
        # Beside a bias of -1e30 and less scores are lost to rounding: they count as 0.
        exponent_scale = tl.where(top < -1e30, 0.0, exponent_scale)
        bias = (p_bias, stride_t, tl.where(top == float("-inf"), 0.0, top))
    draw = ()
    if p_seed is not None:
        draw = (tl.load(p_seed), i_sequence, i_head)
    return bias, draw, (exponent_scale, scale, dropped)


@triton.jit
def with_sign_of(scale, b_parts):
    """The parts, negated for a negative scale: the largest score is then that of the largest product."""
    b_signed = ()
    for i in tl.static_range(len(b_parts)):
        b_signed += ((b_parts[i] * tl.where(scale < 0, -1.0, 1.0)).to(b_parts[i].dtype),)
    return b_signed


@triton.jit
def exponents_of_bias(bias, o_key, length, WIDE: tl.constexpr):
    """What the bias of keys o_key adds to their scores' exponents, -inf past the sequence: [KEYS]."""
    m_key = o_key < length
    if len(bias) == 0:
        return tl.where(m_key, 0.0, float("-inf")).to(WIDE)
    else:
        p_bias, stride, top = bias
        return (tl.load(p_bias + o_key * stride, mask=m_key, other=float("-inf")).to(WIDE) - top) * _LOG2E


@triton.jit
def products(b_left, b_right, WIDE: tl.constexpr):
    """Σ over channels of left · right for all pairs of rows: [rows of left, rows of right]."""
    b_sum = None
    for i in tl.static_range(len(b_left)):
        b_sum = add_product(b_sum, b_left[i], tl.trans(b_right[i]), WIDE)
    return b_sum


@triton.jit
def add_products(b_sums, b_weights, b_parts, WIDE: tl.constexpr):
    """sums + weights · rows, part by part."""
    b_weights = b_weights.to(b_parts[0].dtype)
    b_added = ()
    for i in tl.static_range(len(b_sums)):
        b_added += (add_product(b_sums[i], b_weights, b_parts[i], WIDE),)
    return b_added


@triton.jit
def multiplied(b_parts, b_factor):
    """The parts' rows times a number each [ROWS], or all times one number."""
    b_products = ()
    for i in tl.static_range(len(b_parts)):
        b_products += (b_parts[i] * b_factor,)
    return b_products


@triton.jit
def zeros(ROWS: tl.constexpr, PARTS: tl.constexpr, WIDE: tl.constexpr):
    b_parts = ()
    for i in tl.static_range(len(PARTS)):
        b_parts += (tl.full([ROWS, PARTS[i][1]], 0.0, WIDE),)
    return b_parts


@triton.jit
def zeros_outside(m_row, b_parts):
    b_masked = ()
    for i in tl.static_range(len(b_parts)):
        b_masked += (tl.where(m_row[:, None], b_parts[i], 0.0),)
    return b_masked


# -- forward -----------------------------------------------------------------------------------------------------------


@triton.jit
def attend(
    out,
    lse,
    queries,
    keys,
    values,
    bias,
    draw,
    scales,
    tile,
    D: tl.constexpr,
    PARTS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program's work forward: writes the rows `out` and lse."""
    i_query, length, room = tile
    exponent_scale, scale, dropped = scales
    o_query = i_query + tl.arange(0, QUERIES)  # [QUERIES]
    m_query = o_query < length
    b_queries = with_sign_of(scale, load_parts(queries, o_query, m_query, D, PARTS))
    b_most = tl.full([QUERIES], float("-inf"), WIDE)  # largest exponent so far
    b_total = tl.full([QUERIES], 0.0, WIDE)  # sum of exponentials so far
    b_sums = zeros(QUERIES, PARTS, WIDE)
    for i_key in range(0, tl.where(i_query < length, length, 0), KEYS):
        o_key = i_key + tl.arange(0, KEYS)  # [KEYS]
        b_keys = load_parts(keys, o_key, o_key < length, D, PARTS)
        b_bias = exponents_of_bias(bias, o_key, length, WIDE)
        b_exponents = products(b_queries, b_keys, WIDE) * exponent_scale + b_bias[None, :]  # [QUERIES, KEYS]
        b_largest = tl.maximum(b_most, tl.max(b_exponents, axis=1))  # [QUERIES]
        b_base = tl.where(b_largest == float("-inf"), 0.0, b_largest)  # any number will do: exponentials are 0
        b_weights = tl.exp2(b_exponents - b_base[:, None])  # [QUERIES, KEYS]
        b_shrink = tl.exp2(b_most - b_base)  # [QUERIES]
        b_most = b_largest
        b_total = b_total * b_shrink + tl.sum(b_weights, axis=1)
        if len(draw) > 0:
            b_weights = tl.where(keep_mask(draw, dropped, i_query, i_key, QUERIES, KEYS, False), b_weights, 0.0)
        b_values = load_parts(values, o_key, o_key < length, D, PARTS)
        b_sums = add_products(multiplied(b_sums, b_shrink[:, None]), b_weights, b_values, WIDE)
    b_nothing = b_total == 0.0  # [QUERIES]
    b_share = tl.where(b_nothing, 0.0, 1.0 / tl.where(b_nothing, 1.0, b_total))  # [QUERIES]
    if len(draw) > 0:
        b_share *= keep_scale(dropped, WIDE)
    m_room = o_query < room
    store_parts(out, o_query, m_room, zeros_outside(m_query, multiplied(b_sums, b_share[:, None])), D, PARTS)
    b_lse = (b_most + tl.log2(b_total)) / _LOG2E
    p_lse, stride = lse
    tl.store(p_lse + o_query * stride, tl.where(m_query & (b_total != 0.0), b_lse, 0.0), mask=m_room)


# -- backward ----------------------------------------------------------------------------------------------------------


@triton.jit
def differentiate_queries(
    d_queries,
    query_terms,
    grads,
    outs,
    lse,
    queries,
    keys,
    values,
    bias,
    draw,
    scales,
    tile,
    D: tl.constexpr,
    PARTS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program's work on queries: writes the rows `d_queries` and, for the pass over keys, lse and Σ grad · out."""
    i_query, length, room = tile
    exponent_scale, scale, dropped = scales
    o_query = i_query + tl.arange(0, QUERIES)  # [QUERIES]
    m_query = o_query < length
    b_grads = load_parts(grads, o_query, m_query, D, PARTS)
    b_delta = tl.full([QUERIES], 0.0, WIDE)
    b_outs = load_parts(outs, o_query, m_query, D, PARTS)
    for i in tl.static_range(len(PARTS)):
        b_delta += tl.sum(b_grads[i].to(WIDE) * b_outs[i].to(WIDE), axis=1)
    p_lse, stride = lse
    b_lse = tl.load(p_lse + o_query * stride, mask=m_query, other=0.0) * _LOG2E
    p_terms, plane = query_terms
    tl.store(p_terms + o_query, b_lse, mask=m_query)
    tl.store(p_terms + plane + o_query, b_delta, mask=m_query)
    b_queries = with_sign_of(scale, load_parts(queries, o_query, m_query, D, PARTS))
    b_d_queries = zeros(QUERIES, PARTS, WIDE)
    for i_key in range(0, tl.where(i_query < length, length, 0), KEYS):
        o_key = i_key + tl.arange(0, KEYS)  # [KEYS]
        b_keys = load_parts(keys, o_key, o_key < length, D, PARTS)
        b_bias = exponents_of_bias(bias, o_key, length, WIDE)
        b_exponents = products(b_queries, b_keys, WIDE) * exponent_scale + b_bias[None, :]  # [QUERIES, KEYS]
        b_weights = tl.exp2(b_exponents - b_lse[:, None])  # [QUERIES, KEYS]
        b_values = load_parts(values, o_key, o_key < length, D, PARTS)
        b_d_weights = products(b_grads, b_values, WIDE)  # [QUERIES, KEYS]
        if len(draw) > 0:
            b_keep = keep_mask(draw, dropped, i_query, i_key, QUERIES, KEYS, False)
            b_d_weights = tl.where(b_keep, b_d_weights * keep_scale(dropped, WIDE), 0.0)
        b_d_scores = b_weights * (b_d_weights - b_delta[:, None])  # [QUERIES, KEYS]
        b_d_queries = add_products(b_d_queries, b_d_scores, b_keys, WIDE)
    b_d_queries = zeros_outside(m_query, multiplied(b_d_queries, scale))
    store_parts(d_queries, o_query, o_query < room, b_d_queries, D, PARTS)


@triton.jit
def differentiate_keys(
    d_keys,
    d_values,
    query_terms,
    grads,
    queries,
    keys,
    values,
    bias,
    draw,
    scales,
    tile,
    D: tl.constexpr,
    PARTS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program's work on keys: writes the rows `d_keys` and `d_values`. Scores stand transposed: keys down."""
    i_key, length, room = tile
    exponent_scale, scale, dropped = scales
    o_key = i_key + tl.arange(0, KEYS)  # [KEYS]
    m_key = o_key < length
    b_keys = with_sign_of(scale, load_parts(keys, o_key, m_key, D, PARTS))
    b_values = load_parts(values, o_key, m_key, D, PARTS)
    p_terms, plane = query_terms
    b_d_keys = zeros(KEYS, PARTS, WIDE)
    b_d_values = zeros(KEYS, PARTS, WIDE)
    for i_query in range(0, tl.where(i_key < length, length, 0), QUERIES):
        o_query = i_query + tl.arange(0, QUERIES)  # [QUERIES]
        m_query = o_query < length
        b_queries = load_parts(queries, o_query, m_query, D, PARTS)
        b_lse = tl.load(p_terms + o_query, mask=m_query, other=float("inf"))  # [QUERIES]: none past the sequence
        b_exponents = products(b_keys, b_queries, WIDE) * exponent_scale  # [KEYS, QUERIES]
        if len(bias) > 0:  # keys past the sequence reach their own rows alone
            b_exponents += exponents_of_bias(bias, o_key, length, WIDE)[:, None]
        b_weights = tl.exp2(b_exponents - b_lse[None, :])  # [KEYS, QUERIES]
        b_grads = load_parts(grads, o_query, m_query, D, PARTS)
        b_d_weights = products(b_values, b_grads, WIDE)  # [KEYS, QUERIES]
        b_kept = b_weights
        if len(draw) > 0:
            b_keep = keep_mask(draw, dropped, i_query, i_key, QUERIES, KEYS, True)
            b_kept = tl.where(b_keep, b_weights, 0.0)
            b_d_weights = tl.where(b_keep, b_d_weights * keep_scale(dropped, WIDE), 0.0)
        b_d_values = add_products(b_d_values, b_kept, b_grads, WIDE)
        b_delta = tl.load(p_terms + plane + o_query, mask=m_query, other=0.0)  # [QUERIES]
        b_d_scores = b_weights * (b_d_weights - b_delta[None, :])  # [KEYS, QUERIES]
        b_d_keys = add_products(b_d_keys, b_d_scores, b_queries, WIDE)
    if len(draw) > 0:
        b_d_values = multiplied(b_d_values, keep_scale(dropped, WIDE))
    store_parts(d_keys, o_key, o_key < room, zeros_outside(m_key, multiplied(b_d_keys, scale)), D, PARTS)
    store_parts(d_values, o_key, o_key < room, zeros_outside(m_key, b_d_values), D, PARTS)


@triton.jit
def query_terms_at(p_terms, place, p_cu_seqlens, batches, tokens, heads):
    """Where query_terms [2, H, all tokens] has the sequence's first token, and the distance between its two planes."""
    i_batch, i_token, i_head = place
    row = tokens.to(tl.int64)
    if p_cu_seqlens is None:
        row = row * batches
    return p_terms + i_head * row + i_batch * tokens + i_token, row * heads


# -- kernels -----------------------------------------------------------------------------------------------------------


@triton.jit(
    do_not_specialize=["attention_programs", "conv_heads"]
    + _VARYING
    + names("out", "query", "key", "value", "conv_values", "conv_logits")
)
def mixed_attention_fwd_kernel(
    p_out,
    p_lse,
    p_query,
    p_key,
    p_value,
    p_conv_values,
    p_conv_logits,
    p_terms,
    p_key_bias,
    p_lengths,
    p_cu_seqlens,
    p_seed,
    scale: tl.float64,
    dropped: tl.int32,
    stride_key_bias_b: tl.int64,
    stride_key_bias_t: tl.int64,
    attention_programs: tl.int32,
    batches: tl.int32,
    tokens: tl.int32,
    heads: tl.int32,
    conv_heads: tl.int32,
    stride_out_b: tl.int64,
    stride_out_t: tl.int64,
    stride_out_h: tl.int64,
    stride_query_b: tl.int64,
    stride_query_t: tl.int64,
    stride_query_h: tl.int64,
    stride_key_b: tl.int64,
    stride_key_t: tl.int64,
    stride_key_h: tl.int64,
    stride_value_b: tl.int64,
    stride_value_t: tl.int64,
    stride_value_h: tl.int64,
    stride_conv_values_b: tl.int64,
    stride_conv_values_t: tl.int64,
    stride_conv_values_h: tl.int64,
    stride_conv_logits_b: tl.int64,
    stride_conv_logits_t: tl.int64,
    stride_conv_logits_h: tl.int64,
    UNIT: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    K: tl.constexpr,
    LEFT: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Writes out [B, T, H + N, D] and lse [B, T, H], given N convolution heads."""
    i_program = program_index()
    if i_program < attention_programs:
        i_head = i_program % heads
        i_sequence, i_batch, i_token, tile = locate_tile(
            i_program // heads, p_lengths, p_cu_seqlens, batches, tokens, QUERIES
        )
        place = (i_batch, i_token, i_head)
        out = rows_at(p_out, place, stride_out_b, stride_out_t, stride_out_h, UNIT)
        lse = rows_at(p_lse, place, tokens.to(tl.int64) * heads, heads.to(tl.int64), 1, 1)
        queries = rows_at(p_query, place, stride_query_b, stride_query_t, stride_query_h, UNIT)
        keys = rows_at(p_key, place, stride_key_b, stride_key_t, stride_key_h, UNIT)
        values = rows_at(p_value, place, stride_value_b, stride_value_t, stride_value_h, UNIT)
        bias, draw, scales = score_options(
            p_key_bias,
            p_seed,
            scale,
            dropped,
            stride_key_bias_b,
            stride_key_bias_t,
            i_sequence,
            place,
            tile[1],
            KEYS,
            WIDE,
        )
        attend(out, lse, queries, keys, values, bias, draw, scales, tile, D, PARTS, QUERIES, KEYS, WIDE)
    elif conv_heads > 0:  # names of its own: Triton would merge the branches' variables
        i_conv = i_program - attention_programs
        i_conv_head = i_conv % conv_heads
        b_batch, b_token, group = locate_groups(
            i_conv // conv_heads, p_lengths, p_cu_seqlens, batches, tokens, GROUP, ROWS
        )
        conv_place = (b_batch, b_token, i_conv_head)
        conv_out = rows_at(
            p_out, (b_batch, b_token, heads + i_conv_head), stride_out_b, stride_out_t, stride_out_h, UNIT
        )
        conv_values = rows_at(
            p_conv_values, conv_place, stride_conv_values_b, stride_conv_values_t, stride_conv_values_h, UNIT
        )
        logits = rows_at(p_conv_logits, conv_place, stride_conv_logits_b, stride_conv_logits_t, stride_conv_logits_h, 1)
        terms = None
        if p_terms is not None:
            terms = rows_of_terms(p_terms, conv_place, tokens, conv_heads)
        convolve_forward(conv_out, conv_values, logits, terms, group, True, LEFT, D, K, TAPS, GROUP, ROWS, CHUNK, WIDE)


@triton.jit(
    do_not_specialize=["attention_programs", "conv_heads"]
    + _VARYING
    + names(
        "d_query",
        "d_conv_values",
        "grad",
        "out",
        "query",
        "key",
        "value",
        "conv_values",
        "d_conv_logits",
        "conv_logits",
    )
)
def mixed_attention_bwd_query_kernel(
    p_d_query,
    p_d_conv_values,
    p_d_conv_logits,
    p_query_terms,
    p_grad,
    p_out,
    p_lse,
    p_query,
    p_key,
    p_value,
    p_conv_values,
    p_conv_logits,
    p_terms,
    p_key_bias,
    p_lengths,
    p_cu_seqlens,
    p_seed,
    scale: tl.float64,
    dropped: tl.int32,
    stride_key_bias_b: tl.int64,
    stride_key_bias_t: tl.int64,
    attention_programs: tl.int32,
    batches: tl.int32,
    tokens: tl.int32,
    heads: tl.int32,
    conv_heads: tl.int32,
    stride_d_query_b: tl.int64,
    stride_d_query_t: tl.int64,
    stride_d_query_h: tl.int64,
    stride_d_conv_values_b: tl.int64,
    stride_d_conv_values_t: tl.int64,
    stride_d_conv_values_h: tl.int64,
    stride_grad_b: tl.int64,
    stride_grad_t: tl.int64,
    stride_grad_h: tl.int64,
    stride_out_b: tl.int64,
    stride_out_t: tl.int64,
    stride_out_h: tl.int64,
    stride_query_b: tl.int64,
    stride_query_t: tl.int64,
    stride_query_h: tl.int64,
    stride_key_b: tl.int64,
    stride_key_t: tl.int64,
    stride_key_h: tl.int64,
    stride_value_b: tl.int64,
    stride_value_t: tl.int64,
    stride_value_h: tl.int64,
    stride_conv_values_b: tl.int64,
    stride_conv_values_t: tl.int64,
    stride_conv_values_h: tl.int64,
    stride_d_conv_logits_b: tl.int64,
    stride_d_conv_logits_t: tl.int64,
    stride_d_conv_logits_h: tl.int64,
    stride_conv_logits_b: tl.int64,
    stride_conv_logits_t: tl.int64,
    stride_conv_logits_h: tl.int64,
    UNIT: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
    K: tl.constexpr,
    LEFT: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Writes d_query [B, T, H, D], d_conv_values [B, T, N, D] and d_conv_logits [B, T, N, K].

    And query_terms [2, H, all tokens]: lse as an exponent of 2, and Σ grad · out. They are for the pass over keys.
    """
    i_program = program_index()
    if i_program < attention_programs:
        i_head = i_program % heads
        i_sequence, i_batch, i_token, tile = locate_tile(
            i_program // heads, p_lengths, p_cu_seqlens, batches, tokens, QUERIES
        )
        place = (i_batch, i_token, i_head)
        d_queries = rows_at(p_d_query, place, stride_d_query_b, stride_d_query_t, stride_d_query_h, UNIT)
        query_terms = query_terms_at(p_query_terms, place, p_cu_seqlens, batches, tokens, heads)
        grads = rows_at(p_grad, place, stride_grad_b, stride_grad_t, stride_grad_h, UNIT)
        outs = rows_at(p_out, place, stride_out_b, stride_out_t, stride_out_h, UNIT)
        lse = rows_at(p_lse, place, tokens.to(tl.int64) * heads, heads.to(tl.int64), 1, 1)
        queries = rows_at(p_query, place, stride_query_b, stride_query_t, stride_query_h, UNIT)
        keys = rows_at(p_key, place, stride_key_b, stride_key_t, stride_key_h, UNIT)
        values = rows_at(p_value, place, stride_value_b, stride_value_t, stride_value_h, UNIT)
        bias, draw, scales = score_options(
            p_key_bias,
            p_seed,
            scale,
            dropped,
            stride_key_bias_b,
            stride_key_bias_t,
            i_sequence,
            place,
            tile[1],
            KEYS,
            WIDE,
        )
        differentiate_queries(
            d_queries,
            query_terms,
            grads,
            outs,
            lse,
            queries,
            keys,
            values,
            bias,
            draw,
            scales,
            tile,
            D,
            PARTS,
            QUERIES,
            KEYS,
            WIDE,
        )
    elif conv_heads > 0:
        i_conv = i_program - attention_programs
        i_conv_head = i_conv % conv_heads
        b_batch, b_token, group = locate_groups(
            i_conv // conv_heads, p_lengths, p_cu_seqlens, batches, tokens, GROUP, ROWS
        )
        conv_place = (b_batch, b_token, i_conv_head)
        out_place = (b_batch, b_token, heads + i_conv_head)
        d_conv_values = rows_at(
            p_d_conv_values, conv_place, stride_d_conv_values_b, stride_d_conv_values_t, stride_d_conv_values_h, UNIT
        )
        d_logits = rows_at(
            p_d_conv_logits, conv_place, stride_d_conv_logits_b, stride_d_conv_logits_t, stride_d_conv_logits_h, 1
        )
        conv_grads = rows_at(p_grad, out_place, stride_grad_b, stride_grad_t, stride_grad_h, UNIT)
        conv_values = rows_at(
            p_conv_values, conv_place, stride_conv_values_b, stride_conv_values_t, stride_conv_values_h, UNIT
        )
        logits = rows_at(p_conv_logits, conv_place, stride_conv_logits_b, stride_conv_logits_t, stride_conv_logits_h, 1)
        terms = None
        if p_terms is not None:
            terms = rows_of_terms(p_terms, conv_place, tokens, conv_heads)
        convolve_backward(
            d_conv_values,
            d_logits,
            conv_grads,
            conv_values,
            logits,
            terms,
            group,
            True,
            LEFT,
            D,
            K,
            TAPS,
            GROUP,
            ROWS,
            CHUNK,
            WIDE,
        )


@triton.jit(do_not_specialize=_VARYING + names("d_key", "d_value", "grad", "query", "key", "value"))
def mixed_attention_bwd_key_kernel(
    p_d_key,
    p_d_value,
    p_query_terms,
    p_grad,
    p_query,
    p_key,
    p_value,
    p_key_bias,
    p_lengths,
    p_cu_seqlens,
    p_seed,
    scale: tl.float64,
    dropped: tl.int32,
    stride_key_bias_b: tl.int64,
    stride_key_bias_t: tl.int64,
    batches: tl.int32,
    tokens: tl.int32,
    heads: tl.int32,
    stride_d_key_b: tl.int64,
    stride_d_key_t: tl.int64,
    stride_d_key_h: tl.int64,
    stride_d_value_b: tl.int64,
    stride_d_value_t: tl.int64,
    stride_d_value_h: tl.int64,
    stride_grad_b: tl.int64,
    stride_grad_t: tl.int64,
    stride_grad_h: tl.int64,
    stride_query_b: tl.int64,
    stride_query_t: tl.int64,
    stride_query_h: tl.int64,
    stride_key_b: tl.int64,
    stride_key_t: tl.int64,
    stride_key_h: tl.int64,
    stride_value_b: tl.int64,
    stride_value_t: tl.int64,
    stride_value_h: tl.int64,
    UNIT: tl.constexpr,
    D: tl.constexpr,
    WIDE: tl.constexpr,
    PARTS: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """Writes d_key and d_value [B, T, H, D]."""
    i_program = program_index()
    i_head = i_program % heads
    i_sequence, i_batch, i_token, tile = locate_tile(i_program // heads, p_lengths, p_cu_seqlens, batches, tokens, KEYS)
    place = (i_batch, i_token, i_head)
    d_keys = rows_at(p_d_key, place, stride_d_key_b, stride_d_key_t, stride_d_key_h, UNIT)
    d_values = rows_at(p_d_value, place, stride_d_value_b, stride_d_value_t, stride_d_value_h, UNIT)
    query_terms = query_terms_at(p_query_terms, place, p_cu_seqlens, batches, tokens, heads)
    grads = rows_at(p_grad, place, stride_grad_b, stride_grad_t, stride_grad_h, UNIT)
    queries = rows_at(p_query, place, stride_query_b, stride_query_t, stride_query_h, UNIT)
    keys = rows_at(p_key, place, stride_key_b, stride_key_t, stride_key_h, UNIT)
    values = rows_at(p_value, place, stride_value_b, stride_value_t, stride_value_h, UNIT)
    bias, draw, scales = score_options(
        p_key_bias,
        p_seed,
        scale,
        dropped,
        stride_key_bias_b,
        stride_key_bias_t,
        i_sequence,
        place,
        tile[1],
        KEYS,
        WIDE,
    )
    differentiate_keys(
        d_keys,
        d_values,
        query_terms,
        grads,
        queries,
        keys,
        values,
        bias,
        draw,
        scales,
        tile,
        D,
        PARTS,
        QUERIES,
        KEYS,
        WIDE,
    )
