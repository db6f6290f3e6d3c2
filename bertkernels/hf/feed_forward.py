"""ConvBERT's feed-forward layers on fused ops, in the place of Hugging Face's classes."""

import torch
from transformers.models.convbert.modeling_convbert import GroupedLinearLayer

from ..ops import grouped_linear


class FusedGroupedLinearLayer(GroupedLinearLayer):
    """Block-diagonal linear layer without permutes: [B, T, G·I] → [B, T, G·O]."""

    stock = GroupedLinearLayer

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return grouped_linear(hidden_states, self.weight, self.bias)
