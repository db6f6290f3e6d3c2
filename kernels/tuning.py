"""Launch configurations that were tuned on a device: those that ship with the package, then the user's own.

A file `<kernel>.json` maps a device's name, as CUDA reports it, to configurations by what changes the compiled code:

    {"NVIDIA H200": {"D=64,K=9,bfloat16": {"GROUP": 4, "num_warps": 2}}}

Numbers of tokens are no part of a key: a new batch size or length neither recompiles nor looks for a configuration.
Devices and shapes without an entry get the kernel's own rule. Nothing here ever runs a kernel to time it: that is what
`bertkernels tune` is for, which writes these files and takes what to try from `candidates`, beside each kernel's rule.
"""

import contextlib
import functools
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from bertkernels.cache_folder import cache_folder

Configuration = Mapping[str, int]  # constants and launch options, in place of the rule's

FOLDER = Path(__file__).with_name("tuned")
_on_trial: dict[str, Configuration] = {}


def user_folder() -> Path:
    """For configurations tuned on the user's own device; one there goes before one that ships."""
    return cache_folder() / "tuned"


def key(dtype: torch.dtype, **sizes: int) -> str:
    """The name of a configuration, such as "D=64,K=9,bfloat16"."""
    return ",".join([*(f"{name}={size}" for name, size in sizes.items()), str(dtype).removeprefix("torch.")])


def read(path: Path) -> dict[str, dict[str, Configuration]]:
    """Configurations by device and key; none where there is no such file. Raises ValueError where it holds no such."""
    if not path.is_file():
        return {}
    try:
        devices = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    levels = [[devices]]
    while len(levels) < 3 and all(isinstance(entry, dict) for entry in levels[-1]):
        levels.append([value for entry in levels[-1] for value in entry.values()])
    if not all(isinstance(entry, dict) for entry in levels[-1]):
        raise ValueError(f"{path}: expected configurations by device and key, as `bertkernels tune` writes them")
    return devices


@functools.cache
def _known(kernel: str, device_name: str) -> Mapping[str, Configuration]:
    folders = (FOLDER, user_folder())
    return {key: value for at in folders for key, value in read(at / f"{kernel}.json").get(device_name, {}).items()}


def tuned(kernel: str, device: torch.device, dtype: torch.dtype, **sizes: int) -> Configuration:
    """The configuration that was tuned for `kernel` on this device; empty where there is none."""
    if kernel in _on_trial:
        return _on_trial[kernel]
    if device.type != "cuda":
        return {}
    return _known(kernel, torch.cuda.get_device_name(device)).get(key(dtype, **sizes), {})


@contextlib.contextmanager
def trial(kernel: str, configuration: Configuration) -> Iterator[None]:
    """Inside, `kernel` is launched with this configuration (an empty one: by its rule), whatever was tuned before."""
    _on_trial[kernel] = configuration
    forget()
    try:
        yield
    finally:
        del _on_trial[kernel]
        forget()


def forget() -> None:
    """Has launchers, which work out each launch and its configuration once, do so anew."""
    for name, module in list(sys.modules.items()):
        if name.startswith(f"{__package__}."):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
