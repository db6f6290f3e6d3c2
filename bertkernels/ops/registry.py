"""Registers functions as torch ops (namespace `bertkernels`), with fakes for tracing and autocast."""

from collections.abc import Callable

import torch

_library = torch.library.Library("bertkernels", "DEF")  # noqa: TOR901 (lives as long as the process)
_AUTOCAST_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}


def register(name: str, schema: str, run: Callable, fake: Callable, *, autocast: bool = True) -> Callable:
    """Defines `bertkernels::<name>`.

    Args:
        schema: argument list and returns, such as "(Tensor x) -> Tensor".
        run: what the op does, on any device; it must not call autograd (it runs below it) nor return its inputs.
        fake: the same signature, returns empty tensors of the right shapes, dtypes and strides.
        autocast: False for an op, such as a backward op, whose inputs are to keep their dtypes under autocast.

    Returns:
        the op, ready to be called.
    """
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"bertkernels::{name}", fake, lib=_library)
    op = getattr(torch.ops.bertkernels, name).default
    for device_type, key in _AUTOCAST_KEYS.items() if autocast else ():
        _library.impl(name, _under_autocast(op, device_type, key), key)
    return op


def _under_autocast(op: Callable, device_type: str, key: str) -> Callable:
    """The op on inputs cast to the dtype that autocast is set to (as for matrix products; sums stay in fp32 inside)."""
    keyset = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))

    def run(*args):
        dtype = torch.get_autocast_dtype(device_type)
        with torch._C._ExcludeDispatchKeyGuard(keyset):
            return op(*[_cast(argument, device_type, dtype) for argument in args])

    return run


def _cast(argument: object, device_type: str, dtype: torch.dtype) -> object:
    # As torch's own autocast: floating tensors of this device, but never fp64.
    if (
        isinstance(argument, torch.Tensor)
        and argument.is_floating_point()
        and argument.device.type == device_type
        and argument.dtype not in (torch.float64, dtype)
    ):
        return argument.to(dtype)
    return argument
