"""Fused operations, each a registered torch op with autograd: one module an op, named as the op."""

from .attention import attention
from .attention_block import attention_block
from .bias_activation import bias_activation
from .depthwise_conv import depthwise_conv
from .dispatch import can_run, use
from .dynamic_conv_block import dynamic_conv_block
from .expression_block import expression_block
from .feed_forward_block import feed_forward_block
from .glu import glu
from .grouped_linear import grouped_linear
from .light_conv import light_conv
from .linear import linear
from .mixed_attention import mixed_attention
from .mixed_block import mixed_block
from .mixed_context import mixed_context
from .residual_norm import residual_norm
from .span_conv import span_conv, span_conv_logits

from . import flops  # noqa: F401  isort: skip  (registers formulas of the ops above)

__all__ = [
    "attention",
    "attention_block",
    "bias_activation",
    "can_run",
    "depthwise_conv",
    "dynamic_conv_block",
    "expression_block",
    "feed_forward_block",
    "glu",
    "grouped_linear",
    "light_conv",
    "linear",
    "mixed_attention",
    "mixed_block",
    "mixed_context",
    "residual_norm",
    "span_conv",
    "span_conv_logits",
    "use",
]
