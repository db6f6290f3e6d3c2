"""Launch configurations that were tuned on a device and ship with the package: `tuned/<kernel>.json`.

Each file maps a device's name, as CUDA reports it, to configurations by what changes the compiled code:

    {"NVIDIA H200": {"D=64,K=9,bfloat16": {"GROUP": 4, "num_warps": 2}}}

Numbers of tokens are no part of a key: a new batch size or length neither recompiles nor looks for a configuration.
Devices and shapes without an entry get the kernel's own rule. Nothing here ever runs a kernel to time it.
"""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import torch

FOLDER = Path(__file__).with_name("tuned")


def key(dtype: torch.dtype, **sizes: int) -> str:
    """The name of a configuration, such as "D=64,K=9,bfloat16"."""
    return ",".join([*(f"{name}={size}" for name, size in sizes.items()), str(dtype).removeprefix("torch.")])


@functools.cache
def _shipped(kernel: str, folder: Path) -> Mapping[str, Mapping[str, Mapping[str, int]]]:
    path = folder / f"{kernel}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def tuned(kernel: str, device: torch.device, dtype: torch.dtype, **sizes: int) -> Mapping[str, int]:
    """The configuration that ships for `kernel` on this device; empty where there is none."""
    if device.type != "cuda":
        return {}
    return _shipped(kernel, FOLDER).get(torch.cuda.get_device_name(device), {}).get(key(dtype, **sizes), {})
