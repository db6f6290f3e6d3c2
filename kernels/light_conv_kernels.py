"""Triton kernels of `light_conv`: softmax over taps and the per-token, per-head convolution, forward and backward.

A thread works for GROUP neighbouring tokens of one sequence and one head. It loads each row of values once for all of
them, GROUP + K - 1 rows where token by token it would be GROUP · K, and keeps their GROUP · K weights in registers.
A program takes ROWS such groups of one head; the programs of one tile's heads follow each other, for their rows lie
side by side in memory.

Bytes moved, N tokens, s bytes an element; in brackets N = 32·512, H 6, D 64, K 9, bf16:
    forward   s·N·H·(2·D + K): values and logits in, out out                               [26.9 MB]
    backward  s·N·H·(3·D + 2·K): grad, values and logits in, d_values and d_logits out     [41.3 MB]
Backward is one kernel: as two, d_values and d_logits would each read grad and logits, 14.4 MB more. The price is
arithmetic: each group works out the softmax of its K - 1 neighbours anew.

Channels are walked in chunks (`channels`); narrow ones also mean that fewer threads hold copies of one token's weights.

A window wider than TAPS takes several rounds over its taps, TAPS at a time; what its softmax divides by is then worked
out once, by a small kernel ahead.

What the functions here hand each other, [ROWS] throughout, an entry a group:
    rows    (pointers, stride): where the row of a group's first token lies, and how far it is to the next token's
    group   (b_position, b_length, b_room): see `sequences.locate_groups`
Rows of values have D numbers, rows of logits K, rows of softmax terms 2; terms are None if one round does. WIDE is the
dtype of sums; UNIT is explained in `strides`.
"""

import triton
import triton.language as tl

from .channels import load_channels, store_channels
from .launch import program_index
from .sequences import locate_groups
from .strides import names, rows_at

# Sizes of batches and addresses of the vectors that bound sequences: no launch may compile a kernel anew for them.
_VARYING = ["batches", "tokens", "heads", "p_lengths", "p_cu_seqlens"]


