"""Batches for distillation: of text without masks, and of rows that come with what the teacher says of them."""

from collections.abc import Callable

import numpy as np
import torch

from bertkernels.training.distillation.model import TEACHER_PREFIX

_NOWHERE = -10_000.0  # a span's logit past the end of its sequence


class TeacherColumns:
    """A task's collator, around columns that begin with "teacher_": numbers a row, fp32 [B, N] of the longest."""

    def __init__(self, collator: Callable) -> None:
        self._collator = collator
        self.tokenizer = getattr(collator, "tokenizer", None)

    def __call__(self, features: list[dict]) -> dict[str, torch.Tensor]:
        names = [name for name in features[0] if name.startswith(TEACHER_PREFIX)]
        batch = self._collator(
            [{name: value for name, value in feature.items() if name not in names} for feature in features]
        )
        tokens = batch["input_ids"].shape[-1]
        for name in names:
            rows = [feature[name] for feature in features]
            width = len(rows[0]) if len(set(map(len, rows))) == 1 else tokens
            said = torch.full((len(rows), width), _NOWHERE)
            for row, numbers in zip(said, rows, strict=True):
                row[: len(numbers)] = torch.tensor(numbers)
            batch[name] = said
        return batch


class UnmaskedCollator:
    """Pads examples of a `PretrainingSet` as they are: input_ids, attention_mask and token_type_ids, int64 [B, T].

    An empty example (no ids) takes part in nothing: its row is all padding.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        lengths = np.array([len(example["input_ids"]) for example in examples])
        firsts = np.array([example["first_length"] for example in examples])
        place = np.arange(max(1, int(lengths.max())))
        real = place < lengths[:, None]  # [B, T]
        input_ids = np.full(real.shape, self._pad_id, dtype=np.int64)
        for row, example in zip(input_ids, examples, strict=True):
            row[: len(example["input_ids"])] = example["input_ids"]
        batch = {
            "input_ids": input_ids,
            "attention_mask": real.astype(np.int64),
            "token_type_ids": (real & (place >= firsts[:, None])).astype(np.int64),
        }
        return {name: torch.from_numpy(array) for name, array in batch.items()}
