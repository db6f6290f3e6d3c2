"""Dynamic masking for ELECTRA and masked-LM pre-training, and the batches it makes.

What is masked depends on the seed, the epoch and the example alone (a counter-based generator, no state): the same on
any number of processes and loader workers, and after a resume.
Source: ELECTRA (Clark et al., 2020), section 3.1 and its released pre-training code.
"""

from dataclasses import dataclass

import numpy as np
import torch

MASKINGS = ("without_replacement", "electra")
_MASKED = 0.85  # share of the chosen positions that become [MASK]; the others keep their token
_EXTRA = 0.005  # the room for predictions is computed from a slightly larger share


def max_predictions(max_length: int, mask_probability: float = 0.15) -> int:
    """Width P of the prediction arrays: int((p + 0.005) * max_length)."""
    return int((mask_probability + _EXTRA) * max_length)


def prediction_counts(lengths: np.ndarray, limit: int, mask_probability: float = 0.15) -> np.ndarray:
    """How many positions to predict in examples of `lengths` real tokens ([CLS] and [SEP] count): int64 [B].

    max(1, min(limit, p * length rounded half to even)), in float32 as the original program computes it.
    """
    wanted = np.rint(lengths.astype(np.float32) * np.float32(mask_probability)).astype(np.int64)
    return np.clip(wanted, 1, max(1, limit))


def candidate_positions(input_ids: np.ndarray, real: np.ndarray, special_ids: tuple[int, ...]) -> np.ndarray:
    """Positions that may be masked: real tokens other than [CLS], [SEP] and [MASK]; bool [B, T]."""
    return real & ~np.isin(input_ids, special_ids)


def choose_positions(candidates: np.ndarray, uniforms: np.ndarray, count: int, with_replacement: bool) -> np.ndarray:
    """`count` uniformly drawn candidate positions of each row, int64 [B, count].

    candidates bool [B, T]; uniforms float64 in [0, 1): [B, count] with replacement, [B, T] without. Without
    replacement a row that has fewer candidates is filled up with positions that are none: see `apply_mask`'s weights.
    """
    if with_replacement:
        total = candidates.sum(axis=1, keepdims=True)
        rank = np.floor(uniforms * total).astype(np.int64)  # [B, count], the rank of a candidate in its row
        # Candidates first, in order: position of the r-th candidate.
        order = np.argsort(~candidates, axis=1, kind="stable")
        return np.take_along_axis(order, np.minimum(rank, np.maximum(total - 1, 0)), axis=1)
    keys = np.where(candidates, uniforms, 2.0)
    chosen = np.argsort(keys, axis=1, kind="stable")[:, :count]
    if chosen.shape[1] < count:
        chosen = np.pad(chosen, ((0, 0), (0, count - chosen.shape[1])))
    return chosen


@dataclass(frozen=True)
class Masked:
    """Masked token ids [B, T], and the predicted positions, their true ids and weights (0 or 1), each [B, P]."""

    input_ids: np.ndarray
    positions: np.ndarray
    ids: np.ndarray
    weights: np.ndarray


def apply_mask(
    input_ids: np.ndarray, positions: np.ndarray, weights: np.ndarray, uniforms: np.ndarray, mask_id: int
) -> Masked:
    """Replaces the drawn positions by [MASK], but leaves each draw whose uniform is 0.85 or more as it is.

    input_ids [B, T]; positions int [B, P]; weights [B, P], 0 for draws that don't count; uniforms [B, P]. A draw that
    does not count gets position 0 and id 0. A position drawn twice is masked if either draw says so.
    """
    counted = weights > 0
    positions = np.where(counted, positions, 0)
    ids = np.where(counted, np.take_along_axis(input_ids, positions, axis=1), 0)
    rows, columns = np.nonzero(counted & (uniforms < _MASKED))
    masked = input_ids.copy()
    masked[rows, positions[rows, columns]] = mask_id
    return Masked(masked, positions, ids, counted.astype(np.float32))


def uniforms(seed: int, epochs: np.ndarray, indices: np.ndarray, count: int) -> np.ndarray:
    """`count` uniform numbers in [0, 1) an example, a pure function of (seed, epoch, index): float64 [B, count].

    SplitMix64 in counter mode (Steele, Lea and Flood, 2014).
    """
    with np.errstate(over="ignore"):
        key = _mix(np.uint64(seed % 2**64) + _GAMMA)
        key = _mix(key ^ epochs.astype(np.uint64) * _GAMMA)
        key = _mix(key ^ indices.astype(np.uint64) * _GAMMA)  # [B]
        counter = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA  # [count]
        bits = _mix(key[:, None] + counter)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


_GAMMA = np.uint64(0x9E3779B97F4A7C15)


def _mix(value: np.ndarray) -> np.ndarray:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


class MaskingCollator:
    """Pads examples and masks them: the batch that `ElectraForPreTraining` takes.

    An example is a dict of `input_ids` (unpadded), `first_length`, `epoch` and `index`. `masking="electra"` draws
    positions with replacement as the original does, so that some are drawn twice; "without_replacement" predicts every
    chosen position once. Batches are as wide as their longest example, or `max_length` with `pad_to_max_length`.
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
        pad_to_max_length: bool = False,
    ) -> None:
        if masking not in MASKINGS:
            raise ValueError(f"masking must be one of {', '.join(MASKINGS)}, not {masking!r}")
        self.predictions = max_predictions(max_length, mask_probability)
        if self.predictions < 1:
            raise ValueError(f"max_length {max_length} leaves no room for a prediction at {mask_probability:.1%}")
        self._pad_id, self._mask_id = pad_id, mask_id
        self._special_ids = (cls_id, sep_id, mask_id)
        self._max_length, self._pad_to_max_length = max_length, pad_to_max_length
        self._seed, self._mask_probability = seed, mask_probability
        self._with_replacement = masking == "electra"

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        """All int64: input_ids, original_input_ids, attention_mask, token_type_ids [B, T], masked_lm_positions and
        masked_lm_ids [B, P]; masked_lm_weights float32 [B, P]."""
        lengths = np.array([len(example["input_ids"]) for example in examples])
        firsts = np.array([example["first_length"] for example in examples])
        width = self._max_length if self._pad_to_max_length else int(lengths.max())
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
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def _mask(self, input_ids: np.ndarray, real: np.ndarray, epochs: np.ndarray, indices: np.ndarray) -> Masked:
        draws = self.predictions
        candidates = candidate_positions(input_ids, real, self._special_ids)
        # Drawn for the longest example, so that an example's masks don't depend on its neighbours' lengths.
        numbers = uniforms(self._seed, epochs, indices, draws + max(draws, self._max_length))
        keep, place = numbers[:, :draws], numbers[:, draws:]
        place = place[:, :draws] if self._with_replacement else place[:, : input_ids.shape[1]]
        positions = choose_positions(candidates, place, draws, self._with_replacement)
        counts = prediction_counts(real.sum(axis=1), draws, self._mask_probability)
        available = candidates.sum(axis=1)
        counts = np.where(available > 0, counts, 0) if self._with_replacement else np.minimum(counts, available)
        weights = np.arange(draws) < counts[:, None]  # [B, P]
        return apply_mask(input_ids, positions, weights, keep, self._mask_id)
