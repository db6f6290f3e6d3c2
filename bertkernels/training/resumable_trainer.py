"""A Trainer that resumes exactly, and whose checkpoints are there whole or not at all."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate.data_loader import DataLoaderShard
from safetensors import SafetensorError
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import TrainerState

from bertkernels.data.lengths import example_lengths
from bertkernels.errors import InputError, OutputError
from bertkernels.training.bert_adam import BertAdam
from bertkernels.training.checkpoints import STATE_FILE, checkpoints, publish
from bertkernels.training.graphed_steps import GraphedSteps
from bertkernels.training.parameter_groups import parameter_groups
from bertkernels.training.running_sums import RunningSums
from bertkernels.training.sampler import EpochSampler, LengthGroupedSampler, TokenBudgetBatches
from bertkernels.training.schedules import bert_schedule
from bertkernels.training.stop_signal import EXIT_CODE, StopSignal
from bertkernels.training.throughput import Stopwatch, batch_tokens, peak_rate, training_operations
from bertkernels.training.train_log import TrainLog

_ITEMS = "num_items_in_batch"


class ResumableTrainer(Trainer):
    """transformers' Trainer with three changes; BERT's optimizer and schedule, rates by depth, and steps as CUDA graphs
    where the arguments ask for them.

    Logged beside the loss: real tokens a second of all processes, the share of padding, and the operations a second of
    the model's products, also as a share of what the hardware can do (`mfu`).
    Data order depends on seed and epoch alone. A checkpoint is written to a temporary name and renamed when complete.
    The logged loss is the mean since the last log line even where a checkpoint and a resume fall in between; it is
    never filtered: a loss that is not a number is logged as such. The log is also written as JSON lines.
    """

    samples_with_epoch = False  # whether the training set's keys are (epoch, index)

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._sums = RunningSums(self.accelerator)
        self._sampler: EpochSampler | TokenBudgetBatches | None = None
        self._staging: str | None = None
        self._graphed = GraphedSteps(self.args.device) if getattr(self.args, "cuda_graphs", False) else None
        self._watch, self._throughput = Stopwatch(), None
        self._untimed_tokens = 0.0  # those since the last log line that an earlier process trained on
        self._stop = StopSignal()
        self.add_callback(self._stop)
        self.add_callback(_SetEpoch(self))
        self.add_callback(TrainLog())

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        """As `Trainer.train`; takes the folder of a checkpoint."""
        if resume_from_checkpoint is not None:
            self._sums.load(resume_from_checkpoint)
            self._untimed_tokens = self._sums.total().get("tokens", torch.zeros(())).item()
        self._watch.resume()
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

    def start_epoch(self, epoch: int) -> None:
        """Tells the data order which epoch begins."""
        if self._sampler is not None:
            self._sampler.epoch = epoch

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        if self._throughput is None:
            self._throughput = self._measure_work(model, inputs)
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

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        """What to log of the sums since the last log line, beside the loss."""
        return {}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            sums = self._sums.total()
            steps = self.state.global_step - self._sums.first_step
            logs["loss"] = sums["loss"].item() / (steps * self.accelerator.num_processes)
            logs.update(self.interval_averages(sums))
            logs.update(self._speed(sums))
            self._sums.reset(self.state.global_step)
        super().log(logs, start_time)

    def _maybe_log_save_evaluate(self, *arguments, **named) -> None:
        self._watch.pause()
        super()._maybe_log_save_evaluate(*arguments, **named)
        self._watch.resume()

    def _measure_work(self, model, inputs) -> "_Work":
        """What the first batch says about all: operations a real token, and the rate that the hardware allows."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:  # no process has the whole model
            return _Work(None, None)
        inputs = self._prepare_inputs(inputs)
        tokens = batch_tokens(inputs).get("tokens")
        if tokens is None:
            return _Work(None, None)
        whole, sums = self.accelerator.unwrap_model(model, keep_torch_compile=False), self._sums
        self._sums = RunningSums(self.accelerator)  # this pass is not of the run
        try:
            with self.compute_loss_context_manager():
                operations = training_operations(lambda: self.compute_loss(whole, dict(inputs)), self.args.device)
        finally:
            self._sums = sums
        args = self.args
        dtype = torch.bfloat16 if args.bf16 else torch.float16 if args.fp16 else torch.float32
        self._watch.reset()
        return _Work(operations / max(tokens.item(), 1.0), peak_rate(args.device, dtype))

    def _speed(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        seconds = self._watch.read()
        self._watch.reset()
        if "tokens" not in sums or seconds <= 0:
            return {}
        tokens, positions = sums["tokens"].item(), sums["positions"].item()
        found = {"padding_share": 1 - tokens / positions}
        tokens, self._untimed_tokens = tokens - self._untimed_tokens, 0.0
        found["tokens_per_second"] = tokens / seconds
        work = self._throughput
        if work is not None and work.per_token:
            rate = work.per_token * tokens / seconds  # of all processes
            found["tflops"] = rate / 1e12
            found["mfu"] = rate / (work.peak * self.accelerator.num_processes)
        return found

    def create_optimizer(self, *arguments, **named) -> torch.optim.Optimizer:
        if self.optimizer is None:
            model = next(iter((*arguments, *named.values())), None) or self.model
            cls, settings = self.get_optimizer_cls_and_kwargs(self.args, model)
            if self.args.optimizer == "bert_adam":
                args = self.args
                cls, settings = BertAdam, {"betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
                settings["lr"] = args.learning_rate
            if self.args.layerwise_lr_decay is not None:
                decayed = self.get_decay_parameter_names(model)
                rates = (self.args.learning_rate, self.args.weight_decay, self.args.layerwise_lr_decay)
                settings["params"] = parameter_groups(model, decayed, *rates)
            self.optimizer_cls_and_kwargs = cls, settings
        return super().create_optimizer(*arguments, **named)

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None):
        if self.lr_scheduler is None and self.args.bert_schedule:
            warmup = self.args.get_warmup_steps(num_training_steps)
            scheduled = self.optimizer if optimizer is None else optimizer
            steps = self.args.lr_decay_steps or num_training_steps
            self.lr_scheduler = bert_schedule(scheduled, steps, warmup, self.args.lr_decay_power)
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def example_lengths(self) -> np.ndarray:
        """Tokens in each training example: int64 [N]."""
        return example_lengths(self.train_dataset)

    def get_train_dataloader(self) -> DataLoader:
        if self.args.tokens_per_batch is None:
            return super().get_train_dataloader()
        args = self.args
        steps = args.world_size * args.gradient_accumulation_steps
        shares = {"multiple": steps, "process": args.process_index, "processes": args.world_size}
        try:
            self._sampler = TokenBudgetBatches(
                self.example_lengths(),
                args.tokens_per_batch,
                self._data_seed,
                **shares,
                with_epoch=self.samples_with_epoch,
            )
        except ValueError as error:
            raise InputError(f"--tokens_per_batch {args.tokens_per_batch}: {error}") from error
        dataset, collator = self.train_dataset, self.data_collator
        if isinstance(dataset, datasets.Dataset):
            dataset = self._remove_unused_columns(dataset, description="training")
        return DataLoaderShard(  # what accelerate makes of a loader, without its own sharding
            dataset,
            batch_sampler=self._sampler,
            collate_fn=collator,
            device=self.accelerator.device,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            persistent_workers=args.dataloader_persistent_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    @property
    def _data_seed(self) -> int:
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def _get_train_sampler(self, train_dataset=None):
        dataset = self.train_dataset if train_dataset is None else train_dataset
        strategy = self.args.train_sampling_strategy
        if strategy == "random":
            self._sampler = EpochSampler(len(dataset), self._data_seed, self.samples_with_epoch)
        elif strategy == "group_by_length":
            args = self.args
            batch = args.train_batch_size * args.world_size * args.gradient_accumulation_steps
            lengths = self.example_lengths()
            self._sampler = LengthGroupedSampler(lengths, batch, self._data_seed, self.samples_with_epoch)
        else:
            return super()._get_train_sampler(dataset)
        return self._sampler

    def _get_output_dir(self, trial) -> str:
        return self._staging or super()._get_output_dir(trial)

    def _save_checkpoint(self, model, trial) -> None:
        run = Path(self._get_output_dir(trial))
        name = f"checkpoint-{self.state.global_step}"
        self._staging = str(run / f".writing-{name}")
        if self.args.should_save:
            shutil.rmtree(self._staging, ignore_errors=True)  # what a killed run left
        self.accelerator.wait_for_everyone()
        try:
            super()._save_checkpoint(model, trial)
            self._sums.save(Path(self._staging, name))
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                self._publish(Path(self._staging, name), run / name)
        except (OSError, RuntimeError, SafetensorError) as error:  # safetensors and torch wrap a full disk's error
            shutil.rmtree(self._staging, ignore_errors=True)
            whole = checkpoints(run)
            kept = f"the last whole one is {whole[-1].name}" if whole else "there is no earlier one"
            reason = " ".join(str(error).split())
            raise OutputError(f"{run / name} could not be written ({reason}); {kept}") from error
        finally:
            self._staging = None
        self.accelerator.wait_for_everyone()

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

    def _publish(self, written: Path, checkpoint: Path) -> None:
        if self.state.best_model_checkpoint == str(written):
            self.state.best_model_checkpoint = str(checkpoint)
            self.state.save_to_json(str(written / STATE_FILE))
        publish(written, checkpoint)
        written.parent.rmdir()
        limit = self.args.save_total_limit
        if limit:
            best = self.state.best_model_checkpoint
            old = [path for path in checkpoints(checkpoint.parent) if path != checkpoint and str(path) != best]
            kept = 1 + (best is not None and best != str(checkpoint))
            for path in old[: len(old) - max(limit - kept, 0)]:
                shutil.rmtree(path)


@dataclass(frozen=True)
class _Work:
    """Operations of the products for one real token in training, and the most operations a second of one process."""

    per_token: float | None
    peak: float | None


class _SetEpoch(TrainerCallback):
    """accelerate tells a sampler its epoch on some paths only; this does on all."""

    def __init__(self, trainer: ResumableTrainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args, state: TrainerState, control, **kwargs) -> None:
        self._trainer.start_epoch(int(state.epoch or 0))
