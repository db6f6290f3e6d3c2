"""A Trainer that resumes exactly, and whose checkpoints are there whole or not at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer import FSDP_MODEL_NAME

from bertkernels.data.lengths import example_lengths
from bertkernels.errors import InputError
from bertkernels.training.checkpoint_writing import remove_old, staged
from bertkernels.training.checkpoints import STATE_FILE
from bertkernels.training.data_order import DataOrder
from bertkernels.training.graphed_steps import GraphedSteps
from bertkernels.training.optimizer import optimizer_settings, schedule
from bertkernels.training.process_group import leave_at_exit
from bertkernels.training.running_sums import RunningSums
from bertkernels.training.sharding import let_cpus_shard, load_whole
from bertkernels.training.speed_log import SpeedLog
from bertkernels.training.stop_signal import EXIT_CODE, StopSignal
from bertkernels.training.throughput import batch_tokens
from bertkernels.training.train_log import TrainLog

_ITEMS = "num_items_in_batch"


class ResumableTrainer(Trainer):
    """transformers' Trainer with three changes; BERT's optimizer and schedule, rates by depth, batches by tokens, and
    steps as CUDA graphs where the arguments ask for them.

    Data order depends on seed and epoch alone (`DataOrder`). A checkpoint is written to a temporary name and renamed
    when complete (`staged`). The logged loss is the mean since the last log line even where a checkpoint and a resume
    fall in between (`RunningSums`); it is never filtered: a loss that is not a number is logged as such. Beside it
    stands how fast the run trains (`SpeedLog`). The log is also written as JSON lines (`TrainLog`).
    """

    samples_with_epoch = False  # whether the training set's keys are (epoch, index)

    def __init__(self, *args, **kwargs) -> None:
        leave_at_exit()
        super().__init__(*args, **kwargs)
        self._sums = RunningSums(self.accelerator)
        self._order = DataOrder(self.args, self.samples_with_epoch)
        self._speed = SpeedLog(self.args)
        self._staging: str | None = None
        self._graphed = GraphedSteps(self.args.device) if getattr(self.args, "cuda_graphs", False) else None
        self._stop = StopSignal()
        for callback in (self._stop, self._order, TrainLog()):
            self.add_callback(callback)

    def create_accelerator_and_postprocess(self) -> None:
        if self.args.fsdp:
            let_cpus_shard()
        super().create_accelerator_and_postprocess()

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        """As `Trainer.train`; takes the folder of a checkpoint."""
        if resume_from_checkpoint is not None:
            self._sums.load(resume_from_checkpoint)
            self._speed.leave_out(self._sums.total().get("tokens", torch.zeros(())).item())
        self._speed.resume()
        with self._stop:
            result = super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)
        if self._stop.stopped:
            if self.is_world_process_zero():
                where = f"{self.args.output_dir}, step {self.state.global_step}"
                print(
                    f"stopped by SIGTERM; a checkpoint is in {where}: go on with --resume_from_checkpoint", flush=True
                )
            raise SystemExit(EXIT_CODE)
        return result

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        if not self._speed.measured and not self.is_deepspeed_enabled:  # whose processes have parts of the model only
            self._measure_work(model, inputs)
        if self._graphed is None:
            loss = super().training_step(model, inputs, num_items_in_batch)
        else:
            loss = self._graphed_step(model, inputs, num_items_in_batch)
        tokens = {name: value.to(loss.device) for name, value in batch_tokens(inputs).items()}
        self._sums.add({"loss": loss, **tokens})  # its share of the step's loss, where gradients are accumulated
        return loss

    def _graphed_step(self, model, inputs, num_items_in_batch) -> torch.Tensor:
        inputs = dict(self._prepare_inputs(inputs))
        if num_items_in_batch is not None:
            inputs[_ITEMS] = torch.as_tensor(num_items_in_batch, device=self.args.device)
        accumulated = self.current_gradient_accumulation_steps  # the loss is divided by it

        def step(inputs: dict[str, torch.Tensor], sums: RunningSums) -> torch.Tensor:
            inputs, outer = dict(inputs), self._sums
            items = inputs.pop(_ITEMS, None)
            self._sums = sums  # what compute_loss adds to
            try:
                return super(ResumableTrainer, self).training_step(model, inputs, items)
            finally:
                self._sums = outer

        return self._graphed.run(step, model, inputs, self._sums, variant=accumulated)

    def _measure_work(self, model, inputs) -> None:
        """Tells the speed log of a pass over the first batch, which is not of the run."""
        inputs = self._prepare_inputs(inputs)
        eager = self.accelerator.unwrap_model(model, keep_torch_compile=False)
        sums, self._sums = self._sums, RunningSums(self.accelerator)
        try:
            with self.compute_loss_context_manager():
                self._speed.measure(lambda: self.compute_loss(eager, dict(inputs)), batch_tokens(inputs))
        finally:
            self._sums = sums

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        """What to log of the sums since the last log line, beside the loss."""
        return {}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            sums = self._sums.total()
            steps = self.state.global_step - self._sums.first_step
            logs["loss"] = sums["loss"].item() / (steps * self.accelerator.num_processes)
            logs.update(self.interval_averages(sums))
            logs.update(self._speed.read(sums))
            self._sums.reset(self.state.global_step)
        super().log(logs, start_time)

    def _maybe_log_save_evaluate(self, *arguments, **named) -> None:
        self._speed.pause()
        super()._maybe_log_save_evaluate(*arguments, **named)
        self._speed.resume()

    def create_optimizer(self, *arguments, **named) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = next(iter((*arguments, *named.values())), None) or self.model
            chosen = self.get_optimizer_cls_and_kwargs(self.args, model)
            decayed = self.get_decay_parameter_names(model)
            self.optimizer_cls_and_kwargs = optimizer_settings(self.args, model, decayed, chosen)
        return super().create_optimizer(*arguments, **named)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.lr_scheduler is None:
            scheduled = self.optimizer if optimizer is None else optimizer
            self.lr_scheduler = schedule(self.args, scheduled, num_training_steps)
            self._created_lr_scheduler = self.lr_scheduler is not None
        return super().create_scheduler(num_training_steps, optimizer)

    def example_lengths(self) -> np.ndarray:
        """Tokens in each training example: int64 [N]."""
        return example_lengths(self.train_dataset)

    def get_train_dataloader(self) -> DataLoader:
        if self.args.tokens_per_batch is None:
            return super().get_train_dataloader()
        dataset = self.train_dataset
        if isinstance(dataset, datasets.Dataset):
            dataset = self._remove_unused_columns(dataset, description="training")
        return self._order.token_batches(dataset, self.example_lengths(), self.data_collator, self.accelerator.device)

    def get_eval_dataloader(self, eval_dataset=None) -> DataLoader:
        with self._all_rows():
            return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset) -> DataLoader:
        with self._all_rows():
            return super().get_test_dataloader(test_dataset)

    @contextlib.contextmanager
    def _all_rows(self) -> Iterator[None]:
        """transformers leaves the last batch of evaluations and predictions out too where training does."""
        asked, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            yield
        finally:
            self.args.dataloader_drop_last = asked

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        ours = self._order.sampler(len(dataset), self.example_lengths)
        return super()._get_train_sampler(dataset) if ours is None else ours

    def _get_output_dir(self, trial) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial) -> None:
        checkpoint = Path(self._get_output_dir(trial), f"checkpoint-{self.state.global_step}")
        with staged(checkpoint, self.accelerator, self.args.should_save) as staging:
            self._staging = str(staging)
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._staging = None
            written = staging / checkpoint.name
            self._sums.save(written)
            if self.state.best_model_checkpoint == str(written):
                self.state.best_model_checkpoint = str(checkpoint)
                if self.args.should_save:
                    self.state.save_to_json(str(written / STATE_FILE))
        if self.args.should_save:
            remove_old(checkpoint, self.state.best_model_checkpoint, self.args.save_total_limit)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        whole = Path(resume_from_checkpoint, f"{FSDP_MODEL_NAME}.bin")
        if not (self.is_fsdp_enabled and self.accelerator.is_fsdp2 and whole.is_file()):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        weights = torch.load(whole, weights_only=True) if self.accelerator.is_main_process else {}
        self._issue_warnings_after_load(load_whole(self.model if model is None else model, weights))

    def _issue_warnings_after_load(self, load_result) -> None:
        """A checkpoint must hold every weight; one that is shared stands there under one of its names only."""
        weights = dict(self.model.named_parameters(remove_duplicate=False))
        missing = set(load_result.missing_keys)
        loaded = {id(weight) for name, weight in weights.items() if name not in missing}
        lost = sorted(name for name in missing if id(weights.get(name)) not in loaded)
        if lost or load_result.unexpected_keys:
            raise InputError(
                f"the checkpoint does not fit the model: {len(lost)} weights are missing, "
                f"{len(load_result.unexpected_keys)} are unknown, such as {[*lost, *load_result.unexpected_keys][0]}"
            )
