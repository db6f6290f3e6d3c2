"""Matrices [M, C] as kernels take them: rows of contiguous numbers, any distance apart."""

import torch


def row_strides(*matrices: torch.Tensor) -> tuple[tuple[int], ...]:
    """The distance of each matrix's rows, as `strides` takes strides: 0 for a single row, on which nothing depends."""
    return tuple((x.stride(0) if x.shape[0] > 1 else 0,) for x in matrices)
