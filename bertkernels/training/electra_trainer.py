"""The Trainer of ELECTRA pairs: dynamic masks by epoch and example, and their metrics in the log."""

import datasets
import torch
from torch.utils.data import Dataset

from bertkernels.training.pretraining_metrics import averages, batch_sums
from bertkernels.training.resumable_trainer import ResumableTrainer


class PretrainingSet(Dataset):
    """Packed examples by (epoch, index): what `MaskingCollator` takes."""

    def __init__(self, examples: datasets.Dataset) -> None:
        self._examples = examples.with_format("numpy")

    def __len__(self) -> int:
        return len(self._examples)

    def __getitems__(self, keys: list[tuple[int, int]]) -> list[dict]:
        columns = self._examples[[index for _, index in keys]]
        rows = zip(keys, columns["input_ids"], columns["first_length"], strict=True)
        return [
            {"input_ids": ids, "first_length": first, "epoch": epoch, "index": index}
            for (epoch, index), ids, first in rows
        ]

    def __getitem__(self, key: tuple[int, int]) -> dict:
        return self.__getitems__([key])[0]


class ElectraTrainer(ResumableTrainer):
    """Trains an `ElectraForPreTraining`; logs both losses and how well each network does since the last log line."""

    samples_with_epoch = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.args.remove_unused_columns = False  # the collator needs the examples' epoch and index

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch: torch.Tensor | None = None):
        outputs = model(**inputs)
        self._sums.add(batch_sums(outputs, inputs))
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        return averages(sums)
