"""Launches the kernels of `mixed_attention`: the functions that write its results, and how each is configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import triton

from . import light_conv, tuning
from .channels import chunk_size
from .dropout import dropped_of
from .dtypes import sum_dtype, triton_dtype
from .launch import grid, on_device_of
from .mixed_attention_kernels import (
    mixed_attention_bwd_key_kernel,
    mixed_attention_bwd_query_kernel,
    mixed_attention_fwd_kernel,
)
from .parts import parts
from .sequences import group_count, without_gaps
from .strides import Strides, common_unit, in_units, token_strides

Rows = tuple[int, Strides]  # of a tensor [B, T, heads, …]: heads and strides


def forward(
    out: torch.Tensor,
    lse: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    conv_values: torch.Tensor,
    conv_logits: torch.Tensor,
    key_bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
) -> None:
    """Writes `out` [B, T, (H + N)·D] and the log-sum-exp `lse` [B, T, H], contiguous, fp32 or fp64. Or packed.

    Args:
        query, key, value: [B, T, H, D]; conv_values: [B, T, N, D]; conv_logits: [B, T, N, K]. Their last dimensions and
            that of `out` are contiguous, other strides are any; B, T and D are not 0.
        key_bias: [B, T], added to the scores of each key; -inf where it may not be attended.
        seed: int64 [1] on the device; None for no dropout.
    """
    heads, conv_heads = query.shape[-2], conv_values.shape[-2]
    plan = _plan(
        "mixed_attention_fwd",
        *_shape(query, conv_values, conv_logits, cu_seqlens, dropout_p, seed),
        ((heads + conv_heads, _split(out, query)), *_rows(query, key, value, conv_values)),
        _rows(conv_logits),
    )
    with on_device_of(query):
        mixed_attention_fwd_kernel[plan.grid](
            out,
            lse,
            query,
            key,
            value,
            conv_values,
            conv_logits,
            light_conv.softmax_terms(conv_logits) if plan.rounds > 1 else None,
            *_options(key_bias, lengths, cu_seqlens, scale, dropout_p, seed),
            *plan.numbers,
            **plan.constants,
        )


def backward(
    grad: torch.Tensor,
    d_query: torch.Tensor,
    d_key: torch.Tensor,
    d_value: torch.Tensor,
    d_conv_values: torch.Tensor,
    d_conv_logits: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    conv_values: torch.Tensor,
    conv_logits: torch.Tensor,
    out: torch.Tensor,
    lse: torch.Tensor,
    key_bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
) -> None:
    """Writes the gradients d_…, given that of the output; `out`, `lse` and all options as `forward` had them."""
    heads, conv_heads = query.shape[-2], conv_values.shape[-2]
    shape = _shape(query, conv_values, conv_logits, cu_seqlens, dropout_p, seed)
    grad_rows, out_rows = ((heads + conv_heads, _split(x, query)) for x in (grad, out))
    inputs = _rows(query, key, value)
    by_query = _plan(
        "mixed_attention_bwd_query",
        *shape,
        (*_rows(d_query, d_conv_values), grad_rows, out_rows, *inputs, *_rows(conv_values)),
        _rows(d_conv_logits, conv_logits),
    )
    by_key = _plan("mixed_attention_bwd_key", *shape, (*_rows(d_key, d_value), grad_rows, *inputs), ())
    options = _options(key_bias, lengths, cu_seqlens, scale, dropout_p, seed)
    query_terms = lse.new_empty((2, heads, query.shape[:-2].numel()))
    with on_device_of(query):
        mixed_attention_bwd_query_kernel[by_query.grid](
            d_query,
            d_conv_values,
            d_conv_logits,
            query_terms,
            grad,
            out,
            lse.contiguous(),
            query,
            key,
            value,
            conv_values,
            conv_logits,
            light_conv.softmax_terms(conv_logits) if by_query.rounds > 1 else None,
            *options,
            *by_query.numbers,
            **by_query.constants,
        )
        if heads:
            mixed_attention_bwd_key_kernel[by_key.grid](
                d_key, d_value, query_terms, grad, query, key, value, *options, *by_key.numbers, **by_key.constants
            )


class _Plan(NamedTuple):
    """grid; numbers: the kernel's sizes and strides; constants: its constants; rounds over the taps."""

    grid: tuple[int, int]
    numbers: tuple[int, ...]
    constants: Mapping[str, object]
    rounds: int


def _shape(
    query: torch.Tensor,
    conv_values: torch.Tensor,
    conv_logits: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    dropout_p: float,
    seed: torch.Tensor | None,
) -> tuple:
    """What a plan depends on but strides."""
    sequences = None if cu_seqlens is None else cu_seqlens.shape[0] - 1
    dropout = seed is not None and dropped_of(dropout_p) > 0
    sizes = (query.shape, conv_values.shape[-2], conv_logits.shape[-1])
    return query.device, query.dtype, *sizes, sequences, dropout


def _rows(*tensors: torch.Tensor) -> tuple[Rows, ...]:
    return tuple((x.shape[-2], x.stride()) for x in tensors)


def _split(x: torch.Tensor, query: torch.Tensor) -> Strides:
    """Strides of x [B, T, heads·D] as [B, T, heads, D]."""
    return (*x.stride()[:-1], query.shape[-1], 1)


