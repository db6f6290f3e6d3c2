"""Sub-layers of one kind in a row, of which a supernet may run fewer."""

from collections.abc import Iterable

import torch
from torch import nn

from .layout import ALL_TOKENS, Layout
from .linear import calls_alone, children
from .residual import PostNorm


class PostNormStack(nn.ModuleList):
    """Frames one after the other, each with its own residual connection and LayerNorm (MobileBERT, Sun et al. 2020).

    Args:
        frames: at least one. If the first one's function has stack_as_one_op(frames' functions, norms and dropouts, x),
            that may return what all frames return in a row, or None.
    """

    def __init__(self, frames: Iterable[PostNorm]):
        super().__init__(frames)
        self.running = len(self)

    def choose(self, running: int) -> None:
        """Has only so many run from now on, the first ones."""
        if not 1 <= running <= len(self):
            raise ValueError(f"of {len(self)} stacked sub-layers 1 to {len(self)} can run, not {running}")
        self.running = running

    @property
    def function(self) -> nn.Module:
        """That of the first frame, as other sub-layers of an encoder have it."""
        return self[0].function

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        frames = list(self)[: self.running]
        if all(type(frame) is PostNorm for frame in frames) and calls_alone(*frames):
            parts = [children(frame, "function", "norm", "dropout") for frame in frames]
            if hasattr(parts[0][0], "stack_as_one_op"):
                out = parts[0][0].stack_as_one_op(parts, x)
                if out is not None:
                    return out
        for frame in frames:
            x = frame(x, layout)
        return x