@triton.jit(do_not_specialize=["batches", "tokens", "heads", *names("logits")])
def light_conv_terms_kernel(
    p_terms,
    p_logits,
    batches: tl.int32,
    tokens: tl.int32,
    heads: tl.int32,
    stride_logits_b: tl.int64,
    stride_logits_t: tl.int64,
    stride_logits_h: tl.int64,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Softmax terms, largest logit and 1 / Σ exp(logit - largest), of every token and head: [B, T, H, 2]."""
    o_k = tl.arange(0, WIDTH)  # [WIDTH]
    # 64-bit divisions once a program, 32-bit ones a row.
    i_first = program_index().to(tl.int64) * ROWS
    i_first_token = i_first // heads
    i_row = (i_first % heads).to(tl.int32) + tl.arange(0, ROWS)  # [ROWS]: token and head
    i_token = (i_first_token % tokens).to(tl.int32) + i_row // heads  # [ROWS]
    i_batch = i_first_token // tokens + i_token // tokens  # [ROWS]
    m_row = i_batch < batches
    o_row = i_first + tl.arange(0, ROWS)  # [ROWS]
    place = (i_batch, i_token % tokens, i_row % heads)
    p_row, _ = rows_at(p_logits, place, stride_logits_b, stride_logits_t, stride_logits_h, 1)
    m = m_row[:, None] & (o_k < K)[None, :]  # [ROWS, WIDTH]
    b_logits = tl.load(p_row[:, None] + o_k[None, :], mask=m, other=float("-inf")).to(WIDE)  # [ROWS, WIDTH]
    b_max = tl.where(m_row, tl.max(b_logits, axis=1), 0.0)  # [ROWS]
    b_sum = tl.sum(tl.exp(b_logits - b_max[:, None]), axis=1)  # [ROWS]
    tl.store(p_terms + o_row * 2, b_max, mask=m_row)
    tl.store(p_terms + o_row * 2 + 1, 1.0 / b_sum, mask=m_row)


@triton.jit
def rows_of_terms(p_terms, place, tokens, heads):
    """Rows of the terms [B, T, H, 2], which are contiguous."""
    stride = heads.to(tl.int64) * 2
    return rows_at(p_terms, place, tokens * stride, stride, 2, 1)


@triton.jit
def load_logits(
    p_logits, m_token, i_round, SOFTMAX: tl.constexpr, K: tl.constexpr, TAPS: tl.constexpr, WIDE: tl.constexpr
):
    """A token's logits of taps i_round + k; past the last tap what gives the weight 0. Entry k is [ROWS]."""
    b_logits = ()
    for k in tl.static_range(TAPS):
        if K % TAPS == 0:
            b_logits += (tl.load(p_logits + (i_round + k), mask=m_token, other=0.0).to(WIDE),)
        else:
            b_logit = tl.load(p_logits + (i_round + k), mask=m_token & (i_round + k < K), other=0.0).to(WIDE)
            b_logits += (tl.where(i_round + k < K, b_logit, float("-inf") if SOFTMAX else 0.0),)
    return b_logits


@triton.jit
def softmax_of(b_logits, terms, m_token, i_token, TAPS: tl.constexpr):
    """Softmax of one token's TAPS logits, or of its part of them if `terms` tell the largest and the sum of all."""
    if terms is None:
        b_max = b_logits[0]
        for k in tl.static_range(1, TAPS):
            b_max = tl.maximum(b_max, b_logits[k])
    else:
        p_terms, stride_terms = terms
        b_max = tl.load(p_terms + i_token * stride_terms, mask=m_token, other=0.0)
    b_exps = ()
    for k in tl.static_range(TAPS):
        b_exps += (tl.exp(b_logits[k] - b_max),)
    if terms is None:
        b_sum = b_exps[0]
        for k in tl.static_range(1, TAPS):
            b_sum += b_exps[k]
        b_scale = 1.0 / b_sum
    else:
        b_scale = tl.load(p_terms + (i_token * stride_terms + 1), mask=m_token, other=0.0)
    b_weights = ()
    for k in tl.static_range(TAPS):
        b_weights += (b_exps[k] * b_scale,)
    return b_weights


@triton.jit
def weights_of_tokens(
    logits,
    terms,
    group,
    i_first,
    i_round,
    COUNT: tl.constexpr,
    SOFTMAX: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The weights that COUNT tokens, from the group's token i_first on, give to taps i_round + k.

    Entry [i][k] is [ROWS]. Tokens outside their sequence give arbitrary finite weights; taps past the last get 0.
    """
    p_logits, stride_logits = logits
    b_position, b_length, _ = group
    b_tokens = ()
    for i in tl.static_range(COUNT):
        b_giver = b_position + (i_first + i)  # [ROWS]
        m_token = (b_giver >= 0) & (b_giver < b_length)  # [ROWS]
        b_weights = load_logits(p_logits + (i_first + i) * stride_logits, m_token, i_round, SOFTMAX, K, TAPS, WIDE)
        if SOFTMAX:
            b_weights = softmax_of(b_weights, terms, m_token, i_first + i, TAPS)
        b_tokens += (b_weights,)
    return b_tokens


@triton.jit
def load_token(rows, group, i_token, o_d, D: tl.constexpr, CHUNK: tl.constexpr, WIDE: tl.constexpr):
    """Channels o_d of each group's token i_token, zeros outside its sequence: [ROWS, CHUNK]."""
    p_rows, stride = rows
    b_position, b_length, _ = group
    b_read = b_position + i_token  # [ROWS]
    return load_channels(p_rows + i_token * stride, (b_read >= 0) & (b_read < b_length), o_d, D, CHUNK, WIDE)


@triton.jit
def add_tap(b_sum, b_weights, b_row, k: tl.constexpr, i_round, K: tl.constexpr, TAPS: tl.constexpr):
    """A token's sum [ROWS, CHUNK] with what its tap k of the round makes of a row, if there is such a tap."""
    if k >= 0 and k < TAPS:
        b_product = b_weights[k][:, None] * b_row  # [ROWS, CHUNK]
        if K % TAPS != 0:  # past the last tap the weight is 0, but what it meets may be no number
            b_product = tl.where(i_round + k < K, b_product, 0.0)
        return b_sum + b_product
    else:
        return b_sum


@triton.jit
def convolve(
    to,
    source,
    logits,
    terms,
    group,
    b_weights,
    TRANSPOSED: tl.constexpr,
    SOFTMAX: tl.constexpr,
    LEFT: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes the convolution of the rows `source` to the rows `to`, zeros past a sequence's length.

    Token t takes row t + k - LEFT by its own weight k; TRANSPOSED, token t takes row t + LEFT - k by that row's weight
    k. In one round these are TAPS + GROUP - 1 rows, from the group's token i_first on. Of row j, token r takes

        plain        tap j - r              from i_first = i_round - LEFT on
        TRANSPOSED   tap r + TAPS - 1 - j   from i_first = LEFT - i_round - (TAPS - 1) on

    Args:
        b_weights: those of all taps, of the tokens i_first, … of the group if TRANSPOSED, else of the group's own; None
            where there are several rounds, each of which works out its own.
    """
    b_position, b_length, b_room = group
    for i_channel in range(0, D, CHUNK):
        o_d = i_channel + tl.arange(0, CHUNK)  # [CHUNK]
        b_sums = (tl.full([ROWS, CHUNK], 0.0, WIDE),) * GROUP
        for i_round in range(0, K, TAPS):
            i_first = LEFT - i_round - (TAPS - 1) if TRANSPOSED else i_round - LEFT
            if K <= TAPS:
                b_given = b_weights
            elif TRANSPOSED:
                b_given = weights_of_tokens(
                    logits, terms, group, i_first, i_round, TAPS + GROUP - 1, SOFTMAX, K, TAPS, WIDE
                )
            else:
                b_given = weights_of_tokens(logits, terms, group, 0, i_round, GROUP, SOFTMAX, K, TAPS, WIDE)
            for j in tl.static_range(TAPS + GROUP - 1):
                b_row = load_token(source, group, i_first + j, o_d, D, CHUNK, WIDE)  # [ROWS, CHUNK]
                b_added = ()
                for r in tl.static_range(GROUP):
                    if TRANSPOSED:
                        b_added += (add_tap(b_sums[r], b_given[j], b_row, r + TAPS - 1 - j, i_round, K, TAPS),)
                    else:
                        b_added += (add_tap(b_sums[r], b_given[r], b_row, j - r, i_round, K, TAPS),)
                b_sums = b_added
        p_to, stride = to
        for r in tl.static_range(GROUP):
            b_sum = tl.where((b_position + r < b_length)[:, None], b_sums[r], 0.0)  # [ROWS, CHUNK]
            store_channels(p_to + r * stride, b_sum, b_position + r < b_room, o_d, D, CHUNK)


@triton.jit
def tap_gradients(
    grad,
    values,
    group,
    i_round,
    LEFT: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Σ over channels of grad · values for the group's tokens and taps i_round + k: entry r·TAPS + k is [ROWS]."""
    b_gradients = (tl.full([ROWS], 0.0, WIDE),) * (GROUP * TAPS)
    for i_channel in range(0, D, CHUNK):
        o_d = i_channel + tl.arange(0, CHUNK)  # [CHUNK]
        b_grads = ()
        for r in tl.static_range(GROUP):
            b_grads += (load_token(grad, group, r, o_d, D, CHUNK, WIDE),)
        for j in tl.static_range(TAPS + GROUP - 1):
            b_row = load_token(values, group, i_round + j - LEFT, o_d, D, CHUNK, WIDE)  # [ROWS, CHUNK]
            b_added = ()
            for r in tl.static_range(GROUP):
                for k in tl.static_range(TAPS):
                    if r + k == j:
                        b_added += (b_gradients[r * TAPS + k] + tl.sum(b_grads[r] * b_row, axis=1),)
                    else:
                        b_added += (b_gradients[r * TAPS + k],)
            b_gradients = b_added
    if K % TAPS != 0:
        b_masked = ()
        for i in tl.static_range(GROUP * TAPS):
            b_masked += (tl.where(i_round + i % TAPS < K, b_gradients[i], 0.0),)
        b_gradients = b_masked
    return b_gradients


@triton.jit
def add_dots(b_dots, b_weights, b_d_weights, TAPS: tl.constexpr, GROUP: tl.constexpr):
    """Σ over a round's taps of weight · d_weight, added to each of the group's tokens' sums: a tuple of [ROWS]."""
    b_sums = ()
    for r in tl.static_range(GROUP):
        b_sum = b_dots[r]
        for k in tl.static_range(TAPS):
            b_sum += b_weights[r][k] * b_d_weights[r * TAPS + k]
        b_sums += (b_sum,)
    return b_sums


@triton.jit
def convolve_forward(
    out,
    values,
    logits,
    terms,
    group,
    SOFTMAX: tl.constexpr,
    LEFT: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program's work forward: writes the rows `out`."""
    b_weights = None
    if K <= TAPS:
        b_weights = weights_of_tokens(logits, terms, group, 0, 0, GROUP, SOFTMAX, K, TAPS, WIDE)
    convolve(out, values, logits, terms, group, b_weights, False, SOFTMAX, LEFT, D, K, TAPS, GROUP, ROWS, CHUNK, WIDE)


@triton.jit
def convolve_backward(
    d_values,
    d_logits,
    grad,
    values,
    logits,
    terms,
    group,
    SOFTMAX: tl.constexpr,
    LEFT: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """A program's work backward: writes the rows `d_values` and `d_logits`."""
    b_position, b_length, b_room = group
    b_weights = None
    if K <= TAPS:
        b_weights = weights_of_tokens(
            logits, terms, group, LEFT - (TAPS - 1), 0, TAPS + GROUP - 1, SOFTMAX, K, TAPS, WIDE
        )
    convolve(d_values, grad, logits, terms, group, b_weights, True, SOFTMAX, LEFT, D, K, TAPS, GROUP, ROWS, CHUNK, WIDE)

    # d_logits = weights ⊙ (d_weights - Σ weights · d_weights). Several rounds work the sum out in a pass of their own.
    b_dots = (tl.full([ROWS], 0.0, WIDE),) * GROUP
    if SOFTMAX and K > TAPS:
        for i_round in range(0, K, TAPS):
            b_own = weights_of_tokens(logits, terms, group, 0, i_round, GROUP, SOFTMAX, K, TAPS, WIDE)
            b_d_weights = tap_gradients(grad, values, group, i_round, LEFT, D, K, TAPS, GROUP, ROWS, CHUNK, WIDE)
            b_dots = add_dots(b_dots, b_own, b_d_weights, TAPS, GROUP)
    p_d_logits, stride = d_logits
    for i_round in range(0, K, TAPS):
        b_d_weights = tap_gradients(grad, values, group, i_round, LEFT, D, K, TAPS, GROUP, ROWS, CHUNK, WIDE)
        if K > TAPS:
            b_own = weights_of_tokens(logits, terms, group, 0, i_round, GROUP, SOFTMAX, K, TAPS, WIDE)
        else:
            b_own = b_weights[TAPS - 1 - LEFT : TAPS - 1 - LEFT + GROUP]  # the group's tokens are among the givers
            if SOFTMAX:
                b_dots = add_dots(b_dots, b_own, b_d_weights, TAPS, GROUP)
        for r in tl.static_range(GROUP):
            for k in tl.static_range(TAPS):
                b_d_logit = b_d_weights[r * TAPS + k]  # [ROWS]
                if SOFTMAX:
                    b_d_logit = b_own[r][k] * (b_d_logit - b_dots[r])
                b_d_logit = tl.where(b_position + r < b_length, b_d_logit, 0.0)
                m_store = b_position + r < b_room  # [ROWS]
                if K % TAPS != 0:
                    m_store = m_store & (i_round + k < K)
                tl.store(
                    p_d_logits + (r * stride + i_round + k), b_d_logit.to(p_d_logits.dtype.element_ty), mask=m_store
                )


@triton.jit(do_not_specialize=_VARYING + names("out", "values", "logits"))
def light_conv_fwd_kernel(
    p_out,
    p_values,
    p_logits,
    p_terms,
    p_lengths,
    p_cu_seqlens,
    batches: tl.int32,
    tokens: tl.int32,
    heads: tl.int32,
    stride_out_b: tl.int64,
    stride_out_t: tl.int64,
    stride_out_h: tl.int64,
    stride_values_b: tl.int64,
    stride_values_t: tl.int64,
    stride_values_h: tl.int64,
    stride_logits_b: tl.int64,
    stride_logits_t: tl.int64,
    stride_logits_h: tl.int64,
    UNIT: tl.constexpr,
    SOFTMAX: tl.constexpr,
    LEFT: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes out [B, T, H, D]."""
    i_program = program_index()
    i_batch, b_token, group = locate_groups(i_program // heads, p_lengths, p_cu_seqlens, batches, tokens, GROUP, ROWS)
    place = (i_batch, b_token, i_program % heads)
    out = rows_at(p_out, place, stride_out_b, stride_out_t, stride_out_h, UNIT)
    values = rows_at(p_values, place, stride_values_b, stride_values_t, stride_values_h, UNIT)
    logits = rows_at(p_logits, place, stride_logits_b, stride_logits_t, stride_logits_h, 1)
    terms = None
    if p_terms is not None:
        terms = rows_of_terms(p_terms, place, tokens, heads)
    convolve_forward(out, values, logits, terms, group, SOFTMAX, LEFT, D, K, TAPS, GROUP, ROWS, CHUNK, WIDE)


@triton.jit(do_not_specialize=_VARYING + names("d_values", "grad", "values", "d_logits", "logits"))
def light_conv_bwd_kernel(
    p_d_values,
    p_grad,
    p_values,
    p_d_logits,
    p_logits,
    p_terms,
    p_lengths,
    p_cu_seqlens,
    batches: tl.int32,
    tokens: tl.int32,
    heads: tl.int32,
    stride_d_values_b: tl.int64,
    stride_d_values_t: tl.int64,
    stride_d_values_h: tl.int64,
    stride_grad_b: tl.int64,
    stride_grad_t: tl.int64,
    stride_grad_h: tl.int64,
    stride_values_b: tl.int64,
    stride_values_t: tl.int64,
    stride_values_h: tl.int64,
    stride_d_logits_b: tl.int64,
    stride_d_logits_t: tl.int64,
    stride_d_logits_h: tl.int64,
    stride_logits_b: tl.int64,
    stride_logits_t: tl.int64,
    stride_logits_h: tl.int64,
    UNIT: tl.constexpr,
    SOFTMAX: tl.constexpr,
    LEFT: tl.constexpr,
    D: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Writes d_values [B, T, H, D] and d_logits [B, T, H, K]."""
    i_program = program_index()
    i_batch, b_token, group = locate_groups(i_program // heads, p_lengths, p_cu_seqlens, batches, tokens, GROUP, ROWS)
    place = (i_batch, b_token, i_program % heads)
    d_values = rows_at(p_d_values, place, stride_d_values_b, stride_d_values_t, stride_d_values_h, UNIT)
    grad = rows_at(p_grad, place, stride_grad_b, stride_grad_t, stride_grad_h, UNIT)
    values = rows_at(p_values, place, stride_values_b, stride_values_t, stride_values_h, UNIT)
    logits = rows_at(p_logits, place, stride_logits_b, stride_logits_t, stride_logits_h, 1)
    terms = None
    if p_terms is not None:
        terms = rows_of_terms(p_terms, place, tokens, heads)
    d_logits = rows_at(p_d_logits, place, stride_d_logits_b, stride_d_logits_t, stride_d_logits_h, 1)
    convolve_backward(
        d_values, d_logits, grad, values, logits, terms, group, SOFTMAX, LEFT, D, K, TAPS, GROUP, ROWS, CHUNK, WIDE
    )
