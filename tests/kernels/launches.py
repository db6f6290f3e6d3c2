"""Launches that are looked at and not done: which kernels an op launches, and what makes Triton compile them anew."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

from bertkernels.kernels.launch import LARGEST_SIDE
from bertkernels.ops import dispatch


class Launch(NamedTuple):
    """kernel: its name; specialization: all that its compiled code depends on, as Triton works it out."""

    kernel: str
    specialization: str


@contextlib.contextmanager
def observed_launches() -> Iterator[list[Launch]]:
    """Ops run on Triton, whose kernels are not run: their results are whatever is in memory. Yields the launches."""
    launches: list[Launch] = []
    backend = make_backend(GPUTarget("cuda", 90, 32))
    binders = {}

    def run(kernel, *args, grid, warmup, **kwargs):
        assert all(1 <= side <= LARGEST_SIDE for side in grid)
        if kernel not in binders:
            binders[kernel] = create_function_from_signature(kernel.signature, kernel.params, backend)
        _, specialization, options = binders[kernel](*args, **kwargs)
        launches.append(Launch(kernel.__name__, f"{specialization} {sorted(options.items())}"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "run", run)
        patch.setattr(dispatch.Launchers, "resolve", lambda self, device_type, impl: impl or "triton")
        patch.setattr(torch.cuda, "current_device", lambda: None)
        yield launches


def jitted_kernels() -> dict[str, JITFunction]:
    """All kernels in the package by name: what is compiled for itself, where other functions are parts of one."""
    import importlib
    from pathlib import Path

    import bertkernels.kernels

    (folder,) = bertkernels.kernels.__path__
    found = {}
    for path in Path(folder).glob("*.py"):
        module = importlib.import_module(f"bertkernels.kernels.{path.stem}")
        for name, value in vars(module).items():
            if isinstance(value, triton.JITFunction) and inspect.getmodule(value.fn) is module:
                if name.endswith("_kernel"):
                    found[name] = value
    return found