def _options(
    key_bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    scale: float,
    dropout_p: float,
    seed: torch.Tensor | None,
) -> tuple:
    """What all three kernels take after their tensors."""
    dropped = 0 if seed is None else dropped_of(dropout_p)
    strides = (0, 0) if key_bias is None else key_bias.stride()
    seed = seed if dropped else None
    return key_bias, *without_gaps(lengths, cu_seqlens), seed, float(scale), dropped, *strides


@functools.lru_cache(maxsize=1024)
def _plan(
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
    shape: torch.Size,
    conv_heads: int,
    taps: int,
    sequences: int | None,
    dropout: bool,
    channel_rows: tuple[Rows, ...],
    tap_rows: tuple[Rows, ...],
) -> _Plan:
    """A launch but its tensors. Training comes back to the same shapes: they are worked out once.

    Args:
        shape: query's.
        channel_rows: heads and strides of the kernel's tensors of rows of D, in its order.
        tap_rows: those of its tensors of rows of K, which come after them.
    """
    heads, width = shape[-2:]
    batches, tokens = shape[:2] if sequences is None else (sequences, shape[0])
    constants = configuration(kernel, device, dtype, width, taps, dropout)

    def count(size: int) -> int:
        return group_count(batches, tokens, sequences is not None, size)

    if kernel == "mixed_attention_bwd_key":
        programs, sizes, rounds = count(constants["KEYS"]) * heads, (batches, tokens, heads), 0
    else:
        attending = count(constants["QUERIES"]) * heads
        programs = attending + triton.cdiv(count(constants["GROUP"]), constants["ROWS"]) * conv_heads
        sizes, rounds = (attending, batches, tokens, heads, conv_heads), triton.cdiv(taps, constants["TAPS"])
    channel_strides, tap_strides = (
        [token_strides((*shape[:-2], count, 0), strides) for count, strides in rows]
        for rows in (channel_rows, tap_rows)
    )
    unit = common_unit(*channel_strides)
    return _Plan(
        grid(programs),
        (*sizes, *in_units(unit, *channel_strides), *in_units(1, *tap_strides)),
        {**constants, "UNIT": unit},
        rounds,
    )


@functools.cache
def configuration(
    kernel: str, device: torch.device, dtype: torch.dtype, D: int, K: int, dropout: bool
) -> Mapping[str, object]:
    """Constants and launch options of a kernel, by what changes the compiled code.

    What ships for the device (`tuning`), else a rule.
    """
    chosen = {**_tiles(kernel, dtype, dropout), **tuning.tuned(kernel, device, dtype, D=D, K=K, dropout=dropout)}
    if kernel != "mixed_attention_bwd_key":
        chosen = {**_convolution(kernel, device, dtype, D, K, chosen["num_warps"]), **chosen}
    wide = triton_dtype(sum_dtype(dtype))
    return {**chosen, "D": D, "PARTS": parts(D), "WIDE": wide, "enable_fp_fusion": True}


def _tiles(kernel: str, dtype: torch.dtype, dropout: bool) -> Mapping[str, int]:
    """Tokens a tile. Backward, a mask of dropout takes the registers of half a tile on the side that is walked.

    And in fp64, sums take those of half a tile on the side that is held.
    """
    tile, stages = (32, 2) if dtype.itemsize > 2 else (64, 3)
    walked = tile // 2 if dropout else tile
    held = tile // 2 if dtype.itemsize == 8 else tile
    sizes = {
        "mixed_attention_fwd": {"QUERIES": tile, "KEYS": tile},
        "mixed_attention_bwd_query": {"QUERIES": held, "KEYS": walked},
        "mixed_attention_bwd_key": {"QUERIES": walked, "KEYS": held},
    }
    return {**sizes[kernel], "num_warps": 4, "num_stages": stages}


def _convolution(
    kernel: str, device: torch.device, dtype: torch.dtype, D: int, K: int, num_warps: int
) -> Mapping[str, int]:
    """How a program convolves: as `light_conv` alone has it, with as many rows a warp.

    Backward, 16 bytes of a token side by side, so that each row is one thread's: sums over a row's channels then stay
    with the thread that wants them, where several warps would meet at a barrier for each.
    """
    if kernel == "mixed_attention_fwd":
        alone = light_conv.configuration("light_conv_fwd", device, dtype, D, K)
        group, chunk, rows = alone["GROUP"], alone["CHUNK"], alone["ROWS"] * num_warps // alone["num_warps"]
    else:
        alone = light_conv.configuration("light_conv_bwd", device, dtype, D, K)
        group, chunk, rows = 2, chunk_size(D, 16 // dtype.itemsize), 32 * num_warps
    return {"TAPS": alone["TAPS"], "GROUP": group, "ROWS": rows, "CHUNK": chunk, "K": K, "LEFT": (K - 1) // 2}


def candidates(kernel: str, dtype: torch.dtype, D: int, K: int, dropout: bool) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule; how a program convolves follows from its warps."""
    sizes = (32, 64, 128) if dtype.itemsize == 2 else (16, 32, 64)
    for queries, keys, warps, stages in itertools.product(sizes, sizes, (4, 8), (2, 3, 4)):
        yield {"QUERIES": queries, "KEYS": keys, "num_warps": warps, "num_stages": stages}
