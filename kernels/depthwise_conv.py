"""Launches the kernels of `depthwise_conv`: the functions that write its results, and how each kernel is configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import triton

from . import tuning
from .channels import chunk_size
from .depthwise_conv_kernels import (
    depthwise_conv_bwd_kernel,
    depthwise_conv_fwd_kernel,
    depthwise_conv_sum_kernel,
)
from .dtypes import sum_dtype, triton_dtype
from .launch import grid, on_device_of
from .sequences import group_count, without_gaps
from .strides import Strides, common_unit, in_units, token_strides


def forward(
    out: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    causal: bool,
) -> None:
    """Writes the convolution of x [B, T, C] (or packed) with weight [C, K], plus bias [C], into `out`, of x's shape.

    Last dimensions are contiguous, other strides are any; no dimension is empty.
    """
    _convolve(out, x, weight, bias, lengths, cu_seqlens, _left(weight, causal), False)


def backward(
    grad: torch.Tensor,
    d_x: torch.Tensor,
    d_weight: torch.Tensor,
    d_bias: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    lengths: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    causal: bool,
) -> None:
    """Writes the gradients that are wanted, given that of the output; shapes as for `forward`.

    d_weight and d_bias are contiguous; gradients that are not wanted are empty.
    """
    left, taps = _left(weight, causal), weight.shape[-1]
    d_weight, d_bias = (gradient if gradient.numel() else None for gradient in (d_weight, d_bias))
    sums_wanted = d_weight is not None or d_bias is not None
    together = sums_wanted and d_x.numel() and rounds(taps) == 1
    if d_x.numel() and not together:
        _convolve(d_x, grad, weight, None, lengths, cu_seqlens, taps - 1 - left, True)
    if not sums_wanted:
        return
    d_x = d_x if together else None
    strides = (x.stride() if d_x is None else d_x.stride(), grad.stride(), x.stride())
    plan = _plan("depthwise_conv_bwd", *_shape(x, weight, cu_seqlens), left, strides)
    shares = x.new_empty((plan.chunks, taps + 1, x.shape[-1]), dtype=sum_dtype(x.dtype))  # [chunks, K + 1, C]
    constants = sum_configuration(x.dtype, *weight.shape)
    with on_device_of(x):
        depthwise_conv_bwd_kernel[plan.grid](
            d_x,
            shares,
            grad,
            x,
            weight,
            *without_gaps(lengths, cu_seqlens),
            *plan.numbers,
            **plan.constants,
        )
        programs = (taps + 1) * triton.cdiv(x.shape[-1], constants["CHUNK"])
        depthwise_conv_sum_kernel[grid(programs)](d_weight, d_bias, shares, plan.chunks, **constants)


def _convolve(out, x, weight, bias, lengths, cu_seqlens, left: int, reverse: bool) -> None:
    plan = _plan("depthwise_conv_fwd", *_shape(x, weight, cu_seqlens), left, (out.stride(), x.stride()))
    with on_device_of(x):
        depthwise_conv_fwd_kernel[plan.grid](
            out,
            x,
            weight,
            bias,
            *without_gaps(lengths, cu_seqlens),
            *plan.numbers,
            REVERSED=reverse,
            **plan.constants,
        )


def _left(weight: torch.Tensor, causal: bool) -> int:
    taps = weight.shape[-1]
    return taps - 1 if causal else (taps - 1) // 2


class _Plan(NamedTuple):
    """numbers: the kernel's sizes and strides; constants: its constants but REVERSED."""

    grid: tuple[int, int]
    chunks: int
    numbers: tuple[int, ...]
    constants: Mapping[str, object]


def _shape(x: torch.Tensor, weight: torch.Tensor, cu_seqlens: torch.Tensor | None) -> tuple:
    """What a plan depends on: device, dtype, shape of x, K, weight's stride, and the number of packed sequences."""
    sequences = None if cu_seqlens is None else cu_seqlens.shape[0] - 1
    return x.device, x.dtype, x.shape, weight.shape[-1], weight.stride(0), sequences


