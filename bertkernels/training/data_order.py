"""The order in which a run trains on its examples, and each process's share of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from accelerate.data_loader import DataLoaderShard
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from bertkernels.errors import InputError
from bertkernels.training.multi_task.batches import TaskBatches
from bertkernels.training.sampler import EpochSampler, LengthGroupedSampler, TokenBudgetBatches

if TYPE_CHECKING:
    from bertkernels.training.training_arguments import RunArguments


class DataOrder(TrainerCallback):
    """Makes the sampler that a run's arguments ask for, and tells it of every epoch that begins.

    accelerate tells a sampler its epoch on some paths only.
    """

    def __init__(self, args: RunArguments, with_epoch: bool) -> None:
        """`with_epoch`: whether the training set's keys are (epoch, index)."""
        self._args, self._with_epoch = args, with_epoch
        self._seed = args.seed if args.data_seed is None else args.data_seed
        self._sampler: EpochSampler | TokenBudgetBatches | TaskBatches | None = None

    def sampler(self, size: int, lengths: Callable[[], np.ndarray]) -> EpochSampler | None:
        """The order of `size` examples, of which the processes take batches in turns.

        None where the strategy is one of transformers' own. `lengths` gives int64 [size]: tokens in each example.
        """
        args = self._args
        if args.train_sampling_strategy == "random":
            self._sampler = EpochSampler(size, self._seed, self._with_epoch)
        elif args.train_sampling_strategy == "group_by_length":
            batch = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
            self._sampler = LengthGroupedSampler(lengths(), batch, self._seed, self._with_epoch)
        else:
            return None
        return self._sampler

    def token_batches(
        self, dataset: Dataset, lengths: np.ndarray, collator: Callable, device: torch.device
    ) -> DataLoader:
        """This process's batches of at most `tokens_per_batch` real tokens.

        Raises InputError where so many are too few for the longest example, or too many for the text.
        """
        args = self._args
        try:
            self._sampler = TokenBudgetBatches(
                lengths,
                args.tokens_per_batch,
                self._seed,
                multiple=args.world_size * args.gradient_accumulation_steps,
                process=args.process_index,
                processes=args.world_size,
                with_epoch=self._with_epoch,
            )
        except ValueError as error:
            raise InputError(f"--tokens_per_batch {args.tokens_per_batch}: {error}") from error
        return self._loader(dataset, collator, device)

    def task_batches(
        self, dataset: Dataset, sizes: Sequence[int], collator: Callable, device: torch.device
    ) -> DataLoader:
        """This process's share of batches of one task each, of tasks with so many rows; see `TaskBatches`."""
        args = self._args
        self._sampler = TaskBatches(
            sizes,
            args.train_batch_size * args.world_size,
            self._seed,
            args.dataloader_drop_last,
            args.process_index,
            args.world_size,
        )
        return self._loader(dataset, collator, device)

    def _loader(self, dataset: Dataset, collator: Callable, device: torch.device) -> DataLoader:
        args = self._args
        return DataLoaderShard(  # what accelerate makes of a loader, without its own sharding
            dataset,
            batch_sampler=self._sampler,
            collate_fn=collator,
            device=device,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def on_epoch_begin(self, args, state: TrainerState, control, **kwargs) -> None:
        if self._sampler is not None:
            self._sampler.epoch = int(state.epoch or 0)
