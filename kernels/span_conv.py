"""Launches the kernels of `span_conv`: the functions that write its results, and how each kernel is configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import triton

from . import light_conv, tuning
from .channels import chunk_size
from .depthwise_conv import chunk_count
from .dtypes import sum_dtype, triton_dtype
from .launch import grid, on_device_of
from .parts import parts
from .sequences import group_count, without_gaps
from .span_conv_kernels import span_conv_bwd_kernel, span_conv_fwd_kernel, span_conv_sum_kernel
from .strides import Strides, common_unit, in_units, token_strides

_ONE_ROUND = 9  # as many taps of the light convolution as registers take at once


def forward(
    out: torch.Tensor | None,
    logits: torch.Tensor,
    product: torch.Tensor | None,
    x: torch.Tensor,
    query: torch.Tensor,
    values: torch.Tensor | None,
    depthwise_weight: torch.Tensor,
    pointwise_weight: torch.Tensor,
    pointwise_bias: torch.Tensor | None,
    kernel_weight: torch.Tensor,
    kernel_bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
) -> None:
    """Writes logits [B, T, H, K] (or packed); product [B, T, H·D] and out [B, T, H, D] where they are not None.

    Results are contiguous; of the others last dimensions are, other strides are any; no dimension is empty. Windows of
    more taps than registers hold at once are left to the kernel of `light_conv`.
    """
    heads, taps = logits.shape[-2:]
    fused = out is not None and taps <= _ONE_ROUND
    x_shape, x_strides = (*x.shape[:-1], 1, x.shape[-1]), (*x.stride()[:-1], 0, 1)
    plan = _forward_plan(
        x.device,
        x.dtype,
        query.shape,
        x.shape[-1],
        depthwise_weight.shape[-1],
        taps,
        None if cu_seqlens is None else cu_seqlens.shape[0] - 1,
        (
            token_strides(x_shape, x_strides),
            token_strides(query.shape, query.stride()),
            token_strides(values.shape, values.stride()) if fused else (0, 0, 0),
        ),
        (pointwise_weight.stride(0), kernel_weight.stride(0)),
    )
    by_tap = depthwise_weight.t().contiguous()  # [S, C]: channels side by side, as programs load them
    with on_device_of(x):
        span_conv_fwd_kernel[plan.grid](
            out if fused else None,
            logits,
            product,
            x,
            query,
            values if fused else None,
            by_tap,
            pointwise_weight,
            pointwise_bias,
            kernel_weight,
            kernel_bias,
            *without_gaps(lengths, cu_seqlens),
            *plan.numbers,
            **plan.constants,
        )
    if out is not None and not fused:
        light_conv.forward(out, values, logits, lengths, cu_seqlens, True, False)


def backward(
    d_query: torch.Tensor,
    d_product: torch.Tensor,
    d_kernel_weight: torch.Tensor | None,
    d_pointwise_bias: torch.Tensor | None,
    d_kernel_bias: torch.Tensor | None,
    d_logits: torch.Tensor,
    product: torch.Tensor,
    query: torch.Tensor,
    kernel_weight: torch.Tensor,
    lengths: torch.Tensor | None,
) -> None:
    """Writes what follows from d_logits [B, T, H, K] (or packed) alone: the gradients in its name's order.

    d_query and d_product are like query [B, T, H, D]; the others are of the weights' shapes, or None where not wanted.
    All tensors are contiguous but query and kernel_weight, whose last dimensions are; no dimension is empty.
    """
    plan = _backward_plan(
        query.device,
        query.dtype,
        query.shape,
        d_logits.shape[-1],
        token_strides(query.shape, query.stride()),
        kernel_weight.stride(0),
    )
    columns, rows = kernel_weight.shape[1], kernel_weight.shape[0]
    gradients = (d_kernel_weight, d_pointwise_bias, d_kernel_bias)
    shares = None
    if any(gradient is not None for gradient in gradients):
        shares = query.new_empty((plan.chunks, rows * columns + columns + rows), dtype=sum_dtype(query.dtype))
    with on_device_of(query):
        span_conv_bwd_kernel[plan.grid](
            d_query,
            d_product,
            shares,
            d_logits,
            product,
            query,
            kernel_weight,
            *without_gaps(lengths),
            *plan.numbers,
            **plan.constants,
        )
        if shares is not None:
            constants = sum_configuration(query.dtype, columns, rows)
            programs = triton.cdiv(shares.shape[1], constants["CHUNK"])
            span_conv_sum_kernel[grid(programs)](*gradients, shares, plan.chunks, **constants)


class _Plan(NamedTuple):
    """A launch but its tensors; chunks: how many rows of programs backward's tiles of tokens are dealt out to."""

    grid: tuple[int, int]
    chunks: int
    numbers: tuple[int, ...]
    constants: Mapping[str, object]


