"""By what a run knows a model again."""

import hashlib

import torch
from transformers import PreTrainedModel


def weights_digest(model: PreTrainedModel) -> str:
    """SHA-256 of all weights with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name} {weight.dtype} {list(weight.shape)} ".encode())
        digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
