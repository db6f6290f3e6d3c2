"""How a program of `mixed_attention` attends: it holds a tile of one head and one sequence and walks the tiles on the
other side (Dao et al. 2022, "FlashAttention"; Dao 2023, "FlashAttention-2").

    attend                 a tile of queries walks the keys: an online softmax, the weighted values added up beside it
    differentiate_queries  a tile of queries walks the keys: d_query, and Σ grad · out of its own rows
    differentiate_keys     a tile of keys walks the queries: d_key and d_value

so nothing of size T² is stored, and each gradient is added up by one program, in one order.

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
from .parts import load_parts, store_parts
from .products import add_product

_LOG2E = tl.constexpr(1.4426950408889634)


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
