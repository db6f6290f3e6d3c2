"""The order of training examples, a function of seed and epoch alone."""

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class EpochSampler(Sampler):
    """A fresh random order each epoch that does not touch any shared random state, so that a resumed run repeats it.

    Set `epoch` before iterating. With `with_epoch` it yields (epoch, index) pairs, for data sets that make something
    else of an example each time: a pair reaches loader workers however long they live.
    """

    def __init__(self, size: int, seed: int, with_epoch: bool = False) -> None:
        self.size, self.seed, self.with_epoch = size, seed, with_epoch
        self.epoch = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
        order = torch.randperm(self.size, generator=generator).tolist()
        return iter([(self.epoch, index) for index in order] if self.with_epoch else order)
