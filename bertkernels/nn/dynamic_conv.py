"""LV-BERT's dynamic convolution as a sub-layer."""

import torch
from torch import nn

from .. import ops
from .attention import split_width
from .depthwise import DepthwiseConv1d
from .glorot import GlorotLinear
from .layout import ALL_TOKENS, Layout
from .linear import apply_linear


class DynamicConv(nn.Module):
    """Dynamic convolution whose kernels see a token's neighbourhood (LV-BERT, Yu et al. 2021, as its code has it).

        gated  = value(x) · sigmoid(gate(x))                      a gated linear unit
        kernel = softmax(conv_kernel(pointwise(depthwise(gated))))  K taps for each token and head
        out    = output(convolution of gated with kernel)

    All heads convolve. Unlike ConvBERT's, kernels are not multiplied by a query, and what is convolved is what the
    kernels are made from; unlike Wu et al.'s (2019), they are made from more than their own token. There is no dropout.

    Args:
        hidden_size: C.
        heads: H.
        head_size: D; None: C / H. H·D need not be C: the output layer maps H·D back to C.
        kernel_size: K, any number from 1; of both convolutions.
    """

    def __init__(self, hidden_size: int, heads: int, head_size: int | None = None, kernel_size: int = 9):
        super().__init__()
        self.heads = heads
        self.head_size = split_width(hidden_size, heads) if head_size is None else head_size
        width = self.heads * self.head_size
        self.value = nn.Linear(hidden_size, width)
        self.gate = nn.Linear(hidden_size, width)
        self.depthwise = DepthwiseConv1d(width, kernel_size, bias=False)
        self.pointwise = nn.Linear(width, width)
        self.conv_kernel = GlorotLinear(width, heads * kernel_size)
        self.output = nn.Linear(width, hidden_size)

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        x = layout.clear_padding(x)
        sequences = {"lengths": layout.lengths, "cu_seqlens": layout.cu_seqlens}
        gated = apply_linear(self.value, x, multiplier=apply_linear(self.gate, x).sigmoid())  # [B, T, H·D]
        span = ops.depthwise_conv(gated, self.depthwise.weight, **sequences)  # [B, T, H·D]
        logits = apply_linear(self.conv_kernel, apply_linear(self.pointwise, span))  # [B, T, H·K]
        context = ops.light_conv(  # [B, T, H, D]
            gated.unflatten(-1, (self.heads, self.head_size)), logits.unflatten(-1, (self.heads, -1)), **sequences
        )
        return apply_linear(self.output, context.flatten(-2))

    def extra_repr(self) -> str:
        return f"heads={self.heads}, head_size={self.head_size}, kernel_size={self.depthwise.weight.shape[1]}"
