"""What the tests of an op run on: every device, implementation and dtype; what cannot run here is skipped, with why."""

from collections.abc import Sequence

import pytest
import torch

from bertkernels import ops

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
_TARGETS = {  # name in the test's id → device, implementation
    "reference": ("cpu", "reference"),
    "cpu": ("cpu", "cpu"),
    "torch": ("cpu", "torch"),
    "reference-gpu": ("cuda", "reference"),
    "cuda": ("cuda", "cuda"),
    "torch-gpu": ("cuda", "torch"),
    "triton": ("cuda", "triton"),
}
OUR_KERNELS = ("cpu", "cuda", "triton")


def targets(op: str, kernels: Sequence[str] = OUR_KERNELS) -> list:
    """Parameters "device, impl" for a test of `op`, which is to have these kernels, on them and on the reference."""
    return [*_parameters(op, ("reference", *kernels))]


def compiled_targets(op: str, kernels: Sequence[str] = OUR_KERNELS) -> list:
    """The same without the reference: for tests of what only kernels can do wrong."""
    return [*_parameters(op, kernels)]


def implementations_on_cpu(op: str, kernels: Sequence[str] = OUR_KERNELS) -> list:
    """Parameter "impl" for a test of `op` that needs no device of its own, such as that of bad input."""
    found = [impl for device, impl in _TARGETS.values() if device == "cpu" and impl in ("reference", *kernels)]
    return [pytest.param(impl, id=impl, marks=_skip(op, "cpu", impl)) for impl in found]


def _parameters(op, implementations):
    for name, (device, impl) in _TARGETS.items():
        if impl in implementations:
            marks = [pytest.mark.gpu] if device == "cuda" else []
            yield pytest.param(device, impl, id=name, marks=marks + _skip(op, device, impl))


def _skip(op, device, impl):
    if device == "cuda" and not torch.cuda.is_available():
        return [pytest.mark.skip(reason="no CUDA GPU here")]
    possible, reason = ops.can_run(op, impl, device)
    return [] if possible else [pytest.mark.skip(reason=reason)]
