"""From the student's width to the teacher's: what hidden states are compared through."""

import torch
from torch import nn

SHARED, PER_BLOCK, NONE, AUTO = "shared", "per_block", "none", "auto"
PROJECTIONS = (AUTO, SHARED, PER_BLOCK, NONE)
PROJECTION_FILE = "distillation_projection.safetensors"  # beside the student


class Projection(nn.Module):
    """Linear layers C → the teacher's C: one for all hidden states, or one for each.

    Args:
        student, teacher: widths.
        numbers: which hidden states are compared.
        shared: one layer for all of them, as TinyBERT and EfficientBERT have it.
        std: standard deviation of the normal distribution that weights start from.
    """

    def __init__(self, student: int, teacher: int, numbers: list[int], shared: bool, std: float = 0.02) -> None:
        super().__init__()
        names = [SHARED] if shared else [str(number) for number in numbers]
        self.layers = nn.ModuleDict({name: nn.Linear(student, teacher) for name in names})
        for layer in self.layers.values():
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Hidden state `number` […, C] → […, the teacher's C]"""
        layer = self.layers[SHARED if SHARED in self.layers else str(number)]
        return layer(x.float())
