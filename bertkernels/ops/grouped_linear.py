"""`grouped_linear`: a block-diagonal linear layer with bias and activation, no permutes."""

import torch

ACTIVATIONS = {
    "gelu": torch.nn.functional.gelu,
    "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def grouped_linear(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    *,
    activation: str | None = None,
    impl: str | None = None,
) -> torch.Tensor:
    """x […, G·I], weight [G, I, O], bias [G·O] → […, G·O]."""
    groups, width_in, width_out = weight.shape
    out = torch.einsum("ngi,gio->ngo", x.reshape(-1, groups, width_in), weight).reshape(*x.shape[:-1], -1)
    out = out if bias is None else out + bias
    return out if activation is None else ACTIVATIONS[activation](out)
