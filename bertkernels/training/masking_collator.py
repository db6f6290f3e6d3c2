"""Batches for pre-training, masked anew in every epoch.

What is masked depends on the seed, the epoch and the example alone (a counter-based generator, no state): the same on
any number of processes and loader workers, and after a resume.
"""

import numpy as np
import torch

from bertkernels.models.heads import IGNORED
from bertkernels.training.masking import (
    MASKINGS,
    Masked,
    apply_mask,
    candidate_positions,
    choose_positions,
    max_predictions,
    prediction_counts,
    uniforms,
)
from bertkernels.training.whole_words import choose_words


class MaskingCollator:
    """Pads examples and masks them: the batch that the models of pre-training take.

    An example is a dict of `input_ids` (unpadded), `first_length`, `epoch` and `index`, and of sentence pairs
    `next_sentence_label`. An empty one (no ids) takes part in nothing. Batches are as wide as their longest example, or
    `max_length` with `pad_to_max_length`.

    Args:
        masking: "without_replacement" predicts every chosen position once and turns 85% of them into [MASK]; "electra"
            draws positions with replacement as the original does, so that some are drawn twice; "bert" draws without
            and turns 80% into [MASK] and 10% into a random token.
        vocab_size: number of ids that a random token is drawn from; only "bert" has them.
        inside_words: bool [V], the ids of pieces inside of words: whole words are predicted; None: single pieces.
    """

    def __init__(
        self,
        *,
        pad_id: int,
        cls_id: int,
        sep_id: int,
        mask_id: int,
        max_length: int,
        seed: int,
        mask_probability: float = 0.15,
        masking: str = "without_replacement",
        vocab_size: int | None = None,
        inside_words: np.ndarray | None = None,
        pad_to_max_length: bool = False,
    ) -> None:
        if masking not in MASKINGS:
            raise ValueError(f"masking must be one of {', '.join(MASKINGS)}, not {masking!r}")
        self.predictions = max_predictions(max_length, mask_probability)
        if self.predictions < 1:
            raise ValueError(f"max_length {max_length} leaves no room for a prediction at {mask_probability:.1%}")
        self._masking = MASKINGS[masking]
        if self._masking.random and vocab_size is None:
            raise ValueError(f"masking {masking!r} draws random tokens: it needs vocab_size")
        self._pad_id, self._mask_id = pad_id, mask_id
        self._special_ids = (cls_id, sep_id, mask_id)
        self._max_length, self._pad_to_max_length = max_length, pad_to_max_length
        self._seed, self._mask_probability = seed, mask_probability
        self._vocab_size, self._inside_words = vocab_size, inside_words

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """All int64: input_ids, original_input_ids, attention_mask, token_type_ids [B, T], masked_lm_positions and
        masked_lm_ids [B, P], and of sentence pairs next_sentence_label [B]; masked_lm_weights float32 [B, P]."""
        lengths = np.array([len(example["input_ids"]) for example in examples])
        firsts = np.array([example["first_length"] for example in examples])
        width = self._max_length if self._pad_to_max_length else max(1, int(lengths.max()))
        input_ids = np.full((len(examples), width), self._pad_id, dtype=np.int64)  # [B, T]
        for row, example in zip(input_ids, examples, strict=True):
            row[: len(example["input_ids"])] = example["input_ids"]
        place = np.arange(width)
        real = place < lengths[:, None]  # [B, T]
        masked = self._mask(
            input_ids,
            real,
            np.array([example["epoch"] for example in examples]),
            np.array([example["index"] for example in examples]),
        )
        batch = {
            "input_ids": masked.input_ids,
            "original_input_ids": input_ids,
            "attention_mask": real.astype(np.int64),
            "token_type_ids": (real & (place >= firsts[:, None])).astype(np.int64),
            "masked_lm_positions": masked.positions,
            "masked_lm_ids": masked.ids,
            "masked_lm_weights": masked.weights,
        }
        if any("next_sentence_label" in example for example in examples):
            labels = [example.get("next_sentence_label", IGNORED) for example in examples]
            batch["next_sentence_label"] = np.array(labels, dtype=np.int64)
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _mask(self, input_ids: np.ndarray, real: np.ndarray, epochs: np.ndarray, indices: np.ndarray) -> Masked:
        draws, rule = self.predictions, self._masking
        candidates = candidate_positions(input_ids, real, self._special_ids)
        # Drawn for the longest example, so that an example's masks don't depend on its neighbours' lengths.
        places = max(draws, self._max_length)
        numbers = uniforms(self._seed, epochs, indices, draws + places + (draws if rule.random else 0))
        fate, place, token = numbers[:, :draws], numbers[:, draws : draws + places], numbers[:, draws + places :]
        place = place[:, :draws] if rule.with_replacement else place[:, : input_ids.shape[1]]
        counts = prediction_counts(real.sum(axis=1), draws, self._mask_probability)
        available = candidates.sum(axis=1)
        counts = np.where(available > 0, counts, 0) if rule.with_replacement else np.minimum(counts, available)
        if self._inside_words is None:
            positions = choose_positions(candidates, place, draws, rule.with_replacement)
        else:
            inside = self._inside_words[input_ids]
            positions, counts = choose_words(candidates, inside, place, counts, draws, rule.with_replacement)
        weights = np.arange(draws) < counts[:, None]  # [B, P]
        random_ids = (token * self._vocab_size).astype(np.int64) if rule.random else None
        return apply_mask(
            input_ids,
            positions,
            weights,
            fate,
            self._mask_id,
            masked=rule.masked,
            random=rule.random,
            random_ids=random_ids,
        )
