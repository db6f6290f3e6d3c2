"""What the pre-training trainers share: examples by epoch, so that masks can differ from epoch to epoch."""

from collections.abc import Iterator

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from bertkernels.data.lengths import example_lengths
from bertkernels.training.resumable_trainer import ResumableTrainer
from bertkernels.training.running_sums import RunningSums


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


class _InOrder(Sampler):
    """The keys of all examples of a `PretrainingSet`, always with the masks of epoch 0."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((0, index) for index in range(self._size))


class PretrainingTrainer(ResumableTrainer):
    """Trains and evaluates on `PretrainingSet`s with a `MaskingCollator`.

    An evaluation draws the same masks and samples every time, and leaves training's random state as it was.
    """

    samples_with_epoch = True

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.args.remove_unused_columns = False  # the collator needs the examples' epoch and index

    def example_lengths(self) -> np.ndarray:
        return self.train_dataset.lengths()

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        training, self._sums = self._sums, RunningSums(self.accelerator)
        device = self.args.device
        try:
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.manual_seed(self.args.seed)
                return super().evaluate(*args, **kwargs)
        finally:
            self._sums = training

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, self._prepare_inputs(inputs))
        return loss.detach(), None, None  # no logits: what is wanted of them is in the sums

    def evaluation_loop(
        self, dataloader, description, prediction_loss_only=None, ignore_keys=None, metric_key_prefix="eval"
    ):
        output = super().evaluation_loop(dataloader, description, True, ignore_keys, metric_key_prefix)
        for name, value in self.interval_averages(self._sums.total()).items():
            output.metrics[f"{metric_key_prefix}_{name}"] = value
        return output

    def _get_eval_sampler(self, eval_dataset) -> Sampler:
        return _InOrder(len(eval_dataset))
