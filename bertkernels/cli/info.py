"""`bertkernels info`: versions, what was built, what each op runs on and why, what is missing and how to add it.

With --plan or --preset: what an encoder costs, and how long it takes here.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import sys

import torch

from bertkernels import ops  # noqa: F401  (registers the ops)
from bertkernels.cli import plan_info
from bertkernels.ops import dispatch, extension
from bertkernels.version import __version__

PACKAGES = ("torch", "triton", "transformers", "accelerate", "datasets", "tokenizers", "safetensors")


def collect() -> dict:
    """Everything `bertkernels info` prints, as plain data."""
    return {
        "bertkernels": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "extension": _extension(),
        "cpu": {"cores": os.cpu_count(), "torch_threads": torch.get_num_threads()},
        "gpus": _gpus(),
        "asked_for": dispatch.requested(None) or None,
        "ops": {device: _ops(device) for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ()))},
        "missing": _missing(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extension() -> dict:
    if extension.C is None:
        return {"built": False, "reason": extension.REASON}
    archs = [f"sm_{arch}" for arch in extension.C.cuda_archs]
    return {"built": True, "instruction_set": extension.C.active_isa(), "cuda": archs or None}


def _gpus() -> list[dict]:
    if not torch.cuda.is_available():
        return []
    properties = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return [{"name": p.name, "memory_gib": round(p.total_memory / 2**30, 1)} for p in properties]


def _ops(device: str) -> dict:
    return {op: {"runs_on": impl, "not": refused} for op, (impl, refused) in dispatch.describe(device).items()}


def _missing() -> dict[str, str]:
    """What would make something faster or possible here, and the command that adds it."""
    missing = {}
    if extension.C is None:
        missing["compiled CPU kernels"] = extension.BUILD_COMMAND
    elif not extension.C.cuda_archs and torch.cuda.is_available():
        missing["compiled CUDA kernels"] = f"install the CUDA toolkit (nvcc), then: {extension.BUILD_COMMAND}"
    if _version("triton") is None and sys.platform == "linux":
        missing["Triton kernels"] = "pip install triton"
    return missing


def _text(info: dict) -> str:
    packages = ", ".join(f"{name} {version or 'not installed'}" for name, version in info["packages"].items())
    built = info["extension"]
    if built["built"]:
        cuda = ", ".join(built["cuda"]) if built["cuda"] else "no CUDA code"
        compiled = f"built; CPU instruction set in use: {built['instruction_set']}; {cuda}"
    else:
        compiled = f"not there: {built['reason']}"
    gpus = ", ".join(f"{gpu['name']} ({gpu['memory_gib']} GiB)" for gpu in info["gpus"]) or "none"
    lines = [
        f"bertkernels {info['bertkernels']} on Python {info['python']}, {info['platform']}",
        f"packages    {packages}",
        f"extension   {compiled}",
        f"CPU         {info['cpu']['cores']} cores, torch uses {info['cpu']['torch_threads']} threads",
        f"GPUs        {gpus}",
    ]
    if info["asked_for"]:
        lines.append(f"asked for   {info['asked_for']} (BERTKERNELS_IMPL)")
    for device, table in info["ops"].items():
        lines.append(f"\nops on {device}")
        width = max(map(len, table))
        for op, entry in table.items():
            lines.append(f"  {op:<{width}} runs on {entry['runs_on']}")
            lines.extend(f"  {'':<{width}}   not {impl}: {reason}" for impl, reason in entry["not"].items())
    if info["missing"]:
        lines.append("\nwhat would add more")
        lines.extend(f"  {what}: {command}" for what, command in info["missing"].items())
    return "\n".join(lines)


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bertkernels info", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print as JSON")
    plan_info.add_arguments(parser)
    arguments = parser.parse_args(argv)
    if arguments.plan is None and arguments.preset is None:
        plan_info.refuse_all(arguments, parser)
        info, text = collect(), _text
    else:
        info, text = plan_info.collect(arguments), plan_info.text
    print(json.dumps(info, indent=2) if arguments.json else text(info))
    return 0
