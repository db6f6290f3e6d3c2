"""What a conversion yields besides weights."""

from dataclasses import dataclass, field

from transformers import PreTrainedModel


@dataclass
class Conversion:
    """A converted model.

    Attributes:
        model: of ours, ready for inference.
        notes: sentences for the user: what was found, assumed or left out.
    """

    model: PreTrainedModel
    notes: list[str] = field(default_factory=list)
