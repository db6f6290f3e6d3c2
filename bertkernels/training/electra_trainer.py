"""The Trainer of ELECTRA pairs: both losses, and how well each network does, in the log."""

import torch

from bertkernels.training.pretraining_metrics import averages, batch_sums
from bertkernels.training.pretraining_trainer import PretrainingTrainer


class ElectraTrainer(PretrainingTrainer):
    """Trains an `ElectraForPreTraining`."""

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None):
        outputs = model(**inputs)
        self._sums.add(batch_sums(outputs, inputs))
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        return averages(sums)
