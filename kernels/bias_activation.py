"""Launches the kernels of `bias_activation`: the functions that write its results, and how they are configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping

import torch

from . import tuning
from .bias_activation_kernels import bias_activation_bwd_kernel, bias_activation_fwd_kernel
from .channels import chunk_size
from .dtypes import sum_dtype, triton_dtype
from .launch import on_device_of
from .matrices import row_strides
from .row_plan import row_plan
from .shares import add_shares

MOST_BLOCKS = 256  # of rows, each of which writes its share of the bias's gradient


def forward(out: torch.Tensor, x: torch.Tensor, bias: torch.Tensor | None, activation: str | None) -> None:
    """Writes activation(x + bias) into `out`, which may be x itself; both [M, C], not empty, rows contiguous."""
    plan = row_plan("bias_activation_fwd", configuration, x.device, x.dtype, x.shape, row_strides(out, x))
    with on_device_of(x):
        bias_activation_fwd_kernel[plan.grid](
            out, x, _dense(bias), x.shape[0], *plan.strides, ACTIVATION=activation, **plan.constants
        )


def backward(
    d_x: torch.Tensor | None,
    d_bias: torch.Tensor | None,
    grad: torch.Tensor,
    x: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
) -> None:
    """Writes the gradients into d_x [M, C], which may be grad itself, and d_bias [C], each None where not wanted."""
    strides = row_strides(grad if d_x is None else d_x, grad, x)
    plan = row_plan("bias_activation_bwd", configuration, x.device, x.dtype, x.shape, strides, most_blocks=MOST_BLOCKS)
    shares = None if d_bias is None else x.new_empty((plan.blocks, x.shape[1]), dtype=sum_dtype(x.dtype))
    with on_device_of(x):
        bias_activation_bwd_kernel[plan.grid](
            d_x,
            shares,
            grad,
            x,
            _dense(bias),
            x.shape[0],
            plan.span,
            *plan.strides,
            ACTIVATION=activation,
            **plan.constants,
        )
    if d_bias is not None:
        add_shares((d_bias,), shares)


def _dense(bias: torch.Tensor | None) -> torch.Tensor | None:
    return None if bias is None else bias.contiguous()


@functools.cache
def configuration(kernel: str, device: torch.device, dtype: torch.dtype, C: int) -> Mapping[str, object]:
    """Constants and launch options of "bias_activation_fwd" or "bias_activation_bwd", by what changes their code.

    What ships for the device (`tuning`), else a rule: 512 bytes of a row side by side, so that a warp reads whole lines
    that follow each other; two loads of 16 bytes in flight a thread and tensor.
    """
    chunk = chunk_size(C, 512 // dtype.itemsize)
    warps = 4
    chosen = {
        "CHUNK": chunk,
        "ROWS": max(1, 2 * 32 * warps * 16 // (chunk * dtype.itemsize)),
        "num_warps": warps,
        **tuning.tuned(kernel, device, dtype, C=C),
    }
    return {**chosen, "C": C, "WIDE": triton_dtype(sum_dtype(dtype)), "enable_fp_fusion": True}


def candidates(kernel: str, dtype: torch.dtype, C: int) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule: `loads` of 16 bytes in flight a thread and tensor."""
    for bytes_a_row, loads, warps in itertools.product((256, 512, 1024), (1, 2, 4), (2, 4, 8)):
        chunk = chunk_size(C, bytes_a_row // dtype.itemsize)
        rows = max(1, loads * 32 * warps * 16 // (chunk * dtype.itemsize))
        yield {"CHUNK": chunk, "ROWS": rows, "num_warps": warps}
