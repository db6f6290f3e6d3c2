"""What of a student and a teacher is compared: which hidden states, and the scores of which blocks."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertkernels.errors import InputError
from bertkernels.models.encoder import EncoderModel
from bertkernels.training.distillation.states import block_heads


@dataclass(frozen=True)
class LossSettings:
    """Weights of the losses, and what they count.

    Attributes:
        embedding_weight, hidden_weight, attention_weight: of the first block's input, of blocks' outputs and of scores
            before their softmax; each a mean over tokens, summed over blocks.
        logits_weight: of what the head says. label_weight: of the task's own loss.
        temperature, logits_reduction: as `soft_cross_entropy` has them.
        regression_labels: numbers are learned from the labels, not from the teacher.
        at_padding: losses on states and scores count padding too, as in the originals.
    """

    embedding_weight: float = 1.0
    hidden_weight: float = 1.0
    attention_weight: float = 1.0
    logits_weight: float = 1.0
    label_weight: float = 0.0
    temperature: float = 1.0
    logits_reduction: str = "batch"
    regression_labels: bool = False
    at_padding: bool = False

    @property
    def compares_states(self) -> bool:
        return bool(self.embedding_weight or self.hidden_weight or self.attention_weight)


@dataclass(frozen=True)
class Comparison:
    """Pairs of (student's, teacher's): numbers of hidden states as `EncoderStates` counts them, and blocks."""

    embeddings: tuple[tuple[int, int], ...] = ()
    hidden: tuple[tuple[int, int], ...] = ()
    attention: tuple[tuple[int, int], ...] = ()

    @property
    def projected(self) -> list[int]:
        """The student's hidden states that are compared."""
        return [student for student, _ in (*self.embeddings, *self.hidden)]


def compare(
    student: EncoderModel, teacher: EncoderModel, blocks: Sequence[int | None], settings: LossSettings
) -> Comparison:
    """What losses with a weight compare.

    Scores are compared where both blocks have attention heads.

    Args:
        blocks: as `block_map` has them.

    Raises:
        InputError: blocks whose numbers of heads differ; or nothing to compare for the losses on states that are asked
            for alone.
    """
    mapped = [(number, block) for number, block in enumerate(blocks) if block is not None]
    attention = []
    if settings.attention_weight:
        found, wanted = block_heads(student), block_heads(teacher)
        attention = [(number, block) for number, block in mapped if found[number] and wanted[block]]
        for number, block in attention:
            if found[number] != wanted[block]:
                raise InputError(
                    f"the student's block {number + 1} has {found[number]} attention heads, the teacher's block "
                    f"{block + 1} has {wanted[block]}: scores are compared head by head; map other blocks with "
                    "--block_map, or leave them out with --attention_weight 0"
                )
    hidden = [(number + 1, block + 1) for number, block in mapped] if settings.hidden_weight else []
    embeddings = ((0, 0),) if settings.embedding_weight else ()
    comparison = Comparison(embeddings, tuple(hidden), tuple(attention))
    if not (embeddings or hidden or attention or settings.logits_weight or settings.label_weight):
        raise InputError("no loss is left: no two mapped blocks have attention heads both, and other weights are 0")
    return comparison
