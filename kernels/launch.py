"""What every launch needs: a grid, the program's place in it, and the tensors' device."""

import contextlib

import torch
import triton
import triton.language as tl

LARGEST_SIDE = 65_535  # of a grid: CUDA's limit on all sides but the first
_STAY = contextlib.nullcontext()


def grid(programs: int) -> tuple[int, int]:
    """A grid of at least this many programs, counted by `program_index`; the few too many must do nothing."""
    rows = triton.cdiv(programs, LARGEST_SIDE)
    return triton.cdiv(programs, rows), rows


@triton.jit
def program_index():
    return tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)


def on_device_of(x: torch.Tensor) -> contextlib.AbstractContextManager:
    """Triton launches on the current device: make it the tensor's."""
    if not x.is_cuda or x.device.index == torch.cuda.current_device():
        return _STAY
    return torch.cuda.device(x.device)
