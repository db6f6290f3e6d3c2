"""The Trainer of ELECTRA pairs: both losses, and how well each network does, in the log."""

import torch

from bertkernels.training.pretraining_metrics import averages, batch_sums
from bertkernels.training.pretraining_trainer import PretrainingTrainer

_INPUTS = (
    "input_ids",
    "original_input_ids",
    "attention_mask",
    "token_type_ids",
    "masked_lm_positions",
    "masked_lm_ids",
    "masked_lm_weights",
)


class ElectraTrainer(PretrainingTrainer):
    """Trains an `ElectraForPreTraining`."""

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None):
        outputs = model(**{name: inputs[name] for name in _INPUTS})
        self._sums.add(batch_sums(outputs, inputs))
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        return averages(sums)

    def mean_loss(self, sums: dict[str, torch.Tensor]) -> float:
        config = self.accelerator.unwrap_model(self.model, keep_torch_compile=False).config
        found = averages(sums)
        weighted = config.masked_lm_weight * found["generator_loss"]
        return weighted + config.discriminator_weight * found["discriminator_loss"]