@functools.lru_cache(maxsize=1024)
def _forward_plan(
    device: torch.device,
    dtype: torch.dtype,
    shape: torch.Size,
    channels: int,
    span: int,
    taps: int,
    sequences: int | None,
    strides: tuple[Strides, ...],
    weight_strides: Strides,
) -> _Plan:
    """Training comes back to the same shapes: what a launch takes is worked out once.

    Args:
        shape: the query's; sequences: how many are packed, None if padded.
        strides: of batch, token and head of x, query and values; weight_strides: of the weights' rows.
    """
    batches, tokens = shape[:2] if sequences is None else (sequences, shape[0])
    constants = forward_configuration(device, _capability(device), dtype, channels, *shape[-2:], taps, span)
    groups = group_count(batches, tokens, sequences is not None, constants["GROUP"])
    unit = common_unit(*strides, weight_strides)
    return _Plan(
        grid(triton.cdiv(groups, constants["ROWS"])),
        0,
        (batches, tokens, *in_units(unit, weight_strides, *strides)),
        {**constants, "UNIT": unit},
    )


@functools.lru_cache(maxsize=1024)
def _backward_plan(
    device: torch.device, dtype: torch.dtype, shape: torch.Size, taps: int, strides: Strides, weight_stride: int
) -> _Plan:
    batches, tokens = shape[:2] if len(shape) == 4 else (1, shape[0])
    constants = backward_configuration(device, _capability(device), dtype, *shape[-2:], taps)
    blocks = triton.cdiv(shape[-2] * shape[-1], constants["BLOCK_A"])
    # A program a multiprocessor: more would have more shares to write.
    chunks = chunk_count(triton.cdiv(batches * tokens, constants["TILE"]), triton.cdiv(132, blocks))
    unit = common_unit(strides, (weight_stride,))
    return _Plan(
        grid(chunks * blocks),
        chunks,
        (batches, tokens, chunks, *in_units(unit, (weight_stride,), strides)),
        {**constants, "UNIT": unit},
    )


@functools.cache
def forward_configuration(
    device: torch.device, capability: int, dtype: torch.dtype, C: int, H: int, D: int, K: int, S: int
) -> Mapping[str, object]:
    """Constants and launch options of `span_conv_fwd_kernel`, by what changes the compiled code.

    What ships for the device (`tuning`), else a rule. In 16 bits 64 tokens a program, as the tensor cores since Hopper
    take them, and all columns of the product in one pass up to 384 of them. With P passes, N tokens and T tokens a
    program, the weights come N/T·(C + H·K)·H·D elements from the second cache, x P·N·C, and span is worked out P times.
    base, N = 32·512:

        T    P   registers of sums   weights   x       span, 37 instructions an element
        64   1   96 in 8 warps       161 MB    28 MB   16 µs of what 132 multiprocessors issue
        128  2   96 in 8 warps        81 MB    53 MB   22 µs   (the passes' own numbers do not fit beside: it spills)
        128  3   64 in 8 warps        81 MB    80 MB   33 µs

    That is in groups of 4 tokens. Beside 96 registers of sums Hopper has too few for them and takes groups of 2, at 42
    instructions an element of the span and 18 µs; before it a program has fewer sums, after it they have a memory of
    their own.
    """
    A, half = H * D, dtype.itemsize == 2
    block = max(16, chunk_size(A, 128 if half else 64))
    if half:
        # The tensor cores before Hopper take their operands from registers: those of 32 tokens.
        rows, most, channels = 16 if capability >= 90 else 8, 384, 64
    else:
        rows, most, channels = 4, 128 if dtype == torch.float32 else 64, 16
    passes = triton.cdiv(A, most)
    blocks = triton.cdiv(triton.cdiv(A, block), passes)
    group = 4
    if half and block * blocks > 256:
        channels = 32  # of the span at once: the sums leave no registers for more
        if 90 <= capability < 100:
            group, rows = 2, 2 * rows
    chosen = {
        "GROUP": group,
        "ROWS": rows,
        "BLOCK_C": max(16, chunk_size(C, channels)),
        "BLOCK_A": block,
        "BLOCKS": blocks,
        "num_warps": 4 if half and block * blocks <= 192 else 8,
        "num_stages": 2 if half else 1,
        **tuning.tuned("span_conv_fwd", device, dtype, C=C, H=H, D=D, K=K, S=S),
    }
    heads = min(8, triton.next_power_of_2(H))
    a_thread = 1 if dtype == torch.float64 else 16 // dtype.itemsize  # channels of values
    a_row = chosen["num_warps"] * 32 * a_thread // (chosen["ROWS"] * heads)
    fixed = {"C": C, "S": S, "H": H, "D": D, "K": K, "PARTS": parts(H * K), "HEADS": heads}
    wide = triton_dtype(sum_dtype(dtype))
    return {**fixed, "CHUNK": chunk_size(D, max(8, a_row)), **chosen, "WIDE": wide, "enable_fp_fusion": True}


