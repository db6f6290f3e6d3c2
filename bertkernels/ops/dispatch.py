"""Which implementation an op runs on: the one asked for, or the best that can run, chosen once an op and device.

An implementation is asked for by `impl=` in a call, by `with use("triton"):`, or by the environment variable
`BERTKERNELS_IMPL`, in this order. A request that cannot be met is an error that says why; it never falls back.
"""

import contextlib
import functools
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping

import torch

from . import extension

logger = logging.getLogger("bertkernels")

# "torch" is a kernel of torch's own libraries (oneDNN, cuBLAS, flash attention), where an op is one call of it.
IMPLEMENTATIONS = ("cpu", "cuda", "torch", "triton", "reference")
# Best first. Triton on the CPU is its interpreter: a testing device, never chosen unasked.
PREFERENCE = {"cpu": ("cpu", "torch", "reference"), "cuda": ("cuda", "torch", "triton", "reference")}

_launchers: dict[str, "Launchers"] = {}
_asked_for = os.environ.get("BERTKERNELS_IMPL", "")


def _check_name(impl: str) -> None:
    if impl and impl not in IMPLEMENTATIONS:
        raise ValueError(f"unknown implementation {impl!r}; known: {', '.join(IMPLEMENTATIONS)}")


_check_name(_asked_for)


@contextlib.contextmanager
def use(impl: str) -> Iterator[None]:
    """Asks for one of `IMPLEMENTATIONS` inside a `with` block, for the whole process."""
    global _asked_for
    _check_name(impl)
    before, _asked_for = _asked_for, impl
    try:
        yield
    finally:
        _asked_for = before


def requested(impl: str | None) -> str:
    """The implementation that a call asks for; the empty string leaves the choice to `Launchers.select`."""
    return _asked_for if impl is None else impl


def triton_is_interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@functools.cache
def _triton_installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def can_run(op: str, impl: str, device: torch.device | str) -> tuple[bool, str]:
    """Whether `op` can run on `device` with `impl`, and if not, why not."""
    _check_name(impl)
    device_type = torch.device(device).type
    if op not in _launchers:
        raise ValueError(f"unknown op {op!r}; known: {', '.join(sorted(_launchers))}")
    if impl not in _launchers[op].functions:
        return False, f"{op} has no {impl} implementation"
    if impl in ("torch", "reference"):
        return True, ""
    if impl == "triton":
        if not _triton_installed():
            return False, "Triton is not installed: pip install triton"
        if device_type == "cuda" or (device_type == "cpu" and triton_is_interpreted()):
            return True, ""
        return False, f"Triton runs on CUDA devices (on the CPU only with TRITON_INTERPRET=1), not on {device_type}"
    if device_type != impl:
        return False, f"the {impl} implementation needs tensors on {impl}, these are on {device_type}"
    if extension.C is None:
        return False, extension.REASON
    if not extension.has(f"{_launchers[op].compiled_as}_forward_{impl}"):
        return False, f"the extension was built without {op} for {impl}; build it with: {extension.BUILD_COMMAND}"
    lacking = _launchers[op].needs.get(impl, str)()
    return not lacking, lacking


class Launchers:
    """One function an implementation for one op; `select` picks among them.

    Args:
        op: the op's public name, under which `can_run` finds it.
        functions: implementation name → function; all take the same arguments.
        compiled_as: the op whose compiled functions the cpu and cuda implementations call, if not its own.
        preference: device type → implementations, best first.
        needs: implementation name → function that tells what it lacks on this machine, the empty string if nothing.
    """

    def __init__(
        self,
        op: str,
        functions: Mapping[str, Callable],
        compiled_as: str | None = None,
        preference: Mapping[str, tuple[str, ...]] = PREFERENCE,
        needs: Mapping[str, Callable[[], str]] | None = None,
    ):
        self.op = op
        self.compiled_as = compiled_as or op
        self.functions = dict(functions)
        self.preference = preference
        self.needs = dict(needs or {})
        self._chosen: dict[tuple[str, str], str] = {}
        _launchers.setdefault(op, self)

    def select(self, device_type: str, impl: str) -> Callable:
        """The function for `impl`, or for the best implementation on this kind of device if `impl` is empty."""
        return self.functions[self.resolve(device_type, impl)]

    def resolve(self, device_type: str, impl: str) -> str:
        """The name of the implementation that `select` picks."""
        key = (device_type, impl)
        if key not in self._chosen:
            self._chosen[key] = self._insist(device_type, impl) if impl else self.choose(device_type)
        return self._chosen[key]

    def choose(self, device_type: str) -> str:
        """The best implementation on this kind of device; logs the choice and what stood against better ones."""
        reasons = []
        for impl in self.preference.get(device_type, ("reference",)):
            possible, reason = can_run(self.op, impl, device_type)
            if possible:
                message = f"{self.op} on {device_type} runs on {impl}"
                logger.info("%s (%s)" if reasons else "%s%s", message, "; ".join(reasons))
                return impl
            reasons.append(reason)
        return "reference"

    def _insist(self, device_type: str, impl: str) -> str:
        possible, reason = can_run(self.op, impl, device_type)
        if not possible:
            raise RuntimeError(f"{self.op}: implementation {impl!r} was asked for but cannot run: {reason}")
        return impl


@torch.compiler.assume_constant_result  # compilers need not look into the choice
def resolve(op: str, device_type: str, impl: str) -> str:
    """The name of the implementation that a call gets: for ops whose implementations are not launched in one place."""
    return _launchers[op].resolve(device_type, impl)


def runs_on(op: str, impl: str) -> bool:
    """Whether a call of `op` on the CPU runs on `impl` if it asks for nothing itself. Where another implementation is
    asked for, one that the op may not have, it does not."""
    asked_for = requested(None)
    return asked_for in ("", impl) and resolve(op, "cpu", asked_for) == impl


def describe(device_type: str) -> dict[str, tuple[str, dict[str, str]]]:
    """For each op: the implementation that a call on this kind of device gets, and why its others cannot run."""
    table = {}
    for op in sorted(_launchers):
        verdicts = {impl: can_run(op, impl, device_type) for impl in _launchers[op].functions}
        refused = {impl: reason for impl, (possible, reason) in verdicts.items() if not possible}
        table[op] = (_launchers[op].choose(device_type), refused)
    return table
