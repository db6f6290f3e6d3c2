"""What of grouped_linear's Triton kernels stands in the static table: medium-small's feed-forward layer, two groups."""

from collections.abc import Iterator

import torch
from static_table import TARGETS, Row

from bertkernels.kernels import grouped_linear, grouped_linear_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel

NARROW, WIDE = 192, 768  # channels of a group
FORWARD = {"kernel": "grouped_linear_fwd"}
BACKWARD = {"kernel": "grouped_linear_bwd_weight"}


def cases() -> Iterator[Row]:
    """I, O: of the layer's weight [G, I, O].

    writes: "out" (bias, no activation), "out, product" (bias and gelu, with what its gradient takes), "d_x" or
    "d_weight" (a block of rows' share of it).
    """
    for target in TARGETS:
        for I, O, writes in (  # noqa: E741 (the letters of the formula)
            (NARROW, WIDE, "out, product"),
            (WIDE, NARROW, "out"),
            (NARROW, WIDE, "d_x"),
            (WIDE, NARROW, "d_x"),
        ):
            yield {**FORWARD, "target": target, "dtype": "bfloat16", "I": I, "O": O, "writes": writes}
    for dtype in ("float16", "float32", "float64"):
        yield {**FORWARD, "target": 90, "dtype": dtype, "I": NARROW, "O": WIDE, "writes": "out, product"}
    for target in TARGETS:
        for I, O in ((NARROW, WIDE), (WIDE, NARROW)):  # noqa: E741
            yield {**BACKWARD, "target": target, "dtype": "bfloat16", "I": I, "O": O, "writes": "d_weight"}
    for dtype in ("float16", "float32", "float64"):
        yield {**BACKWARD, "target": 90, "dtype": dtype, "I": NARROW, "O": WIDE, "writes": "d_weight"}


def compile_case(kernel: str, target: int, dtype: str, I: int, O: int, writes: str) -> Compiled:  # noqa: E741
    dtype, device = getattr(torch, dtype), torch.device("cpu")
    function = getattr(grouped_linear_kernels, f"{kernel}_kernel")
    pointers = {name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")}
    units = {"UNIT": 16, "UNIT_WEIGHT": 16}
    if writes == "d_weight":
        pointers["p_shares"] = triton_dtype(sum_dtype(dtype))
        constants = grouped_linear.configuration(kernel, device, dtype, min(I, O), max(I, O))
        return compile_kernel(function, target, pointers, {**constants, **units, "BY_COLUMN": I > O})
    if writes != "out, product":
        pointers["p_product"] = None
    if writes == "d_x":
        pointers["p_bias"] = None
        I, O = O, I  # noqa: E741 (x is d_product and the weight is transposed)
    constants = grouped_linear.configuration(kernel, device, dtype, I, O)
    activation = "gelu" if writes == "out, product" else None
    launch = {"BY_COLUMN": writes == "d_x", "ACTIVATION": activation}
    return compile_kernel(function, target, pointers, {**constants, **units, **launch})