@functools.cache
def backward_configuration(
    device: torch.device, capability: int, dtype: torch.dtype, H: int, D: int, K: int
) -> Mapping[str, object]:
    """Constants and launch options of `span_conv_bwd_kernel`: 64 tokens a tile in 16 bits, as forward.

    128 columns a program in 16 bits, but 64 on Blackwell, where sums go to and fro between its tensor memory and
    registers: these then spill with 128 columns of 54 logits' weights.
    """
    half = dtype.itemsize == 2
    most = 32 if not half else 64 if capability >= 100 else 128
    chosen = {
        "TILE": 64 if half else 32,
        "BLOCK_A": max(16, chunk_size(H * D, most)),
        "num_warps": 8,
        "num_stages": 2 if half else 1,
        **tuning.tuned("span_conv_bwd", device, dtype, H=H, D=D, K=K),
    }
    wide = triton_dtype(sum_dtype(dtype))
    return {**chosen, "H": H, "D": D, "K": K, "PARTS": parts(H * K), "WIDE": wide, "enable_fp_fusion": True}


def forward_candidates(dtype: torch.dtype, C: int, H: int, D: int, K: int, S: int) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule, forward."""
    rows = (8, 16, 32) if dtype.itemsize == 2 else (4, 8)
    most = 64 if dtype.itemsize == 2 else 16
    channels = dict.fromkeys(max(16, chunk_size(C, size)) for size in (most // 2, most))
    for row, channel, warps, stages in itertools.product(rows, channels, (4, 8), (1, 2, 3)):
        yield {"ROWS": row, "BLOCK_C": channel, "num_warps": warps, "num_stages": stages}


def backward_candidates(dtype: torch.dtype, H: int, D: int, K: int) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule, backward."""
    tiles, most = ((32, 64, 128), 128) if dtype.itemsize == 2 else ((16, 32), 32)
    blocks = dict.fromkeys(max(16, chunk_size(H * D, size)) for size in (most // 2, most))
    for tile, block, warps, stages in itertools.product(tiles, blocks, (4, 8), (1, 2, 3)):
        yield {"TILE": tile, "BLOCK_A": block, "num_warps": warps, "num_stages": stages}


@functools.cache
def sum_configuration(dtype: torch.dtype, A: int, L: int) -> Mapping[str, object]:
    """Constants and launch options of `span_conv_sum_kernel`: 32 shares of 32 numbers at a time."""
    wide = triton_dtype(sum_dtype(dtype))
    return {"A": A, "L": L, "ROWS": 32, "CHUNK": 32, "WIDE": wide, "num_warps": 4, "enable_fp_fusion": True}


def _capability(device: torch.device) -> int:
    """Compute capability times ten; that of Hopper where there is no GPU."""
    if device.type != "cuda":
        return 90
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor
