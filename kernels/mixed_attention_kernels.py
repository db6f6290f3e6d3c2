"""Triton kernels of `mixed_attention`: attention heads and light convolution heads in one launch.

Some programs of a launch attend, the others convolve: work bound by arithmetic beside work bound by memory. Those that
attend (`attention_walks`) come first, for they run longest; those that convolve (`light_conv_kernels`) are short and
fill the gaps that are left at the end. The programs that convolve backward are part of the second launch, that of
query's gradient.
"""

import triton
import triton.language as tl

from .attention_walks import attend, differentiate_keys, differentiate_queries, query_terms_at, score_options
from .launch import program_index
from .light_conv_kernels import convolve_backward, convolve_forward, rows_of_terms
from .sequences import locate_groups
from .strides import names, rows_at
from .tiles import locate_tile

# Sizes of batches and addresses of what is read a number at a time: no launch may compile a kernel anew for them.
_VARYING = [
    *["p_key_bias", "p_lengths", "p_cu_seqlens", "p_seed", "dropped", "batches", "tokens", "heads"],
    *["stride_key_bias_b", "stride_key_bias_t"],
]


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
