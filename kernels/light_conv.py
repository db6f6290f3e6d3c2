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

Channels are walked in chunks of CHUNK, a power of two: D = 48 is 3 chunks of 16, not one of 64 with a quarter of its
lanes idle. Narrow chunks also mean that fewer threads hold copies of one token's weights.

A window wider than TAPS takes several rounds over its taps, TAPS at a time; what its softmax divides by is then worked
out once, by a small kernel ahead.
"""

import contextlib
import functools
import math
from collections.abc import Mapping

import torch
import triton
import triton.language as tl

from . import tuning
from .sequences import group_count, locate_groups


def _numbers(*tensors: str) -> list[str]:
    """Arguments that vary from batch to batch, sizes and these tensors' strides: none may compile a kernel anew."""
    return [
        "batches",
        "tokens",
        "heads",
        *(f"stride_{name}_{axis}" for name in tensors for axis in "bth"),
    ]


@triton.jit(do_not_specialize=_numbers("logits"))
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
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # [ROWS]: token and head
    o_k = tl.arange(0, WIDTH)  # [WIDTH]
    i_token = o_row // heads
    i_batch = i_token // tokens
    m_row = i_batch < batches
    p_row = p_logits + i_batch * stride_logits_b + i_token % tokens * stride_logits_t + o_row % heads * stride_logits_h
    m = m_row[:, None] & (o_k < K)[None, :]  # [ROWS, WIDTH]
    b_logits = tl.load(p_row[:, None] + o_k[None, :], mask=m, other=float("-inf")).to(WIDE)  # [ROWS, WIDTH]
    b_max = tl.where(m_row, tl.max(b_logits, axis=1), 0.0)  # [ROWS]
    b_sum = tl.sum(tl.exp(b_logits - b_max[:, None]), axis=1)  # [ROWS]
    tl.store(p_terms + o_row * 2, b_max, mask=m_row)
    tl.store(p_terms + o_row * 2 + 1, 1.0 / b_sum, mask=m_row)


