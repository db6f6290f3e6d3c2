"""Launches the kernels of `glu`: the functions that write its results, and how they are configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping

import torch

from . import tuning
from .channels import chunk_size
from .dtypes import sum_dtype, triton_dtype
from .glu_kernels import glu_bwd_kernel, glu_fwd_kernel
from .launch import on_device_of
from .matrices import row_strides
from .row_plan import row_plan
from .shares import add_shares

MOST_BLOCKS = 256  # of rows, each of which writes its shares of the biases' gradients


def forward(
    out: torch.Tensor,
    left: torch.Tensor,
    gate: torch.Tensor,
    left_bias: torch.Tensor | None,
    gate_bias: torch.Tensor | None,
) -> None:
    """Writes (left + left_bias) · sigmoid(gate + gate_bias) into `out`; all [M, C], not empty, rows contiguous."""
    plan = row_plan("glu_fwd", configuration, left.device, left.dtype, left.shape, row_strides(out, left, gate))
    with on_device_of(left):
        glu_fwd_kernel[plan.grid](out, left, gate, left_bias, gate_bias, left.shape[0], *plan.strides, **plan.constants)


def backward(
    d_left: torch.Tensor | None,
    d_gate: torch.Tensor | None,
    d_left_bias: torch.Tensor | None,
    d_gate_bias: torch.Tensor | None,
    grad: torch.Tensor,
    out: torch.Tensor,
    gate: torch.Tensor,
    gate_bias: torch.Tensor | None,
) -> None:
    """Writes the gradients into d_left and d_gate [M, C] and the biases' [C], each None where not wanted."""
    written = (grad if x is None else x for x in (d_left, d_gate))
    plan = row_plan(
        "glu_bwd",
        configuration,
        gate.device,
        gate.dtype,
        gate.shape,
        row_strides(*written, grad, out, gate),
        most_blocks=MOST_BLOCKS,
    )
    shares = None
    if d_left_bias is not None or d_gate_bias is not None:
        shares = gate.new_empty((plan.blocks, 2 * gate.shape[1]), dtype=sum_dtype(gate.dtype))
    with on_device_of(gate):
        glu_bwd_kernel[plan.grid](
            d_left,
            d_gate,
            shares,
            grad,
            out,
            gate,
            gate_bias,
            gate.shape[0],
            plan.span,
            *plan.strides,
            **plan.constants,
        )
    if shares is not None:
        add_shares((d_left_bias, d_gate_bias), shares)


@functools.cache
def configuration(kernel: str, device: torch.device, dtype: torch.dtype, C: int) -> Mapping[str, object]:
    """Constants and launch options of "glu_fwd" or "glu_bwd", by what changes their code.

    What ships for the device (`tuning`), else a rule: 512 bytes of a row or more side by side, so that warps read whole
    lines that follow each other; one load of 16 bytes in flight a thread and tensor, of which there are two or three.
    """
    chunk = chunk_size(C, 1024 // max(dtype.itemsize, 4))
    warps = 4
    chosen = {
        "CHUNK": chunk,
        "ROWS": max(1, 32 * warps * 16 // (chunk * dtype.itemsize)),
        "num_warps": warps,
        **tuning.tuned(kernel, device, dtype, C=C),
    }
    return {**chosen, "C": C, "WIDE": triton_dtype(sum_dtype(dtype)), "enable_fp_fusion": True}


def candidates(kernel: str, dtype: torch.dtype) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule: `loads` of 16 bytes in flight a thread and tensor."""
    for bytes_a_row, loads, warps in itertools.product((256, 512, 1024), (1, 2), (2, 4, 8)):
        rows = max(1, loads * 32 * warps * 16 // bytes_a_row)
        yield {"CHUNK": bytes_a_row // dtype.itemsize, "ROWS": rows, "num_warps": warps}
