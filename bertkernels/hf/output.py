"""The ends of ConvBERT's sub-layers (product, dropout, residual, norm), in the place of Hugging Face's classes."""

import torch
from transformers.models.convbert.modeling_convbert import ConvBertOutput, ConvBertSelfOutput

from ..nn import apply_linear, apply_residual_norm


class FusedConvBertSelfOutput(ConvBertSelfOutput):
    """After attention: LayerNorm(input + dropout(dense(context)))."""

    stock = ConvBertSelfOutput

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        hidden_states = apply_linear(self.dense, hidden_states)
        return apply_residual_norm(self.LayerNorm, self.dropout, hidden_states, input_tensor)


class FusedConvBertOutput(ConvBertOutput):
    """After the feed-forward layer: LayerNorm(input + dropout(dense(hidden_states)))."""

    stock = ConvBertOutput

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        hidden_states = apply_linear(self.dense, hidden_states)
        return apply_residual_norm(self.LayerNorm, self.dropout, hidden_states, input_tensor)
