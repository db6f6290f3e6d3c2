"""Strides as kernels take them, and the addresses that kernels make of them.

A kernel gets the strides of batch, token and head of each tensor as numbers `stride_<tensor>_b`, `_t` and `_h`, never
as constants: a new shape compiles nothing. Those of tensors of which a thread reads many numbers of a row at a time
count units of UNIT elements, UNIT a constant, so that the compiler sees how far each row is aligned.
"""

import math

import triton
import triton.language as tl

Strides = tuple[int, ...]


def names(*tensors: str) -> list[str]:
    """The names of these tensors' strides in a kernel's signature, for `do_not_specialize`."""
    return [f"stride_{tensor}_{axis}" for tensor in tensors for axis in "bth"]


def token_strides(shape: tuple[int, ...], strides: Strides) -> Strides:
    """Strides of batch, token and head of a tensor [B, T, H, …], or [total, H, …], whose batch has stride 0.

    0 also for dimensions of size 1, on whose stride nothing depends.
    """
    *steps, _ = (0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))
    return (0, *steps) if len(steps) == 2 else tuple(steps)


def common_unit(*strides: Strides) -> int:
    """The largest power of two up to 16 that divides all of these."""
    return math.gcd(16, *(stride for tensor in strides for stride in tensor))


def in_units(unit: int, *strides: Strides) -> Strides:
    """The strides of all these tensors, one after the other, in units."""
    return tuple(stride // unit for tensor in strides for stride in tensor)


@triton.jit
def rows_at(p, place, stride_b, stride_t, stride_h, UNIT: tl.constexpr):
    """Where a tensor has the tokens of `place` = (batch, token, head), each a number or [ROWS].

    Returns:
        Pointers to the first element of each token's row, and how many elements lie between neighbouring tokens; int64
        throughout if batch and token are or the strides are.
    """
    i_batch, i_token, i_head = place
    stride = stride_t * UNIT
    return p + (i_batch * stride_b + i_head * stride_h) * UNIT + i_token * stride, stride
