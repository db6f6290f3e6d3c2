"""Small encoders of every family, with a batch that has padding."""

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    ConvBertConfig,
    ConvBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
)

import bertkernels
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForSequenceClassification

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 24}
PLANS = {
    "bert": "3*(attention ffn)",
    "convbert": "3*(mixed[kernel=3] ffn[groups=2])",
    "lvbert": "(dynamic_conv[kernel=3] dynamic_conv[kernel=3]) (attention ffn) (ffn attention)",
    "efficientbert": "3*(attention expression_ffn[expression=add(tanh(linear(gelu(linear(x, w1)), w2)), x), stack=2])",
    "varied": "(attention[residual=gated, output_activation=gelu] ffn[norm=inner])"
    " (linear_attention[norm=output] ffn[residual=none]) (attention[residual=scaled] ffn[groups=2, norm=inner])",
}
_HUGGINGFACE = {
    "hf-bert": (BertConfig, BertForSequenceClassification, {}),
    "hf-electra": (ElectraConfig, ElectraForSequenceClassification, {"embedding_size": 8}),
    "hf-convbert": (ConvBertConfig, ConvBertForSequenceClassification, {"conv_kernel_size": 3, "num_groups": 2}),
}
FAMILIES = (*PLANS, *_HUGGINGFACE, "hf-convbert-patched", "hf-convbert-unpadded")
POST_NORM = tuple(family for family in FAMILIES if family != "varied")


def build(family: str, **changes) -> nn.Module:
    """A classifier of a family, in eval mode, the same each time. Biases and norms are not what they start as."""
    torch.manual_seed(0)
    if family in PLANS:
        model = EncoderForSequenceClassification(
            EncoderConfig(**{"plan": PLANS[family], "initializer_range": 0.3, **SIZES, **changes})
        )
    else:
        config, kind, more = _HUGGINGFACE[family.removesuffix("-patched").removesuffix("-unpadded")]
        model = kind(config(num_hidden_layers=3, initializer_range=0.3, **{**SIZES, **more, **changes}))
        if family.endswith(("-patched", "-unpadded")):
            bertkernels.patch(model, unpad=family.endswith("-unpadded"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def batch(labels: bool = False) -> dict[str, torch.Tensor]:
    """Four sequences of 3 to 9 tokens."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.tensor([9, 5, 3, 7])
    mask = (torch.arange(9) < lengths[:, None]).long()
    made = {"input_ids": torch.randint(1, 60, (4, 9), generator=generator) * mask, "attention_mask": mask}
    return made | ({"labels": torch.tensor([0, 1, 1, 0])} if labels else {})


@torch.no_grad()
def logits(model: nn.Module) -> torch.Tensor:
    return model(**batch()).logits


def each(families: tuple[str, ...] = FAMILIES) -> pytest.MarkDecorator:
    """Parametrises a test by family."""
    return pytest.mark.parametrize("family", families)
