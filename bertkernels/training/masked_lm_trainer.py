"""The Trainer of masked language models: loss over the predicted positions, accuracy in the log."""

import torch

from bertkernels.models.heads import IGNORED
from bertkernels.training.pretraining_trainer import PretrainingTrainer


class MaskedLMTrainer(PretrainingTrainer):
    """Trains an `EncoderForMaskedLM` on masked batches.

    The objective is BERT's (Devlin et al. 2019, §3.1); what stands at the chosen positions is up to the masking.
    """

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None):
        given = masked_lm_inputs(inputs)
        outputs = model(**given)
        self._sums.add({"masked_lm": masked_lm_sums(outputs.loss, outputs.logits, given["labels"])})
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        right, predictions, _ = sums["masked_lm"].tolist()
        return {"masked_lm_accuracy": right / max(predictions, 1)}

    def mean_loss(self, sums: dict[str, torch.Tensor]) -> float:
        _, predictions, loss = sums["masked_lm"].tolist()
        return loss / max(predictions, 1)


def masked_lm_inputs(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a masked language model takes of a `MaskingCollator`'s batch: labels are int64 [B, P], -100 in unused
    slots."""
    return {
        "input_ids": batch["input_ids"],
        "attention_mask": batch["attention_mask"],
        "token_type_ids": batch["token_type_ids"],
        "masked_positions": batch["masked_lm_positions"],
        "labels": batch["masked_lm_ids"].masked_fill(batch["masked_lm_weights"] == 0, IGNORED),
    }


@torch.no_grad()
def masked_lm_sums(loss: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Right predictions, predictions, and the sum of their losses, of a mean loss: fp64 [3]."""
    right, predictions = (logits.argmax(-1) == labels).sum(), (labels != IGNORED).sum()
    return torch.stack([right, predictions, loss * predictions]).double()
