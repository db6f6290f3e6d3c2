"""Sub-layers of the encoder, usable alone as drop-in modules. Depends on torch and on `bertkernels.ops` only."""

from .activation import ACTIVATIONS
from .attention import Attention
from .depthwise import DepthwiseConv1d
from .dynamic_conv import DynamicConv
from .expression_ffn import ExpressionFeedForward
from .ffn import FeedForward
from .glorot import GlorotLinear
from .grouped_linear import GroupedLinear
from .layout import ALL_TOKENS, Layout
from .linear import apply_linear, calls_alone
from .linear_attention import LinearAttention
from .mixed import MixedAttention
from .packing import Alignment, Packing, pack_mask, shapes_are_static, static_shapes
from .residual import PostNorm, apply_residual_norm
from .stack import PostNormStack
from .varied_frame import VariedFrame
from .weighted_residual import RESIDUALS, NoResidual, ScaledResidual, WeightedResidual

__all__ = [
    "ACTIVATIONS",
    "ALL_TOKENS",
    "Alignment",
    "Attention",
    "DepthwiseConv1d",
    "DynamicConv",
    "ExpressionFeedForward",
    "FeedForward",
    "GlorotLinear",
    "GroupedLinear",
    "Layout",
    "LinearAttention",
    "MixedAttention",
    "NoResidual",
    "Packing",
    "PostNorm",
    "PostNormStack",
    "RESIDUALS",
    "ScaledResidual",
    "VariedFrame",
    "WeightedResidual",
    "apply_linear",
    "apply_residual_norm",
    "calls_alone",
    "pack_mask",
    "shapes_are_static",
    "static_shapes",
]
