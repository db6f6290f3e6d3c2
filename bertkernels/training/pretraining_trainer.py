"""What the pre-training trainers share: examples by epoch, so that masks can differ from epoch to epoch."""

from collections.abc import Iterator

import datasets
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from bertkernels.data.lengths import example_lengths
from bertkernels.training.resumable_trainer import ResumableTrainer
from bertkernels.training.running_sums import RunningSums
from bertkernels.training.supernet_steps import SupernetSteps

_NO_EXAMPLE = -1  # an index: an empty example, which takes part in nothing
_EMPTY = {"input_ids": np.zeros(0, dtype=np.int64), "first_length": 0}
_COLUMNS = ("input_ids", "first_length", "next_sentence_label")


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
        found = self._examples[[max(index, 0) for _, index in keys]]
        columns = {name: found[name] for name in _COLUMNS if name in found}
        return [
            {
                **({name: column[row] for name, column in columns.items()} if index != _NO_EXAMPLE else _EMPTY),
                "epoch": epoch,
                "index": index,
            }
            for row, (epoch, index) in enumerate(keys)
        ]

    def __getitem__(self, key: tuple[int, int]) -> dict:
        return self.__getitems__([key])[0]


class _InOrder(Sampler):
    """The keys of all examples of a `PretrainingSet`, always with the masks of epoch 0.

    Empty examples make their number a multiple of `multiple`: accelerate would have some counted twice to give all
    processes the same number of batches.
    """

    def __init__(self, size: int, multiple: int) -> None:
        self._size, self._filled = size, -(-size // multiple) * multiple

    def __len__(self) -> int:
        return self._filled

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((0, index if index < self._size else _NO_EXAMPLE) for index in range(self._filled))


class PretrainingTrainer(ResumableTrainer):
    """Trains and evaluates on `PretrainingSet`s with a `MaskingCollator`.

    An evaluation draws the same masks and samples every time, and leaves training's random state as it was. With
    `supernet` each step trains one path.
    """

    samples_with_epoch = True

    def __init__(self, *args, supernet: SupernetSteps | None = None, **kwargs) -> None:
        if supernet is not None:  # the first: others see the step's path
            kwargs["callbacks"] = [supernet, *(kwargs.get("callbacks") or [])]
        super().__init__(*args, **kwargs)
        self.args.remove_unused_columns = False  # the collator needs the examples' epoch and index
        self._supernet = supernet
        if supernet is not None:
            self._speed.measured = True  # the operations of one path say nothing of the next

    def example_lengths(self) -> np.ndarray:
        return self.train_dataset.lengths()

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self._supernet is not None and self.accelerator.sync_gradients:
            self._supernet.average_gradients(model)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if self._supernet is not None and "loss" in logs:
            logs.update(self._supernet.extremes())
        super().log(logs, start_time)

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
        sums = self._sums.total()
        for name, value in {"loss": self.mean_loss(sums), **self.interval_averages(sums)}.items():
            output.metrics[f"{metric_key_prefix}_{name}"] = value
        return output

    def mean_loss(self, sums: dict[str, torch.Tensor]) -> float:
        """The loss over all that was summed up, each part a mean over its tokens or examples."""
        raise NotImplementedError

    def _get_eval_sampler(self, eval_dataset) -> Sampler:
        several = self.args.world_size > 1
        return _InOrder(len(eval_dataset), self.args.eval_batch_size * self.args.world_size if several else 1)
