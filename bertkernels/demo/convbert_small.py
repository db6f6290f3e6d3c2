"""Hugging Face's ConvBERT-small with random weights, and the same model patched."""

import copy
from collections.abc import Callable

import torch
from transformers import ConvBertConfig, ConvBertModel

import bertkernels

BATCH, LENGTH = 8, 128
_FIRST_WORD = 1000  # ids below are special tokens and single letters in BERT's vocabularies


def convbert_small(seed: int, device: torch.device) -> ConvBertModel:
    """The published size (12 layers, 256 wide), from its configuration: nothing is downloaded."""
    torch.manual_seed(seed)
    config = ConvBertConfig(embedding_size=128, hidden_size=256, num_attention_heads=4, intermediate_size=1024)
    return ConvBertModel(config).eval().to(device)


def patched_copy(model: ConvBertModel, unpad: bool = False) -> tuple[ConvBertModel, str]:
    """A copy on fused ops with the same weights, and what `patch` reports."""
    fused = copy.deepcopy(model)
    report = bertkernels.patch(fused, unpad=unpad)
    return fused, str(report)


def full_batch(model: ConvBertModel, seed: int) -> torch.Tensor:
    """Random words without padding, int64 [BATCH, LENGTH]."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(_FIRST_WORD, model.config.vocab_size, (BATCH, LENGTH), generator=generator)
    return words.to(model.device)


def forward(model: Callable, **inputs: torch.Tensor) -> Callable[[], torch.Tensor]:
    """A call of the model without gradients, for timing."""

    def run() -> torch.Tensor:
        with torch.no_grad():
            return model(**inputs).last_hidden_state

    return run


def forward_backward(model: Callable, owner: ConvBertModel, **inputs: torch.Tensor) -> Callable[[], None]:
    """A call and the gradients of all parameters, for timing. `owner` holds the parameters of `model`."""

    def run() -> None:
        owner.zero_grad(set_to_none=True)
        model(**inputs).last_hidden_state.square().mean().backward()

    return run


MODES = ("forward", "forward + backward")


def calls(mode: str, models: dict[str, tuple[Callable, ConvBertModel]], ids: torch.Tensor) -> dict[str, Callable]:
    """What to time in one of MODES, by name. `models` holds (what to call, the model that owns the parameters)."""
    if mode == "forward":
        return {name: forward(run, input_ids=ids) for name, (run, _) in models.items()}
    return {name: forward_backward(run, owner, input_ids=ids) for name, (run, owner) in models.items()}
