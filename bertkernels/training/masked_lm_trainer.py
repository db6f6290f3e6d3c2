"""The Trainer of masked language models: loss over the predicted positions, accuracy in the log."""

import torch

from bertkernels.models.heads import IGNORED
from bertkernels.training.pretraining_trainer import PretrainingTrainer


class MaskedLMTrainer(PretrainingTrainer):
    """Trains an `EncoderForMaskedLM` on the batches that ELECTRA's generator gets.

    The objective is BERT's (Devlin et al. 2019, §3.1), the masking ELECTRA's: 85% of the chosen positions become
    [MASK], the others keep their token.
    """

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None):
        labels = inputs["masked_lm_ids"].masked_fill(inputs["masked_lm_weights"] == 0, IGNORED)  # [B, P]
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            token_type_ids=inputs["token_type_ids"],
            masked_positions=inputs["masked_lm_positions"],
            labels=labels,
        )
        right = (outputs.logits.argmax(-1) == labels).sum()
        self._sums.add({"masked_lm": torch.stack([right, (labels != IGNORED).sum()]).double()})
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        right, predictions = sums["masked_lm"].tolist()
        return {"masked_lm_accuracy": right / max(predictions, 1)}
