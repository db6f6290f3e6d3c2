"""Registers functions as torch ops (namespace `bertkernels`), with fakes for tracing, autocast and autograd."""

from collections.abc import Callable, Sequence

import torch

from . import eager

_library = torch.library.Library("bertkernels", "DEF")  # noqa: TOR901 (lives as long as the process)
_AUTOCAST_KEYS = {"cpu": "AutocastCPU", "cuda": "AutocastCUDA"}


def register(name: str, schema: str, run: Callable, fake: Callable, *, autocast: bool = True) -> "Op":
    """Defines `bertkernels::<name>`.

    Args:
        schema: argument list and returns, such as "(Tensor x) -> Tensor".
        run: what the op does, on any device; it must not call autograd (it runs below it) nor return its inputs.
        fake: the same signature, returns empty tensors of the right shapes, dtypes and strides.
        autocast: False for an op, such as a backward op, whose inputs are to keep their dtypes under autocast.

    Returns:
        the op, to be called with all arguments of the schema in order.
    """
    _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(f"bertkernels::{name}", fake, lib=_library)
    op = getattr(torch.ops.bertkernels, name).default
    for device_type, key in _AUTOCAST_KEYS.items() if autocast else ():
        _library.impl(name, _under_autocast(op, device_type, key), key)
    return Op(op, run)


class Op:
    """A registered op. Calls take the short way where there is one.

    A plain eager call goes to the op's own function, past the dispatcher, and is recorded for gradients, if any are
    asked for, without the layers that make a registered op fit for transforms and compilers.

    Attributes:
        overload: the op as torch knows it.
    """

    def __init__(self, overload: torch._ops.OpOverload, run: Callable):
        self.overload = overload
        self._run = run
        self._record = overload

    def __call__(self, *arguments: object) -> object:
        if not eager.is_plain(arguments):
            return self.overload(*arguments)
        return self._record(*arguments) if _asks_for_gradients(arguments) else self._run(*arguments)

    def differentiate(self, backward: Callable, setup_context: Callable) -> None:
        """Tells the op its gradients.

        Args:
            backward: (ctx, *gradients of the outputs) → a gradient, or None, for each argument.
            setup_context: (ctx, inputs, output), keeps on ctx what `backward` needs. Both as for a
                `torch.autograd.Function`.
        """
        torch.library.register_autograd(self.overload, backward, setup_context=setup_context)
        if any(str(argument.type) == "List[Tensor]" for argument in self.overload._schema.arguments):
            return  # a Function does not look into lists
        run = self._run

        def forward(ctx, *inputs):
            output = run(*inputs)
            setup_context(ctx, inputs, output)
            return output

        members = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
        function = type(self.overload._opname, (torch.autograd.Function,), members)
        # Function's own apply looks for what transforms have left behind, which plain arguments do not have.
        self._record = super(torch.autograd.Function, function).apply


def _asks_for_gradients(arguments: Sequence[object]) -> bool:
    if torch.is_grad_enabled():
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                if argument.requires_grad:
                    return True
            elif isinstance(argument, (list, tuple)) and _asks_for_gradients(argument):
                return True
    return False


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
