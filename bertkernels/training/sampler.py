"""The order of training examples, a function of seed and epoch alone, so that a resumed run repeats it."""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Sampler

_POOL = 50  # batches among which examples are sorted by length


def epoch_order(size: int, seed: int, epoch: int) -> np.ndarray:
    """A random order of `size` examples, int64, that does not touch any shared random state."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(size, generator=generator).numpy()


class EpochSampler(Sampler):
    """A fresh random order each epoch.

    Set `epoch` before iterating. With `with_epoch` it yields (epoch, index) pairs, for data sets that make something
    else of an example each time: a pair reaches loader workers however long they live.
    """

    def __init__(self, size: int, seed: int, with_epoch: bool = False) -> None:
        self.size, self.seed, self.with_epoch = size, seed, with_epoch
        self.epoch = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator:
        order = self._order().tolist()
        return iter([(self.epoch, index) for index in order] if self.with_epoch else order)

    def _order(self) -> np.ndarray:
        return epoch_order(self.size, self.seed, self.epoch)


class LengthGroupedSampler(EpochSampler):
    """Random, but batches hold examples of about one length: of every 50 batches the longest come first.

    Args:
        lengths: int [N], tokens in each example.
        batch_size: of a whole step, all processes and accumulated batches together.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, with_epoch: bool = False) -> None:
        super().__init__(len(lengths), seed, with_epoch)
        self._lengths, self._pool = np.asarray(lengths), _POOL * batch_size

    def _order(self) -> np.ndarray:
        order = super()._order()
        for start in range(0, self.size, self._pool):
            pool = order[start : start + self._pool]
            order[start : start + self._pool] = pool[np.argsort(-self._lengths[pool], kind="stable")]
        return order


class TokenBudgetBatches(Sampler):
    """Random batches of at most so many real tokens, for encoders that run unpadded: one process's share.

    Every epoch has the same number of batches, a multiple of processes × accumulated batches, so that steps can be
    counted ahead and no process waits for another at an epoch's end. The examples, in the epoch's order, are cut into
    that many pieces of nearly equal numbers of tokens: an example goes where its middle token lies.

    Args:
        lengths: int [N], tokens in each example.
        tokens: the most in a batch.
        multiple: number of batches of which an epoch has a multiple.
        process, processes: whose share of each `processes` batches this is.

    Raises ValueError where the longest example takes more than half of `tokens`, and where there are too few tokens for
    `multiple` batches.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        tokens: int,
        seed: int,
        multiple: int = 1,
        process: int = 0,
        processes: int = 1,
        with_epoch: bool = False,
    ) -> None:
        self._lengths = np.asarray(lengths, dtype=np.int64)
        longest = int(self._lengths.max(initial=1))
        if 2 * longest > tokens:
            raise ValueError(f"{tokens} tokens a batch are fewer than twice the longest example's {longest}")
        # Half of the first and half of the last example may lie outside of a batch's piece.
        self.batches = -(-int(self._lengths.sum()) // (tokens - longest))
        self.batches = -(-self.batches // multiple) * multiple
        if self._lengths.sum() < self.batches * longest:  # a piece without the middle of any example would be empty
            raise ValueError(f"{int(self._lengths.sum())} tokens are too few for {self.batches} batches")
        self.seed, self.with_epoch = seed, with_epoch
        self._process, self._processes = process, processes
        self.epoch = 0

    def __len__(self) -> int:
        return self.batches // self._processes

    def __iter__(self) -> Iterator[list]:
        order = epoch_order(len(self._lengths), self.seed, self.epoch)
        ends = np.cumsum(self._lengths[order])
        middles = ends - self._lengths[order] / 2
        batch_of = np.minimum(middles * self.batches / ends[-1], self.batches - 1).astype(np.int64)
        starts = np.searchsorted(batch_of, np.arange(self.batches + 1))
        for batch in range(self._process, self.batches, self._processes):
            indices = order[starts[batch] : starts[batch + 1]].tolist()
            yield [(self.epoch, index) for index in indices] if self.with_epoch else indices
