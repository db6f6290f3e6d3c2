"""Activations by the names that configurations use."""

from collections.abc import Callable

import torch
from torch import nn


def linear(x: torch.Tensor) -> torch.Tensor:
    return x


def gelu_tanh(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "elu": nn.functional.elu,
    "gelu": nn.functional.gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "leaky_relu": nn.functional.leaky_relu,  # slope 0.01
    "linear": linear,
    "relu": nn.functional.relu,
    "sigmoid": torch.sigmoid,
    "swish": nn.functional.silu,
    "tanh": torch.tanh,
}

# What `bertkernels.ops.grouped_linear` can fuse, by the op's own names.
FUSED_NAME: dict[str, str | None] = {
    "elu": "elu",
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "leaky_relu": "leaky_relu",
    "linear": None,
    "relu": "relu",
    "sigmoid": "sigmoid",
    "swish": "swish",
    "tanh": "tanh",
}


def check_activation(name: str) -> None:
    """Raises ValueError where `name` is no known activation."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
