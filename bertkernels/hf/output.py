"""The ends of ConvBERT's sub-layers (product, dropout, residual, norm), in the place of Hugging Face's classes."""

import torch
from transformers.models.convbert.modeling_convbert import ConvBertOutput, ConvBertSelfOutput

from ..nn import apply_linear


class FusedConvBertSelfOutput(ConvBertSelfOutput):
    """After attention: LayerNorm(input + dropout(dense(context)))."""

    stock = ConvBertSelfOutput

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(apply_linear(self.dense, hidden_states)) + input_tensor)


class FusedConvBertOutput(ConvBertOutput):
    """After the feed-forward layer: LayerNorm(input + dropout(dense(hidden_states)))."""

    stock = ConvBertOutput

    def forward(self, hidden_states: torch.Tensor, input_tensor: torch.Tensor) -> torch.Tensor:
        return self.LayerNorm(self.dropout(apply_linear(self.dense, hidden_states)) + input_tensor)
