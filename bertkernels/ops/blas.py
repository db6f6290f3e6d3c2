"""The matrix product of torch's own BLAS, by address, for compiled code that multiplies inside a loop of its own."""

import ctypes
import functools
from pathlib import Path

import torch

from . import dispatch, extension, registry
from .bias_activation import as_matrix


@functools.cache
def sgemm() -> tuple[int, str]:
    """The address of `sgemm`, or 0 and why compiled code does without it.

    Only MKL's is taken, and on Intel's processors, where it is the fastest product there is: called on several threads
    at once, it runs on each of them alone, which the others that torch may come with do not promise.
    """
    if not (extension.has("is_intel") and extension.C.is_intel() and torch.backends.mkl.is_available()):
        return 0, "it multiplies with MKL, on Intel's processors only"
    path = Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"
    try:
        function = ctypes.CDLL(str(path)).sgemm_
    except (OSError, AttributeError) as error:
        return 0, f"torch's library does not show its sgemm ({error})"
    return ctypes.cast(function, ctypes.c_void_p).value, ""


def implementation(launchers: dispatch.Launchers, x: torch.Tensor, impl: str) -> str:
    """The name of the implementation that a call gets, of an op whose compiled code multiplies with `sgemm`."""
    name = launchers.resolve(x.device.type, impl)
    if name != "cpu" or x.dtype == torch.float32:
        return name
    if impl:
        raise RuntimeError(f"{launchers.op}: implementation 'cpu' takes float32 only, got {x.dtype}")
    return "reference"


def register(launchers: dispatch.Launchers, schema: str) -> registry.Op:
    """Registers an op from x to what has x's shape, such as "(Tensor x, …, str impl) -> Tensor"."""

    def run(x: torch.Tensor, *rest: object) -> torch.Tensor:
        *arguments, impl = rest
        name = implementation(launchers, x, impl)
        return launchers.functions[name](x, *arguments) if x.numel() else x.new_empty(x.shape)

    def fake(x: torch.Tensor, *_: object) -> torch.Tensor:
        return x.new_empty(x.shape)

    return registry.register(launchers.op, schema, run, fake, autocast=False)


def rows(x: torch.Tensor) -> torch.Tensor:
    """x […, M, C], or a copy where rows lie nearer to each other than they are long, or further than BLAS counts."""
    *_, count, width = x.shape
    return x if count <= 1 or width <= x.stride()[-2] < 2**31 else x.contiguous()


def matrix(x: torch.Tensor) -> torch.Tensor:
    """x […, C] with rows that `extension.rows_operand` and BLAS can read: contiguous tensors as they are."""
    return x if x.is_contiguous() else rows(as_matrix(x))


def layer(weight: torch.Tensor, bias: torch.Tensor | None) -> tuple[int, int, int, int, bool]:
    """A linear layer as compiled code takes it: weight [O, I], or in groups [G, I, O], last dimension contiguous."""
    *group, row, _ = weight.stride()
    return weight.data_ptr(), 0 if bias is None else bias.data_ptr(), row, group[0] if group else 0, not group
