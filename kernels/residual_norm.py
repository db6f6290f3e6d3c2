"""Launches the kernels of `residual_norm`: the functions that write its results, and how they are configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping

import torch
import triton

from . import tuning
from .dtypes import sum_dtype, triton_dtype
from .launch import on_device_of
from .matrices import row_strides
from .residual_norm_kernels import residual_norm_bwd_kernel, residual_norm_fwd_kernel
from .row_plan import row_plan
from .shares import add_shares

MOST_BLOCKS = 512  # of rows, each of which writes its share of the weights' gradients
WIDEST_HELD = 4096  # bytes a row of sums that stands in registers


def forward(
    out: torch.Tensor,
    moments: torch.Tensor,
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    seed: torch.Tensor | None,
    threshold: int,
    scale: float,
    eps: float,
) -> None:
    """Writes LayerNorm(residual + dropout(x)) into `out` [M, C], rows contiguous, not empty, and `moments` [M, 2].

    seed: int64 [1], or None for no dropout: else elements whose random bits are below `threshold` are dropped, and the
    others multiplied by `scale`. The moments, mean and 1 / √(variance + eps), are in the dtype of sums.
    """
    plan = row_plan(
        "residual_norm_fwd", configuration, x.device, x.dtype, x.shape, row_strides(out, x, residual), whole_rows=True
    )
    with on_device_of(x):
        residual_norm_fwd_kernel[plan.grid](
            out,
            moments,
            x,
            residual,
            weight,
            bias,
            seed,
            x.shape[0],
            threshold,
            scale,
            eps,
            *plan.strides,
            **plan.constants,
        )


def backward(
    d_x: torch.Tensor | None,
    d_residual: torch.Tensor | None,
    d_weight: torch.Tensor | None,
    d_bias: torch.Tensor | None,
    grad: torch.Tensor,
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    seed: torch.Tensor | None,
    threshold: int,
    scale: float,
    moments: torch.Tensor,
) -> None:
    """Writes the gradients that are wanted, given that of out; shapes and dropout as for `forward`."""
    tensors = (grad if d_x is None else d_x, grad if d_residual is None else d_residual, grad, x, residual)
    plan = row_plan(
        "residual_norm_bwd",
        configuration,
        x.device,
        x.dtype,
        x.shape,
        row_strides(*tensors),
        most_blocks=MOST_BLOCKS,
        whole_rows=True,
    )
    shares = None
    if d_weight is not None or d_bias is not None:
        shares = x.new_empty((plan.blocks, 2 * x.shape[1]), dtype=sum_dtype(x.dtype))
    with on_device_of(x):
        residual_norm_bwd_kernel[plan.grid](
            d_x,
            d_residual,
            shares,
            grad,
            x,
            residual,
            weight,
            moments,
            seed,
            x.shape[0],
            plan.span,
            plan.blocks,
            threshold,
            scale,
            *plan.strides,
            **plan.constants,
        )
    if shares is not None:
        add_shares((d_weight, d_bias), shares)


@functools.cache
def configuration(kernel: str, device: torch.device, dtype: torch.dtype, C: int) -> Mapping[str, object]:
    """Constants and launch options of "residual_norm_fwd" or "residual_norm_bwd", by what changes their code.

    What ships for the device (`tuning`), else a rule: a row a warp, of which each thread reads 16 bytes at once.
    """
    wide = sum_dtype(dtype)
    chunk = 512 // dtype.itemsize
    chosen = {
        "CHUNK": chunk,
        "ROWS": 4,
        "num_warps": 4,
        **tuning.tuned(kernel, device, dtype, C=C),
    }
    parts = _parts(C, chosen["CHUNK"]) if C * wide.itemsize <= WIDEST_HELD else ()
    # Backward, h - mean h must not become one operation on the unrounded h: a row of one column has no gradient.
    fusion = kernel == "residual_norm_fwd"
    return {**chosen, "C": C, "PARTS": parts, "WIDE": triton_dtype(wide), "enable_fp_fusion": fusion}


def candidates(kernel: str, dtype: torch.dtype, C: int) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule."""
    for bytes_a_row, rows, warps in itertools.product((512, 1024), (1, 2, 4, 8), (1, 2, 4, 8)):
        yield {"CHUNK": bytes_a_row // dtype.itemsize, "ROWS": rows, "num_warps": warps}


def _parts(columns: int, chunk: int) -> tuple[tuple[int, int], ...]:
    """First column and size of each part: chunks, then what the smallest power of two, at least 8, covers."""
    whole = columns // chunk * chunk
    found = [(first, chunk) for first in range(0, whole, chunk)]
    if whole < columns:
        found.append((whole, max(8, triton.next_power_of_2(columns - whole))))
    return tuple(found)
