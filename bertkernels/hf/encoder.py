"""ConvBERT's encoder and layers: the plain ones, and those that run on real tokens only."""

import torch
from transformers.modeling_outputs import BaseModelOutputWithCrossAttentions
from transformers.models.convbert.modeling_convbert import ConvBertEncoder

from ..nn import Alignment, Packing, pack_mask
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
        x = _pack(packing, hidden_states)
        x = _unpack(packing, x) if each_layer else x
        output = super().forward(x, attention_mask, packing=packing, each_layer=each_layer, **kwargs)
        if not each_layer:
            output.last_hidden_state = _unpack(packing, output.last_hidden_state)
        return output


class UnpaddedConvBertLayer(FusedConvBertLayer):
    """A layer that takes and returns packed tokens [1, total, C] (or aligned ones [B, T, C]), or with `each_layer`
    padded ones [B, T, C].
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        packing: Packing | Alignment | None = None,
        each_layer: bool = False,
        **kwargs,
    ) -> torch.Tensor:
        if packing is None:
            return super().forward(hidden_states, attention_mask, **kwargs)
        if not each_layer:
            return super().forward(hidden_states, attention_mask, packing=packing, **kwargs)
        x = super().forward(_pack(packing, hidden_states), attention_mask, packing=packing, **kwargs)
        return _unpack(packing, x)


def _pack(packing: Packing | Alignment, x: torch.Tensor) -> torch.Tensor:
    """[B, T, C] → as layers take it: [1, total, C], or aligned [B, T, C]"""
    x = packing.pack(x)
    return x.unsqueeze(0) if x.dim() == 2 else x


def _unpack(packing: Packing | Alignment, x: torch.Tensor) -> torch.Tensor:
    return packing.unpack(x.squeeze(0) if packing.layout.cu_seqlens is not None else x)


def _packing(hidden_states: torch.Tensor, attention_mask: torch.Tensor | None) -> Packing | Alignment | None:
    if attention_mask is None or attention_mask.numel() == 1:
        return None
    batch, tokens = hidden_states.shape[:2]
    if attention_mask.shape != (batch, 1, 1, tokens):
        raise ValueError(
            f"a model patched with unpad=True needs attention_mask [B, T] = [{batch}, {tokens}], "
            f"not a ready-made one of shape {list(attention_mask.shape)}"
        )
    return pack_mask(attention_mask[:, 0, 0, :] == 0)
