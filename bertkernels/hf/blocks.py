"""ConvBERT's sub-layers, each as one op where that computes the same (see `bertkernels.nn.whole_sublayer`), in
the place of Hugging Face's classes."""

import torch
from transformers.models.convbert.modeling_convbert import ConvBertAttention, ConvBertLayer

from ..nn import Alignment, Packing, calls_alone
from ..nn.linear import children, weight_and_bias
from ..nn.whole_sublayer import LINEAR, MixedParameters, feed_forward_block, mixed_block
from .attention import FusedConvBertSelfAttention, FusedSeparableConv1D
from .feed_forward import FusedConvBertIntermediate, FusedGroupedLinearLayer
from .output import FusedConvBertOutput, FusedConvBertSelfOutput

_PROJECTIONS = ("query", "key", "value", "conv_out_layer", "conv_kernel_layer")
_KINDS = (*LINEAR, FusedGroupedLinearLayer)


class FusedConvBertAttention(ConvBertAttention):
    """Mixed attention with its output layer, residual connection and norm."""

    stock = ConvBertAttention

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, C]; packed [1, total, C]
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        if encoder_hidden_states is None and not kwargs.get("output_attentions", True):
            out = self._as_one_op(hidden_states, attention_mask, kwargs.get("packing"))
            if out is not None:
                return out
        return super().forward(hidden_states, attention_mask, encoder_hidden_states, **kwargs)

    def _as_one_op(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None, packing: Packing | Alignment | None
    ) -> torch.Tensor | None:
        inner, end = children(self, "self", "output")
        if type(inner) is not FusedConvBertSelfAttention or type(end) is not FusedConvBertSelfOutput:
            return None
        span, dropout, *layers = children(inner, "key_conv_attn_layer", "dropout", *_PROJECTIONS)
        dense, norm, end_dropout = children(end, "dense", "LayerNorm", "dropout")
        if type(span) is not FusedSeparableConv1D or not calls_alone(inner, end, span):
            return None
        if dropout.training and dropout.p:
            return None
        layers.append(dense)
        if not all(type(layer) in LINEAR for layer in layers):
            return None
        depthwise, pointwise = children(span, "depthwise", "pointwise")

        def parameters() -> MixedParameters:
            *projections, kernel, output = map(weight_and_bias, layers)
            across = (pointwise.weight.squeeze(-1), span.bias.squeeze(-1))  # [H·D, C], [H·D]
            return depthwise.weight.squeeze(1), *zip(*projections, across, kernel, output, strict=True)

        x, cu_seqlens = hidden_states, None
        if packing is not None:
            if packing.layout.cu_seqlens is None:
                return None
            x, cu_seqlens, attention_mask = x.squeeze(0), packing.layout.cu_seqlens, None
        elif attention_mask is not None and attention_mask.numel() == 1:
            attention_mask = None  # one number added to all scores, which no softmax can see
        out = mixed_block(
            self,
            [*layers, span, depthwise, pointwise, dropout],
            parameters,
            inner.num_attention_heads,
            norm,
            end_dropout,
            x,
            attention_mask,
            cu_seqlens,
        )
        return out if out is None or packing is None else out.unsqueeze(0)


class FusedConvBertLayer(ConvBertLayer):
    """A layer whose feed-forward half, with its residual connection and norm, may run as one op."""

    stock = ConvBertLayer

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, C]; packed [1, total, C]
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> torch.Tensor:
        if self.chunk_size_feed_forward or (self.is_decoder and encoder_hidden_states is not None):
            states = (hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask)
            return super().forward(*states, **kwargs)
        # Hugging Face's looks up the signature of feed_forward_chunk in every call
        return self.feed_forward_chunk(self.attention(hidden_states, attention_mask, **kwargs))

    def feed_forward_chunk(self, attention_output: torch.Tensor) -> torch.Tensor:
        up, end = children(self, "intermediate", "output")
        plain = type(up) is FusedConvBertIntermediate and type(end) is FusedConvBertOutput
        if plain and up.applies_gelu() and calls_alone(up, end):
            dense, norm, dropout = children(end, "dense", "LayerNorm", "dropout")
            out = feed_forward_block(self, up.dense, dense, "gelu", norm, dropout, attention_output, _KINDS)
            if out is not None:
                return out
        return super().feed_forward_chunk(attention_output)
