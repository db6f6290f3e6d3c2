"""ConvBERT's self-attention and its separable convolution on fused ops, in the place of Hugging Face's classes."""

import math

import torch
from torch import nn
from transformers.models.convbert.modeling_convbert import ConvBertSelfAttention, SeparableConv1D

from ..nn import ALL_TOKENS, Alignment, Layout, Packing, apply_linear, calls_alone
from ..nn.context import mixed_context
from ..ops import depthwise_conv, dispatch, linear, mixed_attention
from ..ops.mixed_attention import join_light_conv_op


class FusedSeparableConv1D(SeparableConv1D):
    """Depthwise, then pointwise convolution with channels first, as in Hugging Face's: [B, C, T] → [B, A, T].

    Both sides are views of channels-last memory, so a caller who transposes before and after copies nothing.
    """

    stock = SeparableConv1D

    def forward(self, hidden_states: torch.Tensor, layout: Layout = ALL_TOKENS) -> torch.Tensor:
        tokens = hidden_states.transpose(-1, -2)  # [B, T, C], or packed [total, C]
        if tokens.stride(-1) != 1:
            tokens = tokens.contiguous()
        return self.spans(tokens, layout).transpose(-1, -2)

    def spans(self, tokens: torch.Tensor, layout: Layout, multiplier: torch.Tensor | None = None) -> torch.Tensor:
        """The same with channels last, [B, T, C] → [B, T, A], times `multiplier` [B, T, A] if there is one."""
        taps = self.depthwise.weight.squeeze(1)  # [C, K]
        spans = depthwise_conv(tokens, taps, lengths=layout.lengths, cu_seqlens=layout.cu_seqlens)
        weight, bias = self.pointwise.weight.squeeze(-1), self.bias.squeeze(-1)  # [A, C], [A]
        return linear(spans, weight, bias, multiplier=multiplier, impl="torch")


class FusedConvBertSelfAttention(ConvBertSelfAttention):
    """Mixed attention (Jiang et al. 2020, §3.3): attention heads and convolution heads written into one buffer.

    Projections that are more than plain linear layers, or have hooks, are still called as modules, so that adapters and
    hooks on them keep working. The second result,
    the attention probabilities, is None with `output_attentions=False`, as the encoder passes it by default.
    """

    stock = ConvBertSelfAttention

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, C]; packed [1, total, C], or aligned [B, T, C]
        attention_mask: torch.Tensor | None = None,  # additive, broadcastable to [B, H, T, T] of the padded batch
        encoder_hidden_states: torch.Tensor | None = None,
        output_attentions: bool | None = True,
        packing: Packing | Alignment | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if encoder_hidden_states is not None:  # cross-attention: the fused ops take keys and queries of one length
            return super().forward(hidden_states, attention_mask, encoder_hidden_states, **kwargs)
        layout = ALL_TOKENS if packing is None else packing.layout
        packed = layout.cu_seqlens is not None
        x = hidden_states.squeeze(0) if packed else hidden_states
        if not output_attentions:
            context = self._context_at_once(x, attention_mask if packing is None else None, layout)
            if context is not None:
                return context.unsqueeze(0) if packed else context, None
        x = layout.clear_padding(x)

        heads = (self.num_attention_heads, self.attention_head_size)
        mixed_query = apply_linear(self.query, x)  # [B, T, H·D], or [total, H·D] as all below
        query = mixed_query.unflatten(-1, heads)  # [B, T, H, D]
        key = apply_linear(self.key, x).unflatten(-1, heads)
        value = apply_linear(self.value, x).unflatten(-1, heads)
        spans = self._spans_by_query(x, mixed_query, layout)  # [B, T, H·D]
        conv_logits = apply_linear(self.conv_kernel_layer, spans).unflatten(-1, (heads[0], self.conv_kernel_size))
        conv_values = apply_linear(self.conv_out_layer, x).unflatten(-1, heads)

        probabilities = None
        if output_attentions:
            attended, probabilities = self._attend(query, key, value, attention_mask, packing)
            impl = dispatch.requested(None)
            sequences = (layout.lengths, layout.cu_seqlens)
            context = join_light_conv_op(attended.flatten(-2), conv_values, conv_logits, *sequences, impl)
        else:
            context = mixed_attention(
                query,
                key,
                value,
                conv_values,
                conv_logits,
                attention_mask=additive_mask(attention_mask, query.dtype) if packing is None else None,
                dropout_p=self.dropout.p if self.dropout.training else 0.0,
                lengths=layout.lengths,
                cu_seqlens=layout.cu_seqlens,
                max_seqlen=layout.max_seqlen,
            )
        return context.unsqueeze(0) if packed else context, probabilities

    def _context_at_once(
        self, x: torch.Tensor, attention_mask: torch.Tensor | None, layout: Layout
    ) -> torch.Tensor | None:
        """The context [B, T, 2·H·D] from one op, or None where modules must be called."""
        span = self.key_conv_attn_layer
        layers = (self.query, self.key, self.value, self.conv_out_layer, self.conv_kernel_layer)
        if layout.lengths is not None or type(span) is not FusedSeparableConv1D:
            return None
        if not all(type(layer) is nn.Linear for layer in layers):
            return None
        *projections, kernel = [(layer.weight, layer.bias) for layer in layers]
        pointwise = (span.pointwise.weight.squeeze(-1), span.bias.squeeze(-1))  # [H·D, C], [H·D]
        weights, biases = zip(*projections, pointwise, kernel, strict=True)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        return mixed_context(
            (*layers, span, span.depthwise, span.pointwise, self.dropout),
            weights,
            biases,
            span.depthwise.weight.squeeze(1),
            self.num_attention_heads,
            self.dropout.p if self.dropout.training else 0.0,
            x,
            additive_mask(attention_mask, dtype),
            layout.cu_seqlens,
        )

    def _spans_by_query(self, x: torch.Tensor, mixed_query: torch.Tensor, layout: Layout) -> torch.Tensor:
        layer = self.key_conv_attn_layer
        if type(layer) is FusedSeparableConv1D and calls_alone(layer):
            return layer.spans(x, layout, multiplier=mixed_query)
        return layer(x.transpose(-1, -2), layout).transpose(-1, -2) * mixed_query

    def _attend(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        packing: Packing | Alignment | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention that also returns its probabilities [B, H, T, T], as dropout left them.

        Packed tokens are laid out as the batch was, so that the maps are those of padded batches, zero at padding.
        """
        if packing is not None:
            real = packing.unpack(query.new_ones(query.shape[:-2]))  # [B, T], 0 at padding
            query, key, value = (packing.unpack(x) for x in (query, key, value))  # [B, T, H, D]
        scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) / math.sqrt(self.attention_head_size)  # [B, H, T, T]
        if attention_mask is not None:
            scores = scores + attention_mask
        probabilities = scores.softmax(-1)
        if packing is not None:
            probabilities = probabilities * real[:, None, :, None]
        probabilities = self.dropout(probabilities)
        attended = (probabilities @ value.transpose(1, 2)).transpose(1, 2)  # [B, T, H, D]
        return attended if packing is None else packing.pack(attended), probabilities


def additive_mask(mask: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    """The mask in this dtype; None where it adds one number to all scores, which no softmax can see."""
    if mask is None or mask.numel() == 1:
        return None
    if mask.dtype == dtype:
        return mask
    if mask.is_floating_point():
        # the lowest fp32 number becomes -inf in half precision, and a fully masked row NaN
        mask = mask.clamp(min=torch.finfo(dtype).min)
    return mask.to(dtype)
