"""LV-BERT's dynamic convolution as a sub-layer."""

import torch
from torch import nn

from .. import ops
from .attention import split_width
from .depthwise import DepthwiseConv1d
from .glorot import GlorotLinear
from .layout import ALL_TOKENS, Layout
from .linear import PLAIN, apply_linear, calls_alone, children
from .whole_sublayer import dynamic_conv_block

_LAYERS = ("value", "gate", "pointwise", "conv_kernel", "output")  # as `ops.dynamic_conv_block` has them


class DynamicConv(nn.Module):
    """Dynamic convolution whose kernels see a token's neighbourhood (LV-BERT, Yu et al. 2021, as its code has it).

        gated  = value(x) · sigmoid(gate(x))                      a gated linear unit
        kernel = softmax(conv_kernel(pointwise(depthwise(gated))))  K taps for each token and head
        out    = output(convolution of gated with kernel)

    All heads convolve. Unlike ConvBERT's, kernels are not multiplied by a query, and what is convolved is what the
    kernels are made from; unlike Wu et al.'s (2019), they are made from more than their own token. There is no dropout.

    Two layers with nothing between them, pointwise and conv_kernel are computed as one (`ops.dynamic_conv_block` has
    more on it); their parameters are those of the published model.

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
        gated = ops.glu(apply_linear(self.value, x), apply_linear(self.gate, x))  # [B, T, H·D]
        span = ops.depthwise_conv(gated, self.depthwise.weight, **sequences)  # [B, T, H·D]
        logits = self._logits(span)  # [B, T, H·K]
        context = ops.light_conv(  # [B, T, H, D]
            gated.unflatten(-1, (self.heads, self.head_size)), logits.unflatten(-1, (self.heads, -1)), **sequences
        )
        return apply_linear(self.output, context.flatten(-2))

    def _logits(self, span: torch.Tensor) -> torch.Tensor:
        """The kernels before their softmax: plain layers are one, with one small weight for both."""
        pointwise, kernel = self.pointwise, self.conv_kernel
        if not all(type(layer) in PLAIN and calls_alone(layer) for layer in (pointwise, kernel)):
            return apply_linear(kernel, apply_linear(pointwise, span))
        bias = kernel.bias
        if pointwise.bias is not None:
            moved = kernel.weight @ pointwise.bias
            bias = moved if bias is None else moved + bias
        return torch.nn.functional.linear(span, kernel.weight @ pointwise.weight, bias)

    def as_one_op(self, x: torch.Tensor, layout: Layout, norm: nn.Module, dropout: nn.Module) -> torch.Tensor | None:
        """norm(x + dropout(self(x))) as one op, or None where modules must be called."""
        if layout.lengths is not None:
            return None
        depthwise, *layers = children(self, "depthwise", *_LAYERS)
        return dynamic_conv_block(self, layers, depthwise, self.heads, norm, dropout, x, layout.cu_seqlens)

    def extra_repr(self) -> str:
        return f"heads={self.heads}, head_size={self.head_size}, kernel_size={self.depthwise.weight.shape[1]}"
