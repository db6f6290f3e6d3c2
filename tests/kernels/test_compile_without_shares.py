"""Kernels that sum up weights' gradients compile where none is wanted, too: there they get no memory for the sums."""

import importlib
import os
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("under TRITON_INTERPRET=1 Triton compiles nothing", allow_module_level=True)

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).resolve().parents[2] / "benchmarks")
    static_cubin = importlib.import_module("static_cubin")


def configuration(op):
    launches, device = importlib.import_module(f"bertkernels.kernels.{op}"), torch.device("cpu")
    if op in ("glu", "residual_norm"):
        return launches.configuration(f"{op}_bwd", device, torch.bfloat16, 256)
    if op == "bias_activation":
        return {**launches.configuration("bias_activation_bwd", device, torch.bfloat16, 256), "ACTIVATION": "gelu"}
    return launches.backward_configuration(device, 90, torch.bfloat16, 2, 64, 9)


@pytest.mark.parametrize("op", ["bias_activation", "glu", "residual_norm", "span_conv"])
def test_compiles_without_shares(op):
    from bertkernels.kernels.dtypes import triton_dtype
    from bertkernels.kernels.offline import compile_kernel

    kernels = importlib.import_module(f"bertkernels.kernels.{op}_kernels")
    function = getattr(kernels, f"{op}_bwd_kernel")
    pointers = {name: triton_dtype(torch.bfloat16) for name in function.arg_names if name.startswith("p_")}
    for name in ("p_shares", "p_seed", "p_lengths"):
        if name in pointers:
            pointers[name] = None
    compiled = compile_kernel(function, 90, pointers, {**configuration(op), "UNIT": 16})
    (kernel,) = static_cubin.read(compiled.cubin).values()
    assert (kernel.stack_bytes, kernel.instructions.local_bytes) == (0, 0)
    assert kernel.instructions.stores
