"""Batches of one task each: which task comes when, and with which of its rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import datasets
import numpy as np
from torch.utils.data import Dataset, Sampler

TASK = "task"  # of a batch: its task's name


class TaskRows(Dataset):
    """The rows of several tasks, by (number of the task, row): pairs of the task's name and the row's features."""

    def __init__(self, features: Mapping[str, datasets.Dataset]) -> None:
        self._names, self._features = list(features), list(features.values())

    @property
    def sizes(self) -> list[int]:
        return [len(features) for features in self._features]

    def __len__(self) -> int:
        return sum(self.sizes)

    def __getitem__(self, key: tuple[int, int]) -> tuple[str, dict]:
        task, row = key
        return self._names[task], self._features[task][row]


class TaskCollator:
    """A collator around pairs of `TaskRows`, all of one task: the batch names it."""

    def __init__(self, collator: Callable) -> None:
        self._collator = collator

    def __call__(self, rows: Sequence[tuple[str, dict]]) -> dict[str, object]:
        return {**self._collator([features for _, features in rows]), TASK: rows[0][0]}


class TaskBatches(Sampler):
    """All rows of all tasks once an epoch, in batches of one task each: one process's share of them.

    Each epoch shuffles every task's rows, cuts them into batches (a task's last may be smaller), and shuffles the
    batches of all tasks. So the next batch's task is drawn with chances by the batches that each still has. It is a
    function of seed and epoch alone. All processes have the same task at the same time, each other rows of it.

    Set `epoch` before iterating.

    Args:
        sizes: rows of each task.
        batch_size: of all processes together.
        drop_last: leave smaller batches out.
        process, processes: whose share of each batch this is; one with fewer rows than processes begins again.

    Source: the released program of EfficientBERT (Dong et al. 2021) draws batches like that, but always cuts a task's
    rows into the same ones.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        seed: int,
        drop_last: bool = False,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self._sizes, self._batch_size, self._seed = list(sizes), batch_size, seed
        self._process, self._processes = process, processes
        self._batches = [size // batch_size if drop_last else -(-size // batch_size) for size in sizes]
        self.epoch = 0

    def __len__(self) -> int:
        return sum(self._batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        rng = np.random.default_rng((self._seed, self.epoch))
        orders = [rng.permutation(size) for size in self._sizes]
        drawn = rng.permutation(np.repeat(np.arange(len(self._sizes)), self._batches))  # the task of each batch
        done = [0] * len(self._sizes)
        for task in drawn.tolist():
            rows = orders[task][done[task] : done[task] + self._batch_size]
            done[task] += self._batch_size
            rows = np.resize(rows, max(len(rows), self._processes))
            yield [(task, row) for row in rows[self._process :: self._processes].tolist()]
