"""Heads that read or choose one position of a sequence, for models that run on real tokens only: it is a real one."""

import torch
from torch import nn
from transformers.models.convbert.modeling_convbert import ConvBertClassificationHead, ConvBertSequenceSummary


class UnpaddedConvBertClassificationHead(ConvBertClassificationHead):
    """Reads the first real token, where padding stands on the left too."""

    stock = ConvBertClassificationHead

    def forward(self, hidden_states: torch.Tensor, **kwargs) -> torch.Tensor:
        return super().forward(_row(hidden_states, _first(_real(hidden_states))), **kwargs)


class UnpaddedConvBertSequenceSummary(ConvBertSequenceSummary):
    """Reads the first or the last real token, or the mean over real tokens."""

    stock = ConvBertSequenceSummary

    def forward(self, hidden_states: torch.Tensor, cls_index: torch.Tensor | None = None) -> torch.Tensor:
        if cls_index is not None:
            return super().forward(hidden_states, cls_index)
        real = _real(hidden_states)
        if self.summary_type == "mean":
            row = hidden_states.sum(1, keepdim=True) / real.sum(1).clamp(min=1)[:, None, None]
        elif self.summary_type == "first":
            row = _row(hidden_states, _first(real))
        else:
            row = _row(hidden_states, _last(real))
        return super().forward(row)


class UnpaddedSpanLogits(nn.Linear):
    """The linear layer of question answering, with the lowest number for positions at padding.

    Answers neither begin nor end there, and the loss is a softmax over real positions alone.
    """

    stock = nn.Linear

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        logits = super().forward(hidden_states)  # [B, T, 2]
        return logits.masked_fill(~_real(hidden_states)[..., None], torch.finfo(logits.dtype).min)


def _real(hidden_states: torch.Tensor) -> torch.Tensor:
    """bool [B, T]: unpacking leaves exact zeros at padding, and no layer norm returns them."""
    return (hidden_states != 0).any(-1)


def _first(real: torch.Tensor) -> torch.Tensor:
    return real.int().argmax(1)


def _last(real: torch.Tensor) -> torch.Tensor:
    return real.shape[1] - 1 - real.flip(1).int().argmax(1)


def _row(hidden_states: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
    """[B, T, C], positions [B] → [B, 1, C]"""
    # not take_along_dim, which would tie an exported program to one size
    return hidden_states.gather(1, position[:, None, None].expand(-1, 1, hidden_states.shape[-1]))
