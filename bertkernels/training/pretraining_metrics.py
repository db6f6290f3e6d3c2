"""How generator and discriminator do, from sums that add up over batches, accumulation steps and processes."""

import torch

from bertkernels.models.electra import ElectraOutput

# AUC is computed from histograms of the discriminator's logits; a bin is 0.01 wide.
_BINS, _LOGIT_RANGE = 4000, 20.0


@torch.no_grad()
def batch_sums(outputs: ElectraOutput, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The sums of one batch that `averages` takes: loss and right answers of the generator over its predictions, loss,
    decisions and score histograms of the discriminator over real tokens."""
    weights = batch["masked_lm_weights"].double()  # [B, P]
    true_ids = batch["masked_lm_ids"]
    real = batch["attention_mask"].bool()  # [B, T]
    replaced = outputs.replaced_labels.bool() & real
    said_replaced = (outputs.discriminator_logits > 0) & real
    predictions, tokens = weights.sum(), real.sum().double()
    generator = [
        predictions,
        outputs.masked_lm_loss.double() * (predictions + 1e-6),
        ((outputs.masked_lm_logits.argmax(-1) == true_ids) * weights).sum(),
        ((outputs.sampled_ids == true_ids) * weights).sum(),
    ]
    discriminator = [
        tokens,
        outputs.discriminator_loss.double() * (tokens + 1e-6),
        ((said_replaced == replaced) & real).sum().double(),
        (said_replaced & replaced).sum().double(),
        said_replaced.sum().double(),
        replaced.sum().double(),
    ]
    return {
        "generator": torch.stack(generator),
        "discriminator": torch.stack(discriminator),
        "scores": _histograms(outputs.discriminator_logits, replaced, real),
    }


def averages(sums: dict[str, torch.Tensor]) -> dict[str, float]:
    """Losses, masked-LM accuracies (of the best guess and of the sample), and the discriminator's accuracy, precision,
    recall and area under the ROC curve, "replaced" being the positive class. What is undefined (no such token) is 0."""
    predictions, masked_lm_loss, best_right, sampled_right = sums["generator"].tolist()
    tokens, loss, right, hits, said, replaced = sums["discriminator"].tolist()
    return {
        "generator_loss": masked_lm_loss / max(predictions, 1),
        "discriminator_loss": loss / max(tokens, 1),
        "masked_lm_accuracy": best_right / max(predictions, 1),
        "sampled_masked_lm_accuracy": sampled_right / max(predictions, 1),
        "rtd_accuracy": right / max(tokens, 1),
        "rtd_precision": hits / max(said, 1),
        "rtd_recall": hits / max(replaced, 1),
        "rtd_auc": _area(*sums["scores"]),
    }


def _histograms(logits: torch.Tensor, replaced: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Counts of logits [B, T] by bin, of original and of replaced tokens: [2, bins]. Does not wait for the device."""
    place = (logits.float() + _LOGIT_RANGE) * (_BINS / (2 * _LOGIT_RANGE))
    place = place.nan_to_num(0.0).clamp(0, _BINS - 1).long() + _BINS * replaced  # [B, T]
    counts = torch.zeros(2 * _BINS, dtype=torch.double, device=logits.device)
    return counts.index_add_(0, place.flatten(), real.flatten().double()).view(2, _BINS)


def _area(negatives: torch.Tensor, positives: torch.Tensor) -> float:
    """The share of (positive, negative) pairs that the scores order rightly; pairs in one bin count half."""
    below = negatives.cumsum(0) - negatives
    pairs = negatives.sum() * positives.sum()
    return ((positives * (below + negatives / 2)).sum() / pairs).item() if pairs > 0 else 0.0
