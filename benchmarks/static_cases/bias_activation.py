"""What of bias_activation's Triton kernels stands in the static table."""

import math
from collections.abc import Iterator

import torch
from static_table import TARGETS, Row

from bertkernels.kernels import bias_activation, bias_activation_kernels
from bertkernels.kernels.dtypes import sum_dtype, triton_dtype
from bertkernels.kernels.offline import Compiled, compile_kernel


def cases() -> Iterator[Row]:
    for kernel in ("bias_activation_fwd", "bias_activation_bwd"):
        for target in TARGETS:
            for dtype, C in (("bfloat16", 1536), ("bfloat16", 312), ("float32", 1536)):
                yield {"kernel": kernel, "target": target, "dtype": dtype, "C": C, "activation": "gelu"}
        for activation in (None, "gelu_tanh", "relu", "tanh", "sigmoid", "leaky_relu", "elu", "swish"):
            yield {"kernel": kernel, "target": 90, "dtype": "bfloat16", "C": 1536, "activation": activation}
        for dtype in ("float16", "float64"):
            yield {"kernel": kernel, "target": 90, "dtype": dtype, "C": 1536, "activation": "gelu"}


def compile_case(kernel: str, target: int, dtype: str, C: int, activation: str | None) -> Compiled:
    dtype = getattr(torch, dtype)
    function = getattr(bias_activation_kernels, f"{kernel}_kernel")
    pointers = {name: triton_dtype(dtype) for name in function.arg_names if name.startswith("p_")}
    pointers["p_shares"] = triton_dtype(sum_dtype(dtype))
    constants = bias_activation.configuration(kernel, torch.device("cpu"), dtype, C)
    return compile_kernel(function, target, pointers, {**constants, "UNIT": math.gcd(16, C), "ACTIVATION": activation})
