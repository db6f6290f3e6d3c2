"""ConvBERT's mixed attention as a sub-layer."""

import torch
from torch import nn

from .. import ops
from .attention import attention_probs, split_width
from .context import mixed_context
from .depthwise import DepthwiseConv1d
from .layout import ALL_TOKENS, Layout
from .linear import apply_linear, calls_alone, children, weight_and_bias
from .whole_sublayer import LINEAR, MixedParameters, mixed_block

_LAYERS = ("query", "key", "value", "conv_value", "pointwise", "conv_kernel", "output")  # as `ops.mixed_block` has them


class MixedAttention(nn.Module):
    """Self-attention heads beside span-based dynamic convolution heads (ConvBERT, Jiang et al. 2020, §3.2-3.3).

        span    = pointwise(depthwise(x))                         a local summary of each token's neighbourhood
        kernel  = softmax(conv_kernel(span * query(x)))           K taps for each token and head
        context = [attention heads; convolution of conv_value(x) with kernel]
        out     = output(context)

    Each kind has H heads, so the context is 2·H·D wide. The query is shared; values are not. There is no dropout on the
    convolution, as in the released code.

    Args:
        hidden_size: C.
        heads: H, heads of each kind (published: half of the configured heads).
        head_size: D; None: C / (2·H), which gives the context C channels.
        kernel_size: K, any number from 1.
        dropout: on the attention probabilities, in training.
    """

    def __init__(
        self, hidden_size: int, heads: int, head_size: int | None = None, kernel_size: int = 9, dropout: float = 0.0
    ):
        super().__init__()
        self.heads = heads
        self.head_size = split_width(hidden_size, 2 * heads) if head_size is None else head_size
        self.dropout = dropout
        width = self.heads * self.head_size
        self.query = nn.Linear(hidden_size, width)
        self.key = nn.Linear(hidden_size, width)
        self.value = nn.Linear(hidden_size, width)
        self.conv_value = nn.Linear(hidden_size, width)
        self.depthwise = DepthwiseConv1d(hidden_size, kernel_size, bias=False)
        self.pointwise = nn.Linear(hidden_size, width)
        self.conv_kernel = nn.Linear(width, heads * kernel_size)
        self.output = nn.Linear(2 * width, hidden_size)

    def forward(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """x [B, T, C], or packed [total, C] → the same shape."""
        context = self._context_at_once(x, layout)
        if context is not None:
            return apply_linear(self.output, context)
        shape = (self.heads, self.head_size)
        x = layout.clear_padding(x)
        query = apply_linear(self.query, x).unflatten(-1, shape)  # [B, T, H, D]
        conv_logits = self._conv_logits(x, query, layout)  # [B, T, H, K]
        context = ops.mixed_attention(  # [B, T, 2·H·D]
            query,
            apply_linear(self.key, x).unflatten(-1, shape),
            apply_linear(self.value, x).unflatten(-1, shape),
            apply_linear(self.conv_value, x).unflatten(-1, shape),
            conv_logits,
            attention_mask=layout.key_mask(x.shape[1]) if layout.cu_seqlens is None else None,
            dropout_p=self.dropout if self.training else 0.0,
            lengths=layout.lengths,
            cu_seqlens=layout.cu_seqlens,
            max_seqlen=layout.max_seqlen,
        )
        return apply_linear(self.output, context)

    def _context_at_once(self, x: torch.Tensor, layout: Layout) -> torch.Tensor | None:
        """What the output layer takes, [B, T, 2·H·D], from one op, or None where modules must be called."""
        layers = (self.query, self.key, self.value, self.conv_value, self.pointwise, self.conv_kernel)
        if layout.lengths is not None or not all(type(layer) in LINEAR for layer in layers):
            return None
        return mixed_context(
            (*layers, self.depthwise),
            [layer.weight for layer in layers],
            [layer.bias for layer in layers],
            self.depthwise.weight,
            self.heads,
            self.dropout if self.training else 0.0,
            x,
            layout.attention_mask,
            layout.cu_seqlens,
        )

    def _conv_logits(self, x: torch.Tensor, query: torch.Tensor, layout: Layout) -> torch.Tensor:
        """The kernels before their softmax, [B, T, H, K]: one op where plain layers do just that."""
        sequences = {"lengths": layout.lengths, "cu_seqlens": layout.cu_seqlens}
        if all(type(layer) in LINEAR and calls_alone(layer) for layer in (self.pointwise, self.conv_kernel)):
            return ops.span_conv_logits(
                x,
                query,
                self.depthwise.weight,
                self.pointwise.weight,
                self.pointwise.bias,
                self.conv_kernel.weight,
                self.conv_kernel.bias,
                **sequences,
            )
        span = ops.depthwise_conv(x, self.depthwise.weight, **sequences)  # [B, T, C]
        keys = apply_linear(self.pointwise, span) * query.flatten(-2)  # [B, T, H·D]
        return apply_linear(self.conv_kernel, keys).unflatten(-1, (self.heads, -1))

    def as_one_op(self, x: torch.Tensor, layout: Layout, norm: nn.Module, dropout: nn.Module) -> torch.Tensor | None:
        """norm(x + dropout(self(x))) as one op, or None where modules must be called."""
        if layout.lengths is not None or (self.training and self.dropout):
            return None
        depthwise, *layers = children(self, "depthwise", *_LAYERS)
        if not all(type(layer) in LINEAR for layer in layers):
            return None

        def parameters() -> MixedParameters:
            return depthwise.weight, *zip(*map(weight_and_bias, layers), strict=True)

        mask = layout.attention_mask
        return mixed_block(
            self, [depthwise, *layers], parameters, self.heads, norm, dropout, x, mask, layout.cu_seqlens
        )

    def attention_probs(self, x: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        """Maps [B, H, T, T] of the attention heads for x [B, T, C], before dropout. Padded form only."""
        return attention_probs(self, x, layout)

    def extra_repr(self) -> str:
        taps = self.depthwise.weight.shape[1]
        return f"heads={self.heads}, head_size={self.head_size}, kernel_size={taps}, dropout={self.dropout}"
