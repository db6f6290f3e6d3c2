"""Calls of ops with the parameters of modules bound to them, made again for as long as the modules stay as they are.

Inference of a small encoder spends a tenth of its time in Python, for the products push all that Python reads out of
the caches. So the first call of a sub-layer answers, once, whether an op may stand for its modules and what compiled
code has to know of their parameters; those that follow ask only whether everything is as it was then.
"""

from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ..ops import dispatch, eager
from .linear import calls_alone

Call = Callable[..., torch.Tensor]


class BoundCall:
    """A call, and what it was bound to.

    Args:
        call: what an op's `bind` has returned.
        owner: the module that it is kept for, of whose parameters it reads none.
        modules: all others whose forward the call stands for, or whose parameters it reads.
        options: whatever else it depends on.
    """

    __slots__ = ("_kind", "_kinds", "_modules", "_options", "_parameters", "call")

    def __init__(self, call: Call, owner: nn.Module, modules: Sequence[nn.Module], options: tuple[object, ...]):
        self.call = call
        self._kind = type(owner)
        self._modules = list(modules)
        self._kinds = [type(module) for module in modules]
        self._options = options
        self._parameters = [
            (module._parameters, name, parameter, parameter.data_ptr(), parameter.shape)
            for module in modules
            for name, parameter in module._parameters.items()
            if parameter is not None
        ]

    def stands(self, owner: nn.Module, modules: Sequence[nn.Module], options: tuple[object, ...]) -> bool:
        """Whether the modules are those of then, of the same classes, not hooked into by anybody, and whether their
        parameters are the same tensors and lie as they lay."""
        if self._modules != modules or self._options != options:
            return False
        if self._kind is not type(owner) or self._kinds != [type(module) for module in modules]:
            return False
        if not calls_alone(owner, *modules):
            return False
        for parameters, name, parameter, address, shape in self._parameters:
            if (
                parameters.get(name) is not parameter
                or parameter.data_ptr() != address
                or parameter.shape != shape
                or parameter.dtype is not torch.float32
                or not parameter.is_contiguous()
            ):
                return False
        return True


# not kept on modules, whose copies must not share them; no value may hold its key, or neither would ever go
_calls: WeakKeyDictionary[nn.Module, BoundCall] = WeakKeyDictionary()


def recall(owner: nn.Module, modules: Sequence[nn.Module], options: tuple[object, ...], x: torch.Tensor) -> Call | None:
    """The call that `owner` was given by `remember`, if it would do to x just what it did then, else None.

    Args:
        modules, options: as `BoundCall` has them; norms' eps and whatever else modules may be told are options.
    """
    if not _infers_plainly(x):
        return None
    bound = _calls.get(owner)
    if bound is None or not bound.stands(owner, modules, (dispatch.requested(None), *options)):
        return None
    return bound.call


def remember(
    owner: nn.Module,
    modules: Sequence[nn.Module],
    options: tuple[object, ...],
    x: torch.Tensor,
    bind: Callable[..., Call],
    *arguments: object,
) -> None:
    """Binds a call with bind(*arguments), to be recalled by the same modules and options, if x is one to do so for.

    All are as for `recall`. Whether the op may stand for the modules the caller knows.
    """
    if not _infers_plainly(x):
        return
    _calls.pop(owner, None)
    parameters = [each for module in modules for each in module._parameters.values() if each is not None]
    readable = all(each.is_cpu and each.dtype is torch.float32 and each.is_contiguous() for each in parameters)
    if readable and eager.is_plain(parameters):
        _calls[owner] = BoundCall(bind(*arguments), owner, modules, (dispatch.requested(None), *options))


def _infers_plainly(x: torch.Tensor) -> bool:
    return not torch.is_grad_enabled() and x.dtype is torch.float32 and x.is_cpu and eager.is_plain((x,))
