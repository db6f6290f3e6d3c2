"""Sub-layers of one kind in a row, of which a supernet may run fewer."""

from collections.abc import Iterable

import torch
from torch import nn

from .layout import ALL_TOKENS, Layout
from .residual import PostNorm


class PostNormStack(nn.ModuleList):
    """Frames one after the other, each with its own residual connection and LayerNorm (MobileBERT, Sun et al. 2020).

    Args:
        frames: at least one.
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
        for _, frame in zip(range(self.running), self, strict=False):
            x = frame(x, layout)
        return x
