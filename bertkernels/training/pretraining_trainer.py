"""What the pre-training trainers share: examples by epoch, so that masks can differ from epoch to epoch."""

import datasets
import numpy as np
from torch.utils.data import Dataset

from bertkernels.data.lengths import example_lengths
from bertkernels.training.resumable_trainer import ResumableTrainer


class PretrainingSet(Dataset):
    """Packed examples by (epoch, index): what `MaskingCollator` takes."""

    def __init__(self, examples: datasets.Dataset) -> None:
        self._examples = examples.with_format("numpy")

    def __len__(self) -> int:
        return len(self._examples)

    def lengths(self) -> np.ndarray:
        """Tokens in each example: int64 [N]."""
        return example_lengths(self._examples)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict]:
        columns = self._examples[[index for _, index in keys]]
        rows = zip(keys, columns["input_ids"], columns["first_length"], strict=True)
        return [
            {"input_ids": ids, "first_length": first, "epoch": epoch, "index": index}
            for (epoch, index), ids, first in rows
        ]

    def __getitem__(self, key: tuple[int, int]) -> dict:
        return self.__getitems__([key])[0]


class PretrainingTrainer(ResumableTrainer):
    """Trains on a `PretrainingSet` with a `MaskingCollator`."""

    samples_with_epoch = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.args.remove_unused_columns = False  # the collator needs the examples' epoch and index

    def example_lengths(self) -> np.ndarray:
        return self.train_dataset.lengths()
