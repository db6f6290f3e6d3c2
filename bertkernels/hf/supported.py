"""Whether a module of Hugging Face's computes exactly what its fused replacement computes."""

from torch import nn
from transformers.models.convbert.modeling_convbert import (
    ConvBertLayer,
    ConvBertSelfAttention,
    GroupedLinearLayer,
    SeparableConv1D,
)

DECODER = "decoder layers and cross-attention are not what the fused ops compute"


def reason_against(module: nn.Module, unpad: bool = False) -> str:
    """Why this module must be left as it is; the empty string where it can be replaced, with `unpad` by what runs on
    packed tokens."""
    if "forward" in vars(module):
        return "its forward was replaced on the instance (accelerate's device hooks do so): patch before that"
    if isinstance(module, ConvBertSelfAttention):
        return _against_attention(module)
    if isinstance(module, SeparableConv1D):
        return _against_convolution(module)
    if isinstance(module, GroupedLinearLayer):
        return _against_grouped_linear(module)
    if unpad and isinstance(module, ConvBertLayer) and module.chunk_size_feed_forward > 0:
        return "chunk_size_feed_forward splits padded batches"
    return ""


def _against_attention(module: ConvBertSelfAttention) -> str:
    if module.conv_kernel_size % 2 == 0:
        return f"conv_kernel_size {module.conv_kernel_size} is even, which Hugging Face's own formula does not allow"
    if not isinstance(module.key_conv_attn_layer, SeparableConv1D):
        return f"key_conv_attn_layer is a {type(module.key_conv_attn_layer).__name__}"
    if not isinstance(module.dropout, nn.Dropout):
        return f"dropout is a {type(module.dropout).__name__}"
    return reason_against(module.key_conv_attn_layer)


def _against_convolution(module: SeparableConv1D) -> str:
    depthwise, pointwise = module.depthwise, module.pointwise
    for name, layer in (("depthwise", depthwise), ("pointwise", pointwise)):
        if type(layer) is not nn.Conv1d:
            return f"{name} is a {type(layer).__name__}, not a Conv1d"
        if layer.bias is not None or layer.stride != (1,) or layer.dilation != (1,) or layer.padding_mode != "zeros":
            return f"{name} has a bias, a stride, a dilation or a padding mode"
    (taps,) = depthwise.kernel_size
    if depthwise.groups != depthwise.in_channels or depthwise.out_channels != depthwise.in_channels:
        return "depthwise has not one kernel a channel"
    if taps % 2 == 0 or depthwise.padding != (taps // 2,):
        return f"depthwise kernel {taps} with padding {depthwise.padding} is not centred on its token"
    if pointwise.kernel_size != (1,) or pointwise.groups != 1 or pointwise.padding != (0,):
        return "pointwise is not a linear layer over channels"
    return ""


def _against_grouped_linear(module: GroupedLinearLayer) -> str:
    if module.input_size % module.num_groups or module.output_size % module.num_groups:
        return f"{module.input_size} and {module.output_size} channels do not divide by {module.num_groups} groups"
    return ""
