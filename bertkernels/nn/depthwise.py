"""Depthwise convolution over tokens as a module."""

import math

import torch
from torch import nn

from .. import ops
from .layout import ALL_TOKENS, Layout


class DepthwiseConv1d(nn.Module):
    """One filter of K taps a channel, on channels-last input: nothing is transposed.

    With bias and an odd K it computes what `nn.Conv1d(C, C, K, padding=K // 2, groups=C)` does on [B, C, T].

    Args:
        channels: C.
        kernel_size: K, any number from 1.
        bias: adds a learned bias a channel.
        causal: the window ends at its own token instead of being centred on it.
    """

    def __init__(self, channels: int, kernel_size: int, bias: bool = True, causal: bool = False):
        super().__init__()
        if channels < 1 or kernel_size < 1:
            raise ValueError(f"channels and kernel_size must be at least 1, got {channels} and {kernel_size}")
        self.causal = causal
        self.weight = nn.Parameter(torch.empty(channels, kernel_size))
        self.bias = nn.Parameter(torch.empty(channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As `nn.Conv1d`: uniform within ±1/√K."""
        bound = 1 / math.sqrt(self.weight.shape[1])
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        return ops.depthwise_conv(
            x, self.weight, self.bias, causal=self.causal, lengths=layout.lengths, cu_seqlens=layout.cu_seqlens
        )

    def extra_repr(self) -> str:
        channels, taps = self.weight.shape
        return f"{channels}, kernel_size={taps}, bias={self.bias is not None}, causal={self.causal}"
