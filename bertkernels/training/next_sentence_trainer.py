"""The Trainer of BERT's pre-training pair: both losses and both accuracies in the log."""

import torch

from bertkernels.models.heads import IGNORED
from bertkernels.training.masked_lm_trainer import MaskedLMTrainer, masked_lm_inputs, masked_lm_sums


class NextSentenceTrainer(MaskedLMTrainer):
    """Trains an `EncoderForMaskedLMAndNextSentence` on pairs of segments. Source: BERT (Devlin et al. 2019, §3.1)."""

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None):
        given, follows = masked_lm_inputs(inputs), inputs["next_sentence_label"]
        outputs = model(**given, next_sentence_label=follows)
        right = (outputs.next_sentence_logits.argmax(-1) == follows).sum()
        pairs = (follows != IGNORED).sum()
        self._sums.add(
            {
                "masked_lm": masked_lm_sums(outputs.masked_lm_loss, outputs.masked_lm_logits, given["labels"]),
                "next_sentence": torch.stack([right, pairs, outputs.next_sentence_loss * pairs]).double(),
            }
        )
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        right, pairs, loss = sums["next_sentence"].tolist()
        return {
            **super().interval_averages(sums),
            "masked_lm_loss": super().mean_loss(sums),
            "next_sentence_accuracy": right / max(pairs, 1),
            "next_sentence_loss": loss / max(pairs, 1),
        }

    def mean_loss(self, sums: dict[str, torch.Tensor]) -> float:
        _, pairs, loss = sums["next_sentence"].tolist()
        return super().mean_loss(sums) + loss / max(pairs, 1)
