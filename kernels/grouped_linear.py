"""Launches the kernels of `grouped_linear`: the functions that write its results, and how they are configured."""

import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import triton

from . import bias_activation, tuning
from .dtypes import sum_dtype, triton_dtype
from .grouped_linear_kernels import grouped_linear_bwd_weight_kernel, grouped_linear_fwd_kernel
from .launch import grid, on_device_of
from .matrices import row_strides
from .parts import parts
from .shares import add_shares
from .strides import Strides, common_unit, in_units

LEAST_SPAN = 512  # rows a block of the first stage of d_weight's sums
MOST_PROGRAMS = 132  # that more than one block may bring: one a multiprocessor of an H200


def forward(
    out: torch.Tensor,
    product: torch.Tensor | None,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str | None,
) -> None:
    """Writes activation(x · weight + bias) into `out` [M, G·O] and, unless it is None, x · weight into `product`.

    Rows are contiguous, those of product as far apart as out's; weight [G, I, O] has any strides; out is not empty.
    """
    weight, by_column = _matrices(weight)
    strides = _matrix_strides(weight, by_column)
    plan = _forward_plan(x.device, x.dtype, x.shape[0], weight.shape, row_strides(out, x), strides)
    with on_device_of(x):
        grouped_linear_fwd_kernel[plan.grid](
            out,
            product,
            x,
            weight,
            None if bias is None else bias.contiguous(),
            *plan.numbers,
            BY_COLUMN=by_column,
            ACTIVATION=activation,
            **plan.constants,
        )


def backward(
    d_x: torch.Tensor | None,
    d_weight: torch.Tensor | None,
    d_bias: torch.Tensor | None,
    grad: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    product: torch.Tensor | None,
    activation: str | None,
) -> None:
    """Writes the gradients that are wanted, given that of `forward`'s out, which is not empty.

    product: what `forward` wrote, or None to work it out anew. d_weight has any strides, d_bias is contiguous.
    """
    d_product = grad  # [M, G·O]
    if activation is not None:
        if product is None:
            product = grad.new_empty(grad.shape)
            forward(product, None, x, weight, None, None)
        d_product = None if d_x is None and d_weight is None else grad.new_empty(grad.shape)
        bias_activation.backward(d_product, d_bias, grad, product, bias, activation)
    elif d_bias is not None:
        bias_activation.backward(None, d_bias, grad, grad, None, None)
    if d_x is not None:
        forward(d_x, None, d_product, weight.transpose(1, 2), None, None)
    if d_weight is not None:
        _differentiate_weight(d_weight, x, d_product)


def _differentiate_weight(d_weight: torch.Tensor, x: torch.Tensor, d_product: torch.Tensor) -> None:
    """xᵀ · d_product of each group. The narrower of the two is `left`: a tile holds it whole, or most of it."""
    target, by_column = _matrices(d_weight)  # not d_weight itself if neither its rows nor its columns are contiguous
    groups, width_in, width_out = d_weight.shape
    x_is_left = width_in <= width_out
    left, right = (x, d_product) if x_is_left else (d_product, x)
    widths = (groups, min(width_in, width_out), max(width_in, width_out))
    strides = _matrix_strides(target, by_column)
    plan = _weight_plan(x.device, x.dtype, x.shape[0], widths, row_strides(left, right), strides)
    shares = target
    if plan.blocks:
        shares = x.new_empty((plan.blocks, target.numel()), dtype=sum_dtype(x.dtype))
    with on_device_of(x):
        grouped_linear_bwd_weight_kernel[plan.grid](
            shares, left, right, *plan.numbers, BY_COLUMN=by_column == x_is_left, **plan.constants
        )
    if plan.blocks:
        add_shares((target.as_strided((target.numel(),), (1,)),), shares)
    if target is not d_weight:
        d_weight.copy_(target)


