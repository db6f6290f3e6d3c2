"""Launches the kernels of `light_conv`: the functions that write its results, and how each kernel is configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import triton

from . import tuning
from .channels import chunk_size
from .dtypes import sum_dtype, triton_dtype
from .launch import grid, on_device_of
from .light_conv_kernels import light_conv_bwd_kernel, light_conv_fwd_kernel, light_conv_terms_kernel
from .sequences import group_count, without_gaps
from .strides import Strides, common_unit, in_units, token_strides


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
    channels, taps = (out.stride(), values.stride()), (logits.stride(),)
    plan = _plan("light_conv_fwd", *_shape(values, logits, cu_seqlens), causal, channels, taps)
    with on_device_of(values):
        terms = softmax_terms(logits) if softmax and plan.rounds > 1 else None
        light_conv_fwd_kernel[plan.grid](
            out,
            values,
            logits,
            terms,
            *without_gaps(lengths, cu_seqlens),
            *plan.numbers,
            SOFTMAX=softmax,
            **plan.constants,
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
    channels, taps = (d_values.stride(), grad.stride(), values.stride()), (d_logits.stride(), logits.stride())
    plan = _plan("light_conv_bwd", *_shape(values, logits, cu_seqlens), causal, channels, taps)
    with on_device_of(values):
        terms = softmax_terms(logits) if softmax and plan.rounds > 1 else None
        light_conv_bwd_kernel[plan.grid](
            d_values,
            grad,
            values,
            d_logits,
            logits,
            terms,
            *without_gaps(lengths, cu_seqlens),
            *plan.numbers,
            SOFTMAX=softmax,
            **plan.constants,
        )


class _Plan(NamedTuple):
    """grid; numbers: the kernel's sizes and strides; constants: its constants but SOFTMAX; rounds over the taps."""

    grid: tuple[int, int]
    numbers: tuple[int, ...]
    constants: Mapping[str, object]
    rounds: int


def _shape(values: torch.Tensor, logits: torch.Tensor, cu_seqlens: torch.Tensor | None) -> tuple:
    """What a plan depends on: device, dtype, shape of values, taps, and in the packed form the number of sequences."""
    sequences = None if cu_seqlens is None else cu_seqlens.shape[0] - 1
    return values.device, values.dtype, values.shape, logits.shape[-1], sequences


@functools.lru_cache(maxsize=1024)
def _plan(
    kernel: str,
    device: torch.device,
    dtype: torch.dtype,
    shape: torch.Size,
    taps: int,
    sequences: int | None,
    causal: bool,
    channel_strides: tuple[Strides, ...],
    tap_strides: tuple[Strides, ...],
) -> _Plan:
    """A launch but its tensors. Training comes back to the same shapes: they are worked out once.

    Args:
        channel_strides: those of the kernel's tensors [B, T, H, D], in its order.
        tap_strides: those of its tensors [B, T, H, K], which come after them.
    """
    heads, width = shape[-2:]
    batches, tokens = shape[:2] if sequences is None else (sequences, shape[0])
    constants = configuration(kernel, device, dtype, width, taps)
    groups = group_count(batches, tokens, sequences is not None, constants["GROUP"])
    channel_strides = [token_strides(shape, strides) for strides in channel_strides]
    tap_strides = [token_strides(shape, strides) for strides in tap_strides]
    unit = common_unit(*channel_strides)
    return _Plan(
        grid(triton.cdiv(groups, constants["ROWS"]) * heads),
        (batches, tokens, heads, *in_units(unit, *channel_strides), *in_units(1, *tap_strides)),
        {**constants, "UNIT": unit, "LEFT": taps - 1 if causal else (taps - 1) // 2},
        triton.cdiv(taps, constants["TAPS"]),
    )


def softmax_terms(logits: torch.Tensor) -> torch.Tensor:
    """What `light_conv_terms_kernel` makes of the logits: [B, T, H, 2]."""
    strides = token_strides(logits.shape, logits.stride())
    batches, tokens, heads = (1, *logits.shape[:-1])[-3:]
    terms = logits.new_empty((*logits.shape[:-1], 2), dtype=sum_dtype(logits.dtype))
    constants = terms_configuration(logits.dtype, logits.shape[-1])
    launch = light_conv_terms_kernel[grid(triton.cdiv(batches * tokens * heads, constants["ROWS"]))]
    launch(terms, logits, batches, tokens, heads, *strides, **constants)
    return terms


@functools.cache
def configuration(kernel: str, device: torch.device, dtype: torch.dtype, D: int, K: int) -> Mapping[str, object]:
    """Constants and launch options of "light_conv_fwd" or "light_conv_bwd", by what changes the compiled code.

    What ships for the device (`tuning`), else a rule: 16 bytes a load and thread; 64 (forward) or 32 (backward) bytes
    of a token side by side; tokens a thread, and taps a round, as its registers allow; one warp a program, for Triton
    then moves numbers between threads by shuffles where several warps need shared memory and barriers.
    """
    bytes_a_token = 64 if kernel == "light_conv_fwd" else 32
    chunk = chunk_size(D, bytes_a_token // dtype.itemsize)
    rounds = 1 if K <= 9 else triton.cdiv(K, 8)
    chosen = {
        "TAPS": triton.cdiv(K, rounds),
        "GROUP": 2 if dtype == torch.float64 else 4,
        "ROWS": 32 // max(1, chunk * dtype.itemsize // 16),
        "CHUNK": chunk,
        "num_warps": 1,
        **tuning.tuned(kernel, device, dtype, D=D, K=K),
    }
    wide = triton_dtype(sum_dtype(dtype))
    return {**chosen, "D": D, "K": K, "WIDE": wide, "num_stages": 1, "enable_fp_fusion": True}


def candidates(kernel: str, dtype: torch.dtype, D: int, K: int) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule: as many rows as the warps' threads read 16 bytes of each."""
    for group, bytes_a_token, warps in itertools.product((2, 4, 8), (32, 64, 128), (1, 2, 4)):
        chunk = min(triton.next_power_of_2(D), bytes_a_token // dtype.itemsize)
        rows = 32 * warps // max(1, chunk * dtype.itemsize // 16)
        yield {"GROUP": group, "ROWS": rows, "CHUNK": chunk, "num_warps": warps}


@functools.cache
def terms_configuration(dtype: torch.dtype, K: int) -> Mapping[str, object]:
    """Constants and launch options of `light_conv_terms_kernel`: about 1024 logits a program."""
    width = triton.next_power_of_2(K)
    return {
        "K": K,
        "WIDTH": width,
        "ROWS": max(1, 1024 // width),
        "WIDE": triton_dtype(sum_dtype(dtype)),
        "num_warps": 4,
        "enable_fp_fusion": True,
    }
