"""ConvBERT's encoder and layers: the plain ones, and those that run on real tokens only."""

import torch
from transformers.modeling_outputs import BaseModelOutputWithCrossAttentions
from transformers.models.convbert.modeling_convbert import ConvBertEncoder

from ..nn import Packing, pack_mask
from .attention import additive_mask
from .blocks import FusedConvBertLayer


class FusedConvBertEncoder(ConvBertEncoder):
    """Tells the layers whether attention maps are wanted, also where the configuration alone asks for them.

    It must be an argument: what a layer does may not depend on anything that changes before its checkpoint is replayed.
    The layers get the mask in the dtype of what they begin with, which attention maps have under autocast.
    """

    stock = ConvBertEncoder

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithCrossAttentions:
        kwargs.setdefault("output_attentions", self.config.output_attentions)
        attention_mask = additive_mask(attention_mask, hidden_states.dtype)
        return super().forward(hidden_states, attention_mask, encoder_hidden_states, encoder_attention_mask, **kwargs)


class UnpaddedConvBertEncoder(FusedConvBertEncoder):
    """Packs the real tokens before the layers and unpacks them after, with zeros at padding."""

    def forward(
        self,
        hidden_states: torch.Tensor,  # [B, T, C]
        attention_mask: torch.Tensor | None = None,  # additive [B, 1, 1, T]: 0 for real tokens
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithCrossAttentions:
        if encoder_hidden_states is not None:
            raise ValueError("a model patched with unpad=True cannot attend to encoder_hidden_states")
        packing = _packing(hidden_states, attention_mask)
        if packing is None:
            return super().forward(hidden_states, **kwargs)
        # recorded hidden states are what each layer returns: where they are wanted every layer packs and unpacks
        each_layer = bool(kwargs.get("output_hidden_states", self.config.output_hidden_states))
        packed = packing.pack(hidden_states)  # [total, C]
        x = packing.unpack(packed) if each_layer else packed.unsqueeze(0)
        output = super().forward(x, attention_mask, packing=packing, each_layer=each_layer, **kwargs)
        if not each_layer:
            output.last_hidden_state = packing.unpack(output.last_hidden_state.squeeze(0))
        return output


class UnpaddedConvBertLayer(FusedConvBertLayer):
    """A layer that takes and returns packed tokens [1, total, C], or with `each_layer` padded ones [B, T, C]."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        packing: Packing | None = None,
        each_layer: bool = False,
        **kwargs,
    ) -> torch.Tensor:
        if packing is None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        if not each_layer:
            return super().forward(hidden_states, attention_mask, packing=packing, **kwargs)
        packed = packing.pack(hidden_states).unsqueeze(0)  # [1, total, C]
        return packing.unpack(super().forward(packed, attention_mask, packing=packing, **kwargs).squeeze(0))


def _packing(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> Packing | None:
    if attention_mask is None or attention_mask.numel() == 1:
        return None
    batch, tokens = hidden_states.shape[:2]
    if attention_mask.shape != (batch, 1, 1, tokens):
        raise ValueError(
            f"a model patched with unpad=True needs attention_mask [B, T] = [{batch}, {tokens}], "
            f"not a ready-made one of shape {list(attention_mask.shape)}"
        )
    return pack_mask(attention_mask[:, 0, 0, :] == 0)
