"""How the kernels whose programs take some rows each, and perhaps a chunk of their columns, are launched."""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
import triton

from .launch import grid
from .strides import common_unit, in_units

Configuration = Callable[[str, torch.device, torch.dtype, int], Mapping[str, object]]


class RowPlan(NamedTuple):
    """A launch but its tensors. strides: in units; blocks: of `span` rows each, which is ROWS or a multiple of it."""

    grid: tuple[int, int]
    strides: tuple[int, ...]
    constants: Mapping[str, object]
    blocks: int
    span: int


@functools.lru_cache(maxsize=4096)
def row_plan(
    kernel: str,
    configuration: Configuration,
    device: torch.device,
    dtype: torch.dtype,
    shape: torch.Size,
    strides: tuple[tuple[int], ...],
    *,
    most_blocks: int | None = None,
    whole_rows: bool = False,
) -> RowPlan:
    """Training comes back to the same shapes: what they need is worked out once.

    Args:
        configuration: of kernel, device, dtype and columns → constants, ROWS and CHUNK among them.
        shape: rows and columns; strides: those of the rows of each tensor.
        most_blocks: of rows, each of which leaves something for a second stage to add up; None: a block a program.
        whole_rows: a program takes all columns, else CHUNK of them.
    """
    rows, columns = shape
    constants = configuration(kernel, device, dtype, columns)
    span = constants["ROWS"]
    if most_blocks is not None:
        span *= triton.cdiv(rows, span * most_blocks)
    blocks = triton.cdiv(rows, span)
    chunks = 1 if whole_rows else triton.cdiv(columns, constants["CHUNK"])
    unit = common_unit(*strides)
    return RowPlan(grid(blocks * chunks), in_units(unit, *strides), {**constants, "UNIT": unit}, blocks, span)
