"""Hugging Face models on fused ops: `patch` swaps the ConvBERT layers of any model that contains them."""

from .patch import patch, patched, unpatch
from .register import register, unregister
from .report import PatchReport

__all__ = ["PatchReport", "patch", "patched", "register", "unpatch", "unregister"]