@triton.jit
def weights_of_tokens(
    p_logits,
    p_terms,
    stride_logits_t,
    stride_terms_t,
    b_position,
    b_length,
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
    b_tokens = ()
    for i in tl.static_range(COUNT):
        b_giver = b_position + (i_first + i)  # [ROWS]
        m_token = (b_giver >= 0) & (b_giver < b_length)  # [ROWS]
        b_logits = ()
        for k in tl.static_range(TAPS):
            p_tap = p_logits + ((i_first + i) * stride_logits_t + (i_round + k))
            if K % TAPS == 0:
                b_logits += (tl.load(p_tap, mask=m_token, other=0.0).to(WIDE),)
            else:
                b_logit = tl.load(p_tap, mask=m_token & (i_round + k < K), other=0.0).to(WIDE)
                b_logits += (tl.where(i_round + k < K, b_logit, float("-inf") if SOFTMAX else 0.0),)
        if SOFTMAX:
            if p_terms is None:
                b_max = b_logits[0]
                for k in tl.static_range(1, TAPS):
                    b_max = tl.maximum(b_max, b_logits[k])
            else:
                b_max = tl.load(p_terms + (i_first + i) * stride_terms_t, mask=m_token, other=0.0)
            b_exps = ()
            for k in tl.static_range(TAPS):
                b_exps += (tl.exp(b_logits[k] - b_max),)
            if p_terms is None:
                b_sum = b_exps[0]
                for k in tl.static_range(1, TAPS):
                    b_sum += b_exps[k]
                b_scale = 1.0 / b_sum
            else:
                b_scale = tl.load(p_terms + ((i_first + i) * stride_terms_t + 1), mask=m_token, other=0.0)
            b_weights = ()
            for k in tl.static_range(TAPS):
                b_weights += (b_exps[k] * b_scale,)
            b_tokens += (b_weights,)
        else:
            b_tokens += (b_logits,)
    return b_tokens


@triton.jit
def load_channels(p_token, m_token, o_d, D: tl.constexpr, CHUNK: tl.constexpr, WIDE: tl.constexpr):
    """A chunk of each token's channels, zeros for tokens outside their sequence: [ROWS, CHUNK]."""
    m = m_token[:, None]  # [ROWS, 1]
    if D % CHUNK != 0:
        m = m & (o_d < D)[None, :]  # [ROWS, CHUNK]
    return tl.load(p_token[:, None] + o_d[None, :], mask=m, other=0.0).to(WIDE)


@triton.jit
def store_channels(p_token, b_channels, m_token, o_d, D: tl.constexpr, CHUNK: tl.constexpr):
    m = m_token[:, None]  # [ROWS, 1]
    if D % CHUNK != 0:
        m = m & (o_d < D)[None, :]  # [ROWS, CHUNK]
    tl.store(p_token[:, None] + o_d[None, :], b_channels.to(p_token.dtype.element_ty), mask=m)


@triton.jit
def tap_gradients(
    p_grad,
    p_values,
    stride_grad_t,
    stride_values_t,
    b_position,
    b_length,
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
            b_grads += (load_channels(p_grad + r * stride_grad_t, b_position + r < b_length, o_d, D, CHUNK, WIDE),)
        for j in tl.static_range(TAPS + GROUP - 1):
            b_read = b_position + (i_round + j - LEFT)  # [ROWS]
            p_row = p_values + (i_round + j - LEFT) * stride_values_t
            b_row = load_channels(p_row, (b_read >= 0) & (b_read < b_length), o_d, D, CHUNK, WIDE)  # [ROWS, CHUNK]
            b_sums = ()
            for r in tl.static_range(GROUP):
                for k in tl.static_range(TAPS):
                    if r + k == j:
                        b_sums += (b_gradients[r * TAPS + k] + tl.sum(b_grads[r] * b_row, axis=1),)
                    else:
                        b_sums += (b_gradients[r * TAPS + k],)
            b_gradients = b_sums
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


@triton.jit(do_not_specialize=_numbers("out", "values", "logits"))
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
    i_head = tl.program_id(0) % heads
    i_batch, b_first, b_position, b_length, b_room = locate_groups(
        tl.program_id(0) // heads, p_lengths, p_cu_seqlens, batches, tokens, GROUP, ROWS
    )
    b_token = b_first + b_position  # [ROWS]: each group's first token in its row of tokens
    # Strides of tensors of D channels count UNIT elements: so the compiler sees how far each token is aligned.
    stride_out_t *= UNIT
    stride_values_t *= UNIT
    p_out += (i_batch * stride_out_b + i_head * stride_out_h) * UNIT + b_token * stride_out_t  # [ROWS]
    p_values += (i_batch * stride_values_b + i_head * stride_values_h) * UNIT + b_token * stride_values_t  # [ROWS]
    p_logits += i_batch * stride_logits_b + i_head * stride_logits_h + b_token * stride_logits_t  # [ROWS]
    stride_terms_t = heads.to(tl.int64) * 2
    if p_terms is not None:
        p_terms += (i_batch * tokens + b_token) * stride_terms_t + i_head * 2  # [ROWS]

    if K <= TAPS:
        b_weights = weights_of_tokens(
            p_logits,
            p_terms,
            stride_logits_t,
            stride_terms_t,
            b_position,
            b_length,
            0,
            0,
            GROUP,
            SOFTMAX,
            K,
            TAPS,
            WIDE,
        )
    for i_channel in range(0, D, CHUNK):
        o_d = i_channel + tl.arange(0, CHUNK)  # [CHUNK]
        b_outs = (tl.full([ROWS, CHUNK], 0.0, WIDE),) * GROUP
        for i_round in range(0, K, TAPS):
            if K > TAPS:
                b_weights = weights_of_tokens(
                    p_logits,
                    p_terms,
                    stride_logits_t,
                    stride_terms_t,
                    b_position,
                    b_length,
                    0,
                    i_round,
                    GROUP,
                    SOFTMAX,
                    K,
                    TAPS,
                    WIDE,
                )
            for j in tl.static_range(TAPS + GROUP - 1):
                b_read = b_position + (i_round + j - LEFT)  # [ROWS]
                p_row = p_values + (i_round + j - LEFT) * stride_values_t
                b_row = load_channels(p_row, (b_read >= 0) & (b_read < b_length), o_d, D, CHUNK, WIDE)  # [ROWS, CHUNK]
                b_sums = ()
                for r in tl.static_range(GROUP):
                    if j - r >= 0 and j - r < TAPS:
                        b_product = b_weights[r][j - r][:, None] * b_row  # [ROWS, CHUNK]
                        if K % TAPS != 0:  # past the last tap the weight is 0, but what it meets may be no number
                            b_product = tl.where(i_round + (j - r) < K, b_product, 0.0)
                        b_sums += (b_outs[r] + b_product,)
                    else:
                        b_sums += (b_outs[r],)
                b_outs = b_sums
        for r in tl.static_range(GROUP):
            b_out = tl.where((b_position + r < b_length)[:, None], b_outs[r], 0.0)  # [ROWS, CHUNK]
            store_channels(p_out + r * stride_out_t, b_out, b_position + r < b_room, o_d, D, CHUNK)


@triton.jit(do_not_specialize=_numbers("d_values", "d_logits", "grad", "values", "logits"))
def light_conv_bwd_kernel(
    p_d_values,
    p_d_logits,
    p_grad,
    p_values,
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
    stride_d_logits_b: tl.int64,
    stride_d_logits_t: tl.int64,
    stride_d_logits_h: tl.int64,
    stride_grad_b: tl.int64,
    stride_grad_t: tl.int64,
    stride_grad_h: tl.int64,
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
    i_head = tl.program_id(0) % heads
    i_batch, b_first, b_position, b_length, b_room = locate_groups(
        tl.program_id(0) // heads, p_lengths, p_cu_seqlens, batches, tokens, GROUP, ROWS
    )
    b_token = b_first + b_position  # [ROWS]
    stride_d_values_t *= UNIT
    stride_grad_t *= UNIT
    stride_values_t *= UNIT
    p_d_values += (i_batch * stride_d_values_b + i_head * stride_d_values_h) * UNIT + b_token * stride_d_values_t
    p_grad += (i_batch * stride_grad_b + i_head * stride_grad_h) * UNIT + b_token * stride_grad_t  # [ROWS]
    p_values += (i_batch * stride_values_b + i_head * stride_values_h) * UNIT + b_token * stride_values_t  # [ROWS]
    p_logits += i_batch * stride_logits_b + i_head * stride_logits_h + b_token * stride_logits_t  # [ROWS]
    stride_terms_t = heads.to(tl.int64) * 2
    if p_terms is not None:
        p_terms += (i_batch * tokens + b_token) * stride_terms_t + i_head * 2  # [ROWS]
    p_d_logits += i_batch * stride_d_logits_b + i_head * stride_d_logits_h + b_token * stride_d_logits_t  # [ROWS]

    # d_values: token s gathers weight k of token s + LEFT - k. In one round the givers are TAPS + GROUP - 1 tokens in a
    # row, from token LEFT - i_round - (TAPS - 1) of the group on; giver j reaches token r through tap r + TAPS - 1 - j.
    if K <= TAPS:
        b_weights = weights_of_tokens(
            p_logits,
            p_terms,
            stride_logits_t,
            stride_terms_t,
            b_position,
            b_length,
            LEFT - (TAPS - 1),
            0,
            TAPS + GROUP - 1,
            SOFTMAX,
            K,
            TAPS,
            WIDE,
        )
    for i_channel in range(0, D, CHUNK):
        o_d = i_channel + tl.arange(0, CHUNK)  # [CHUNK]
        b_d_values = (tl.full([ROWS, CHUNK], 0.0, WIDE),) * GROUP
        for i_round in range(0, K, TAPS):
            i_giver = LEFT - i_round - (TAPS - 1)
            if K > TAPS:
                b_weights = weights_of_tokens(
                    p_logits,
                    p_terms,
                    stride_logits_t,
                    stride_terms_t,
                    b_position,
                    b_length,
                    i_giver,
                    i_round,
                    TAPS + GROUP - 1,
                    SOFTMAX,
                    K,
                    TAPS,
                    WIDE,
                )
            for j in tl.static_range(TAPS + GROUP - 1):
                b_giver = b_position + (i_giver + j)  # [ROWS]
                p_row = p_grad + (i_giver + j) * stride_grad_t
                b_row = load_channels(p_row, (b_giver >= 0) & (b_giver < b_length), o_d, D, CHUNK, WIDE)
                b_sums = ()
                for r in tl.static_range(GROUP):
                    if r + TAPS - 1 - j >= 0 and r + TAPS - 1 - j < TAPS:
                        b_product = b_weights[j][r + TAPS - 1 - j][:, None] * b_row  # [ROWS, CHUNK]
                        if K % TAPS != 0:
                            b_product = tl.where(i_round + (r + TAPS - 1 - j) < K, b_product, 0.0)
                        b_sums += (b_d_values[r] + b_product,)
                    else:
                        b_sums += (b_d_values[r],)
                b_d_values = b_sums
        for r in tl.static_range(GROUP):
            b_d_value = tl.where((b_position + r < b_length)[:, None], b_d_values[r], 0.0)  # [ROWS, CHUNK]
            store_channels(p_d_values + r * stride_d_values_t, b_d_value, b_position + r < b_room, o_d, D, CHUNK)

    # d_logits = weights ⊙ (d_weights - Σ weights · d_weights). Several rounds work the sum out in a pass of their own.
    b_dots = (tl.full([ROWS], 0.0, WIDE),) * GROUP
    if K <= TAPS:
        b_own = b_weights[TAPS - 1 - LEFT : TAPS - 1 - LEFT + GROUP]  # the group's tokens are among the givers
    elif SOFTMAX:
        for i_round in range(0, K, TAPS):
            b_own = weights_of_tokens(
                p_logits,
                p_terms,
                stride_logits_t,
                stride_terms_t,
                b_position,
                b_length,
                0,
                i_round,
                GROUP,
                SOFTMAX,
                K,
                TAPS,
                WIDE,
            )
            b_d_weights = tap_gradients(
                p_grad,
                p_values,
                stride_grad_t,
                stride_values_t,
                b_position,
                b_length,
                i_round,
                LEFT,
                D,
                K,
                TAPS,
                GROUP,
                ROWS,
                CHUNK,
                WIDE,
            )
            b_dots = add_dots(b_dots, b_own, b_d_weights, TAPS, GROUP)
    for i_round in range(0, K, TAPS):
        if K > TAPS:
            b_own = weights_of_tokens(
                p_logits,
                p_terms,
                stride_logits_t,
                stride_terms_t,
                b_position,
                b_length,
                0,
                i_round,
                GROUP,
                SOFTMAX,
                K,
                TAPS,
                WIDE,
            )
        b_d_weights = tap_gradients(
            p_grad,
            p_values,
            stride_grad_t,
            stride_values_t,
            b_position,
            b_length,
            i_round,
            LEFT,
            D,
            K,
            TAPS,
            GROUP,
            ROWS,
            CHUNK,
            WIDE,
        )
        if SOFTMAX and K <= TAPS:
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
                p_tap = p_d_logits + r * stride_d_logits_t + (i_round + k)
                tl.store(p_tap, b_d_logit.to(p_d_logits.dtype.element_ty), mask=m_store)


# -- launchers ---------------------------------------------------------------------------------------------------------


def forward(
    out: torch.Tensor,
    values: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    softmax: bool,
    causal: bool,
) -> None:
    """Writes the convolution of values [B, T, H, D] with logits [B, T, H, K] (or packed) into `out`, of values' shape.

    Last dimensions are contiguous, other strides are any; no dimension is empty.
    """
    unit = _unit(out, values)
    strides = (*_strides(out, unit), *_strides(values, unit), *_strides(logits))
    with _device_of(values):
        grid, sizes, constants = _launch("light_conv_fwd", values, logits, cu_seqlens, causal)
        terms = _softmax_terms(logits, constants) if softmax else None
        light_conv_fwd_kernel[grid](
            out, values, logits, terms, lengths, cu_seqlens, *sizes, *strides, UNIT=unit, SOFTMAX=softmax, **constants
        )


def backward(
    grad: torch.Tensor,
    d_values: torch.Tensor,
    d_logits: torch.Tensor,
    values: torch.Tensor,
    logits: torch.Tensor,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    softmax: bool,
    causal: bool,
) -> None:
    """Writes the gradients with respect to values and logits, given that of the output; shapes as for `forward`."""
    unit = _unit(d_values, grad, values)
    strides = (
        *_strides(d_values, unit),
        *_strides(d_logits),
        *_strides(grad, unit),
        *_strides(values, unit),
        *_strides(logits),
    )
    with _device_of(values):
        grid, sizes, constants = _launch("light_conv_bwd", values, logits, cu_seqlens, causal)
        terms = _softmax_terms(logits, constants) if softmax else None
        light_conv_bwd_kernel[grid](
            d_values,
            d_logits,
            grad,
            values,
            logits,
            terms,
            lengths,
            cu_seqlens,
            *sizes,
            *strides,
            UNIT=unit,
            SOFTMAX=softmax,
            **constants,
        )


def _launch(
    kernel: str, values: torch.Tensor, logits: torch.Tensor, cu_seqlens: torch.Tensor | None, causal: bool
) -> tuple[tuple[int], tuple[int, int, int], dict[str, object]]:
    """A launch's grid, the kernel's sizes (batches, tokens, heads) and its constants but two."""
    heads, width = values.shape[-2:]
    taps = logits.shape[-1]
    batches, tokens = values.shape[:2] if cu_seqlens is None else (cu_seqlens.shape[0] - 1, values.shape[0])
    constants = configuration(kernel, values.device, values.dtype, width, taps)
    groups = group_count(batches, tokens, cu_seqlens is not None, constants["GROUP"])
    constants = {**constants, "LEFT": taps - 1 if causal else (taps - 1) // 2}
    return (triton.cdiv(groups, constants["ROWS"]) * heads,), (batches, tokens, heads), constants


def _softmax_terms(logits: torch.Tensor, constants: Mapping[str, object]) -> torch.Tensor | None:
    """What `light_conv_terms_kernel` makes of the logits, where the window takes several rounds."""
    taps = logits.shape[-1]
    if taps <= constants["TAPS"]:
        return None
    batches, tokens = logits.shape[:2] if logits.dim() == 4 else (1, logits.shape[0])
    heads = logits.shape[-2]
    terms = logits.new_empty((*logits.shape[:-1], 2), dtype=torch.promote_types(logits.dtype, torch.float32))
    constants = terms_configuration(logits.dtype, taps)
    grid = (triton.cdiv(batches * tokens * heads, constants["ROWS"]),)
    light_conv_terms_kernel[grid](terms, logits, batches, tokens, heads, *_strides(logits), **constants)
    return terms  # [B, T, H, 2]


@functools.cache
def configuration(kernel: str, device: torch.device, dtype: torch.dtype, D: int, K: int) -> Mapping[str, object]:
    """Constants and launch options of "light_conv_fwd" or "light_conv_bwd", by what changes the compiled code.

    What ships for the device (`tuning`), else a rule: 16 bytes a load and thread; 64 (forward) or 32 (backward) bytes
    of a token side by side; tokens a thread, and taps a round, as its registers allow; one warp a program, for Triton
    then moves numbers between threads by shuffles where several warps need shared memory and barriers.
    """
    bytes_a_token = 64 if kernel == "light_conv_fwd" else 32
    chunk = _chunk(D, bytes_a_token // dtype.itemsize)
    rounds = 1 if K <= 9 else triton.cdiv(K, 8)
    chosen = {
        "TAPS": triton.cdiv(K, rounds),
        "GROUP": 2 if dtype == torch.float64 else 4,
        "ROWS": 32 // max(1, chunk * dtype.itemsize // 16),
        "CHUNK": chunk,
        "num_warps": 1,
        **tuning.tuned(kernel, device, dtype, D=D, K=K),
    }
    wide = tl.float64 if dtype == torch.float64 else tl.float32
    return {**chosen, "D": D, "K": K, "WIDE": wide, "num_stages": 1, "enable_fp_fusion": True}


@functools.cache
def terms_configuration(dtype: torch.dtype, K: int) -> Mapping[str, object]:
    """Constants of `light_conv_terms_kernel`: about 1024 logits a program."""
    width = triton.next_power_of_2(K)
    wide = tl.float64 if dtype == torch.float64 else tl.float32
    return {
        "K": K,
        "WIDTH": width,
        "ROWS": max(1, 1024 // width),
        "WIDE": wide,
        "num_warps": 4,
        "enable_fp_fusion": True,
    }


def _chunk(D: int, largest: int) -> int:
    """The power of two from 8 to `largest` whose multiple covers D with least waste, the larger of equals."""
    sizes = [size for size in (largest, largest // 2, largest // 4) if size >= min(8, largest)]
    return min(triton.next_power_of_2(D), min(sizes, key=lambda size: triton.cdiv(D, size) * size))


def _unit(*tensors: torch.Tensor) -> int:
    """The largest power of two up to 16 that divides all strides but the last dimension's."""
    return math.gcd(16, *(stride for x in tensors for stride in _strides(x)))


def _strides(x: torch.Tensor, unit: int = 1) -> tuple[int, int, int]:
    """Strides of batch, token and head in units; 0 for those that nothing depends on, as of dimensions of size 1."""
    strides = [0 if size == 1 else stride // unit for size, stride in zip(x.shape[:-1], x.stride(), strict=False)]
    return tuple([0] * (3 - len(strides)) + strides)


def _device_of(x: torch.Tensor) -> contextlib.AbstractContextManager:
    """Triton launches on the current device: make it the tensors'."""
    return torch.cuda.device(x.device) if x.is_cuda else contextlib.nullcontext()
