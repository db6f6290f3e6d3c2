"""What `patch` did to a model."""

from collections import Counter
from dataclasses import dataclass

import torch

from ..ops import dispatch

# Hugging Face class → ops that its replacement runs on
_OPS = {
    "ConvBertSelfAttention": ("light_conv", "depthwise_conv"),
    "SeparableConv1D": ("depthwise_conv",),
    "GroupedLinearLayer": ("grouped_linear",),
}


@dataclass(frozen=True)
class PatchReport:
    """What was swapped, what was left alone and why, and what the ops will run on. `str()` gives one paragraph.

    Attributes:
        swapped: number of modules replaced, by Hugging Face class.
        left_alone: reason by module name, for ConvBERT modules that could not be replaced.
        implementations: implementation ("cpu", "cuda", "torch", "triton", "reference") by op, on `device`.
        device: where the model's parameters are.
        unpad: whether the model runs on real tokens only.
    """

    swapped: dict[str, int]
    left_alone: dict[str, str]
    implementations: dict[str, str]
    device: str
    unpad: bool

    def __str__(self) -> str:
        swapped = ", ".join(f"{count} {name}" for name, count in self.swapped.items()) or "nothing"
        sentences = [f"Swapped {swapped}."]
        for reason, count in Counter(self.left_alone.values()).items():
            names = [name for name, why in self.left_alone.items() if why == reason]
            others = f" and {count - 1} more" if count > 1 else ""
            sentences.append(f"Left alone {names[0] or 'the module itself'}{others}: {reason}.")
        if self.implementations:
            chosen = ", ".join(f"{op} on {impl}" for op, impl in self.implementations.items())
            sentences.append(f"On {self.device} the ops run: {chosen}.")
        if self.unpad:
            sentences.append(
                "Only real tokens are run (unpad=True): padding changes nothing, so outputs of padded batches differ "
                "from the unpatched model's, whose convolutions read padding."
            )
        return " ".join(sentences)


def implementations(swapped: dict[str, int], device: torch.device) -> dict[str, str]:
    """The implementation that each op of the swapped modules gets on `device`."""
    table = dispatch.describe(device.type)
    ops = dict.fromkeys(op for name in swapped for op in _OPS.get(name, ()))
    return {op: dispatch.requested(None) or table[op][0] for op in ops}