def _matrices(weight: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """The weight [G, I, O], copied if neither its rows [O] nor its columns [I] are contiguous; whether columns are."""
    _, width_in, width_out = weight.shape
    if weight.stride(2) == 1 or width_out == 1:
        return weight, False
    if weight.stride(1) == 1 or width_in == 1:
        return weight, True
    return weight.contiguous(), False


def _matrix_strides(weight: torch.Tensor, by_column: bool) -> Strides:
    """Of groups, and of rows, or by_column of columns; 0 for what there is only one of."""
    across = 2 if by_column else 1
    return tuple(0 if weight.shape[dim] == 1 else weight.stride(dim) for dim in (0, across))


class _Plan(NamedTuple):
    """numbers: the kernel's sizes and strides; constants: its constants but BY_COLUMN and ACTIVATION.

    blocks: of rows, each of which writes its share of d_weight; 0 where there is but one, which writes d_weight itself.
    """

    grid: tuple[int, int]
    numbers: tuple[int, ...]
    constants: Mapping[str, object]
    blocks: int = 0


@functools.lru_cache(maxsize=1024)
def _forward_plan(
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    shape: tuple[int, int, int],
    strides: tuple[Strides, ...],
    matrix_strides: Strides,
) -> _Plan:
    """A launch but its tensors. Training comes back to the same shapes: they are worked out once."""
    groups, width_in, width_out = shape
    constants = configuration("grouped_linear_fwd", device, dtype, width_in, width_out)
    tiles = triton.cdiv(rows, constants["TILE"]) * groups * triton.cdiv(width_out, constants["WIDTH"])
    unit, matrix_unit = common_unit(*strides), common_unit(matrix_strides)
    return _Plan(
        grid(tiles),
        (rows, groups, *in_units(unit, *strides), *in_units(matrix_unit, matrix_strides)),
        {**constants, "UNIT": unit, "UNIT_WEIGHT": matrix_unit},
    )


@functools.lru_cache(maxsize=1024)
def _weight_plan(
    device: torch.device,
    dtype: torch.dtype,
    rows: int,
    shape: tuple[int, int, int],
    strides: tuple[Strides, ...],
    matrix_strides: Strides,
) -> _Plan:
    """Likewise of the weight's gradient, [G, left, right]: as many blocks of rows as the device has room for."""
    groups, left, right = shape
    constants = configuration("grouped_linear_bwd_weight", device, dtype, left, right)
    tiles = groups * triton.cdiv(left, constants["WIDTH"]) * triton.cdiv(right, constants["TILE"])
    most = MOST_PROGRAMS // tiles
    blocks = max(1, min(most, rows // LEAST_SPAN))
    span = triton.cdiv(rows, blocks * constants["STEP"]) * constants["STEP"]
    blocks = triton.cdiv(rows, span)
    size = groups * left * right
    unit, matrix_unit = common_unit(*strides), common_unit(matrix_strides)
    return _Plan(
        grid(tiles * blocks),
        (rows, span, blocks, groups, size, *in_units(matrix_unit, matrix_strides), *in_units(unit, *strides)),
        {**constants, "UNIT": unit, "UNIT_WEIGHT": matrix_unit},
        blocks if most > 1 else 0,  # by widths alone: shares have a dtype of their own, which compiles anew
    )


# By bytes an element: most columns in parts, most in one piece, terms added at once, warps, stages of the pipeline.
# fp32 is multiplied without tensor cores, which would round it to tf32.
_SIZES = {2: (192, 128, 64, 8, 3), 4: (64, 64, 16, 4, 2), 8: (32, 32, 16, 4, 2)}


@functools.cache
def configuration(
    kernel: str, device: torch.device, dtype: torch.dtype, first: int, second: int
) -> Mapping[str, object]:
    """Constants and launch options of "grouped_linear_fwd" or "grouped_linear_bwd_weight", by what changes their code.

    Args:
        first, second: I and O forward; the widths of left and right backward.
    """
    widest, piece, step, warps, stages = _SIZES[dtype.itemsize]
    if kernel == "grouped_linear_fwd":
        sizes, in_parts, tile = {"I": first, "O": second}, second, piece
    else:
        sizes, in_parts, tile = {"L": first, "R": second}, first, _tile(second, piece)
    width = _width(in_parts, widest, piece)
    if kernel == "grouped_linear_fwd":
        if width > piece:  # its sums leave fewer registers for what is multiplied
            step, stages = step // 2, stages + 1
        step = min(step, max(16, triton.next_power_of_2(max(1, first))))
    chosen = {
        "TILE": tile,
        "WIDTH": width,
        "STEP": step,
        "num_warps": warps,
        "num_stages": stages,
        **tuning.tuned(kernel, device, dtype, **sizes),
    }
    wide = triton_dtype(sum_dtype(dtype))
    return {**chosen, **sizes, "PARTS": _parts(chosen["WIDTH"]), "WIDE": wide, "enable_fp_fusion": True}


def candidates(kernel: str, dtype: torch.dtype, first: int, second: int) -> Iterator[Mapping[str, int]]:
    """What `bertkernels tune` tries in place of the rule: tiles of its shape and of half and twice its size."""
    rule = configuration(kernel, torch.device("cpu"), dtype, first, second)
    tiles = [tile for tile in (rule["TILE"] // 2, rule["TILE"], rule["TILE"] * 2) if tile >= 16]
    widths = dict.fromkeys((rule["WIDTH"], max(16, min(rule["WIDTH"], _SIZES[dtype.itemsize][1]))))
    steps = [step for step in (rule["STEP"] // 2, rule["STEP"]) if step >= 16]
    for tile, width, step, warps, stages in itertools.product(tiles, widths, steps, (4, 8), (2, 3, 4)):
        yield {"TILE": tile, "WIDTH": width, "STEP": step, "num_warps": warps, "num_stages": stages}


def _width(columns: int, widest: int, piece: int) -> int:
    """How many columns a program takes, in parts: all, up to `widest`; of more one piece, if that divides them.

    96 sums a thread leave a multiprocessor room for one program, which suits a long sum of which each term is read once
    only; with 64 there are two, of which one multiplies while the other writes.
    """
    if columns > widest and columns % piece == 0:
        return piece
    programs = max(1, triton.cdiv(columns, widest))
    return max(16, triton.cdiv(columns, 16 * programs) * 16)


def _parts(width: int) -> tuple[tuple[int, int], ...]:
    """As `parts`, but past 128 none is larger than 64: products of 128 columns take registers that the sums need."""
    whole = 0 if width <= 128 else width // 64 * 64
    rest = ((whole + first, size) for first, size in parts(width - whole))
    return (*((first, 64) for first in range(0, whole, 64)), *rest)


def _tile(columns: int, piece: int) -> int:
    """The largest power of two, 16 to `piece`, that covers the columns with at most an eighth to spare; else 16."""
    sizes = (size for size in (128, 64, 32) if size <= piece)
    return next((size for size in sizes if triton.cdiv(columns, size) * size <= columns + columns // 8), 16)
