"""Dynamic masking for ELECTRA and masked-LM pre-training: which positions are predicted, and what stands there.

Source: ELECTRA (Clark et al., 2020), section 3.1, and BERT (Devlin et al., 2019), section 3.1; their released code.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Masking:
    """How positions are drawn, and the shares of them that become [MASK] or a random token; the others stay."""

    with_replacement: bool
    masked: float
    random: float = 0.0


# A random token is any of the vocabulary, as in BERT.
MASKINGS = {
    "without_replacement": Masking(with_replacement=False, masked=0.85),
    "electra": Masking(with_replacement=True, masked=0.85),
    "bert": Masking(with_replacement=False, masked=0.8, random=0.1),
}
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
    input_ids: np.ndarray,
    positions: np.ndarray,
    weights: np.ndarray,
    uniforms: np.ndarray,
    mask_id: int,
    *,
    masked: float = 0.85,
    random: float = 0.0,
    random_ids: np.ndarray | None = None,
) -> Masked:
    """Replaces the drawn positions by [MASK] where their uniform is below `masked`, by their random id where it is
    below `masked + random`, and leaves the others as they are.

    input_ids [B, T]; positions int [B, P]; weights [B, P], 0 for draws that don't count; uniforms and random_ids
    [B, P]. A draw that does not count gets position 0 and id 0. A position drawn twice is masked if either draw says
    so.
    """
    counted = weights > 0
    positions = np.where(counted, positions, 0)
    ids = np.where(counted, np.take_along_axis(input_ids, positions, axis=1), 0)
    rows, columns = np.nonzero(counted & (uniforms < masked + random))
    written = np.full(rows.shape, mask_id, dtype=input_ids.dtype)
    if random_ids is not None:
        written = np.where(uniforms[rows, columns] < masked, written, random_ids[rows, columns])
    changed = input_ids.copy()
    changed[rows, positions[rows, columns]] = written
    return Masked(changed, positions, ids, counted.astype(np.float32))


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
