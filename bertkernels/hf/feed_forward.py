"""ConvBERT's feed-forward layers on fused ops, in the place of Hugging Face's classes."""

import torch
from transformers.activations import GELUActivation
from transformers.models.convbert.modeling_convbert import ConvBertIntermediate, GroupedLinearLayer

from ..ops import grouped_linear


class FusedGroupedLinearLayer(GroupedLinearLayer):
    """Block-diagonal linear layer without permutes: [B, T, G·I] → [B, T, G·O]."""

    stock = GroupedLinearLayer

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return grouped_linear(hidden_states, self.weight, self.bias)


class FusedConvBertIntermediate(ConvBertIntermediate):
    """The first half of the feed-forward layer, with GELU in place where no gradient needs its input.

    On the CPU the fresh pages of a second buffer of this width cost more than the activation itself.
    """

    stock = ConvBertIntermediate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.dense(hidden_states)
        kept = hidden_states.requires_grad or self.dense._forward_hooks  # a hook may have kept what it saw
        if kept or not isinstance(self.intermediate_act_fn, GELUActivation):
            return self.intermediate_act_fn(hidden_states)
        return torch.ops.aten.gelu_(hidden_states)