@functools.lru_cache(maxsize=1024)
def _plan(
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
    shape: torch.Size,
    taps: int,
    weight_stride: int,
    sequences: int | None,
    left: int,
    strides: tuple[Strides, ...],
) -> _Plan:
    """A launch but its tensors. Training comes back to the same shapes: they are worked out once.

    Args:
        strides: those of the kernel's tensors [B, T, C], in its order.
    """
    batches, tokens = shape[:2] if sequences is None else (sequences, shape[0])
    channels = shape[-1]
    constants = configuration(kernel, device, dtype, channels, taps)
    groups = group_count(batches, tokens, sequences is not None, constants["GROUP"])
    tiles = triton.cdiv(groups, constants["SPAN"])
    programs = triton.cdiv(channels, constants["CHUNK"])  # a chunk's
    if kernel == "depthwise_conv_bwd":
        programs *= rounds(taps)
    warps = 2112 if kernel == "depthwise_conv_fwd" else 1056  # 16 and 8 a multiprocessor
    chunks = chunk_count(tiles, warps // (programs * constants["num_warps"]))
    side_by_side = shape[-2] == 1 or all(tensor[-2] == channels for tensor in strides)
    strides = [token_strides((*shape[:-1], 1, 1), (*tensor[:-1], 0, 1))[:2] for tensor in strides]  # of batch and token
    unit = common_unit(*strides)
    return _Plan(
        grid(chunks * programs),
        chunks,
        (batches, tokens, tiles, chunks, weight_stride, *in_units(unit, *strides)),
        {**constants, "UNIT": unit, "STEP": channels if side_by_side else 0, "LEFT": left},
    )


def chunk_count(tiles: int, wanted: int) -> int:
    """How many chunks the tiles are dealt out to, where `wanted` give a GPU of 132 multiprocessors enough to do.

    A chunk begins with reading its kernels and, backward, ends with writing its shares, which more tiles a chunk make
    up for. Chunks of more than 32 tiles are cut further, up to 255 chunks, so that the longest does not run alone for
    long. The number is odd, for rows of tokens are often a power of two of tiles: with an even one, the tiles of a
    chunk could lie at one place of each row, all of them padding.
    """
    most = max((wanted - 1) | 1, min(triton.cdiv(tiles, 32) | 1, 255))
    return tiles if tiles <= most else triton.cdiv(tiles, triton.cdiv(tiles, most)) | 1


def rounds(taps: int) -> int:
    """Up to 15 taps fit registers at once; of more, about 8 at a time."""
    return 1 if taps <= 15 else triton.cdiv(taps, 8)


@functools.cache
def configuration(kernel: str, device: torch.device, dtype: torch.dtype, C: int, K: int) -> Mapping[str, object]:
    """Constants and launch options of "depthwise_conv_fwd" or "depthwise_conv_bwd", by what changes the compiled code.

    What ships for the device (`tuning`), else a rule: 64 channels a warp (32 in fp64), each a 128-byte line of a row in
    16 bits; 16 tokens a group, which the K - 1 rows around them do not outnumber.
    """
    a_warp = 32 if dtype == torch.float64 else 64
    chunk = chunk_size(C, 4 * a_warp)
    chosen = {
        "GROUP": 16,
        "SPAN": 4,
        "CHUNK": chunk,
        "num_warps": max(1, chunk // a_warp),
        **tuning.tuned(kernel, device, dtype, C=C, K=K),
    }
    wide = triton_dtype(sum_dtype(dtype))
    fixed = {"C": C, "K": K, "TAPS": triton.cdiv(K, rounds(K)), "WIDE": wide}
    return {**chosen, **fixed, "num_stages": 1, "enable_fp_fusion": True}


def candidates(kernel: str, dtype: torch.dtype, C: int, K: int) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule."""
    a_warp = 32 if dtype == torch.float64 else 64
    for group, span, warps in itertools.product((8, 16, 32), (1, 4, 8), (1, 2, 4)):
        yield {"GROUP": group, "SPAN": span, "CHUNK": chunk_size(C, warps * a_warp), "num_warps": warps}


@functools.cache
def sum_configuration(dtype: torch.dtype, C: int, K: int) -> Mapping[str, object]:
    """Constants and launch options of `depthwise_conv_sum_kernel`: 32 shares of 32 channels at a time."""
    wide = triton_dtype(sum_dtype(dtype))
    return {"C": C, "K": K, "ROWS": 32, "CHUNK": 32, "WIDE": wide, "num_warps": 4, "enable_fp_fusion": True}
