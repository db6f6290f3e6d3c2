"""Efficient BERT encoders on fused kernels: ops, sub-layers, models, drop-in patching and trainers."""

import importlib
import os

from .version import __version__

# In a checkout `kernels/` and `models/` stand beside this package, not inside it (a regular top-level package named
# `kernels` would be taken for Hugging Face's by transformers). In a wheel both are inside and there is no `csrc/`.
_root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.isdir(os.path.join(_root, "csrc")) and os.path.isfile(os.path.join(_root, "setup.py")):
    __path__.append(_root)

_LAZY = {
    "patch": "bertkernels.hf",
    "unpatch": "bertkernels.hf",
    "patched": "bertkernels.hf",
    "register": "bertkernels.hf",
    "unregister": "bertkernels.hf",
}
_SUBMODULES = ("ops", "nn", "models", "kernels", "hf", "data", "training", "export")

__all__ = ["__version__", *_LAZY, *_SUBMODULES]


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name in _SUBMODULES:
        return importlib.import_module(f"bertkernels.{name}")
    raise AttributeError(f"module 'bertkernels' has no attribute {name!r}")
