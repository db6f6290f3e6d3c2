"""ConvBERT's feed-forward layers on fused ops, in the place of Hugging Face's classes."""

import torch
from transformers.activations import GELUActivation
from transformers.models.convbert.modeling_convbert import ConvBertIntermediate, GroupedLinearLayer

from ..nn import apply_linear, calls_alone
from ..ops import grouped_linear


class FusedGroupedLinearLayer(GroupedLinearLayer):
    """Block-diagonal linear layer without permutes: [B, T, G·I] → [B, T, G·O]."""

    stock = GroupedLinearLayer

    def forward(self, hidden_states: torch.Tensor, activation: str | None = None) -> torch.Tensor:
        if activation is None and torch.is_autocast_enabled(hidden_states.device.type):
            # Hugging Face's adds the bias to the product in the bias's own dtype, which the residual stream then keeps
            return grouped_linear(hidden_states, self.weight) + self.bias
        return grouped_linear(hidden_states, self.weight, self.bias, activation=activation)


class FusedConvBertIntermediate(ConvBertIntermediate):
    """The first half of the feed-forward layer, with GELU as part of the product where that is what follows it."""

    stock = ConvBertIntermediate

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        if not self.applies_gelu():
            return self.intermediate_act_fn(self.dense(hidden_states))
        if type(self.dense) is FusedGroupedLinearLayer and calls_alone(self.dense):
            return self.dense(hidden_states, "gelu")
        return apply_linear(self.dense, hidden_states, activation="gelu")

    def applies_gelu(self) -> bool:
        """Whether the activation is GELU by the error function, of which Hugging Face has a class."""
        return isinstance(self.intermediate_act_fn, GELUActivation)
