"""Tiny ConvBERT models with weights large enough that a wrong term shows."""

import pytest
import torch
import transformers
from transformers import ConvBertConfig

HEADS = (
    "ConvBertModel",
    "ConvBertForMaskedLM",
    "ConvBertForSequenceClassification",
    "ConvBertForTokenClassification",
    "ConvBertForQuestionAnswering",
    "ConvBertForMultipleChoice",
)


@pytest.fixture(params=HEADS)
def head(request) -> str:
    return request.param


@pytest.fixture
def make_config():
    def make(**changes) -> ConvBertConfig:
        settings = {
            "vocab_size": 60,
            "hidden_size": 32,
            "embedding_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 48,
            "max_position_embeddings": 40,
            "initializer_range": 0.15,
            "pad_token_id": 0,
        }
        return ConvBertConfig(**(settings | changes))

    return make


@pytest.fixture
def make_model(make_config):
    def make(head: str = "ConvBertModel", **changes):
        torch.manual_seed(0)
        model = getattr(transformers, head)(make_config(**changes))
        for name, parameter in model.named_parameters():  # biases start as zeros, which would hide a lost one
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        return model.eval()

    return make


@pytest.fixture
def make_batch():
    """Inputs for a head: mixed lengths (padding on the right), labels where it takes some."""

    def make(head: str = "ConvBertModel", lengths=(13, 6, 9, 1)) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        batch, tokens = len(lengths), max(lengths)
        mask = (torch.arange(tokens) < torch.tensor(lengths)[:, None]).long()
        ids = torch.randint(5, 60, (batch, tokens), generator=generator) * mask
        inputs = {"input_ids": ids, "attention_mask": mask}
        if head == "ConvBertForMaskedLM":
            inputs["labels"] = ids.masked_fill(mask == 0, -100)
        elif head == "ConvBertForSequenceClassification":
            inputs["labels"] = torch.arange(batch) % 2
        elif head == "ConvBertForTokenClassification":
            inputs["labels"] = ids % 2
        elif head == "ConvBertForQuestionAnswering":
            inputs |= {"start_positions": torch.zeros(batch).long(), "end_positions": torch.tensor(lengths) - 1}
        elif head == "ConvBertForMultipleChoice":
            inputs = {name: x.view(batch // 2, 2, tokens) for name, x in inputs.items()}
            inputs["labels"] = torch.arange(batch // 2) % 2
        return inputs

    return make
