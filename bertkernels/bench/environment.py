"""What a measurement was made with: device, versions, sources."""

import hashlib
import importlib.metadata
import os
import platform
from datetime import datetime, timezone
from pathlib import Path

import torch

import bertkernels
from bertkernels.version import __version__

_SOURCES = ("csrc", "kernels", "models", "bertkernels/ops", "bertkernels/nn", "bertkernels/hf")


def describe(device: str) -> dict[str, object]:
    """The fields that say where a row of results comes from."""
    return {
        "device": device,
        "device_name": device_name(device),
        "threads": torch.get_num_threads() if device == "cpu" else None,
        "versions": {
            "bertkernels": __version__,
            **{package: _version(package) for package in ("torch", "transformers", "triton")},
        },
        "source": source_hash(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
    }


def device_name(device: str) -> str:
    """The GPU's name, or the CPU's with its instruction set and number of cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{_cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def checkout() -> Path | None:
    """The root of the checkout that bertkernels is imported from, if it is one."""
    root = Path(bertkernels.__file__).resolve().parents[1]
    return root if (root / "csrc").is_dir() and (root / "setup.py").is_file() else None


def source_hash() -> str | None:
    """SHA-256 over everything that the speed of ops and encoders depends on; None outside a checkout."""
    root = checkout()
    if root is None:
        return None
    digest = hashlib.sha256()
    for folder in _SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
