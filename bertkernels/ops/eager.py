"""Whether a call is a plain eager one, for which torch's dispatcher would do nothing but call the op's own function.

The dispatcher takes microseconds on its way to a function in Python. It is passed by only where nothing in it waits:
no compiler or exporter looks on; no mode, function transform, tracer, autocast or profiler is on; every tensor is a
dense one of a CPU or a GPU, no subclass, no lazily negated or batched one. All this is read from the key sets by which
the dispatcher itself decides. Whatever is not known here, it gets.
"""

import threading
from collections.abc import Sequence

import torch
from torch._C import (
    DispatchKey,
    DispatchKeySet,
    _dispatch_keys,
    _dispatch_tls_local_exclude_set,
    _dispatch_tls_local_include_set,
    _len_torch_function_stack,
)
from torch._C._autograd import _profiler_enabled

_TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})
_CONSTANTS = frozenset({type(None), bool, int, float, str})


def _states() -> set[tuple[int, int]]:
    """The key sets that a thread includes and excludes while nothing is on, and those in inference mode."""
    found = set()

    def look() -> None:
        for inference in (False, True):
            with torch.inference_mode(inference):
                found.add((_dispatch_tls_local_include_set().raw_repr(), _dispatch_tls_local_exclude_set().raw_repr()))

    thread = threading.Thread(target=look)  # what is on belongs to a thread: nothing is in a new one
    thread.start()
    thread.join()
    return found


def _dense_keys() -> set[int]:
    """The key sets of dense tensors, and of those made in inference mode."""
    found = set()
    for device in ("CPU", "CUDA"):
        made_in_inference_mode = _key_set(device, f"Autocast{device}")
        found.add(made_in_inference_mode.raw_repr())
        found.add((made_in_inference_mode | _key_set("ADInplaceOrView", f"Autograd{device}")).raw_repr())
    return found


def _key_set(*names: str) -> DispatchKeySet:
    first, *others = (DispatchKeySet(getattr(DispatchKey, name)) for name in names)
    for other in others:
        first = first | other
    return first


_STATES = frozenset(_states())
_DENSE_KEYS = frozenset(_dense_keys())


def is_plain(arguments: Sequence[object]) -> bool:
    """Whether a call of an op with these arguments is a plain eager one. It may still be one to record gradients of."""
    if (
        torch.compiler.is_compiling()  # first: compilers take it for True, and look no further
        or (_dispatch_tls_local_include_set().raw_repr(), _dispatch_tls_local_exclude_set().raw_repr()) not in _STATES
        or _len_torch_function_stack()
        or _profiler_enabled()
    ):
        return False
    return _are_plain(arguments)


def _are_plain(arguments: Sequence[object]) -> bool:
    for argument in arguments:
        kind = type(argument)
        if kind in _TENSORS:
            if _dispatch_keys(argument).raw_repr() not in _DENSE_KEYS:
                return False
        elif kind in _CONSTANTS:
            continue
        elif kind not in (list, tuple) or not _are_plain(argument):
            return False
    return True
