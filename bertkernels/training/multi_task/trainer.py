"""The Trainer of several tasks at once."""

from collections.abc import Mapping

import torch
from torch.utils.data import DataLoader
from transformers import EvalPrediction

from bertkernels.training.distillation.trainers import DistillationTrainer
from bertkernels.training.finetune import TaskData
from bertkernels.training.multi_task.batches import TASK, TaskCollator, TaskRows
from bertkernels.training.multi_task.model import MultiTaskModel
from bertkernels.training.tasks.task import Split

AVERAGE = "average"  # over the tasks, of each one's main metric
_LOSS, _BATCHES = "loss", "batches"  # summed up for each task


class MultiTaskTrainer(DistillationTrainer):
    """Trains a `MultiTaskModel`, and evaluates each task as fine-tuning does.

    The metrics of a task's only split are called `eval_TASK_METRIC`, those of several `eval_TASK_SPLIT_METRIC`; the
    mean of all tasks' main scores is `eval_average`. The log has each task's loss beside that of all.

    Args:
        tasks: all of one kind, by name; each has rows to evaluate.
    """

    model: MultiTaskModel

    def __init__(self, *args, tasks: Mapping[str, TaskData], **kwargs) -> None:
        self._tasks = dict(tasks)
        self._task_of = {split: name for name, data in tasks.items() for split in named_splits(name, data)}
        rows = TaskRows({name: data.train.features for name, data in tasks.items()})
        first = next(iter(tasks.values()))
        splits = {split: rows for name, data in tasks.items() for split, rows in named_splits(name, data).items()}
        super().__init__(
            *args,
            task=first.task,
            train_dataset=rows,
            evaluation=splits,
            data_collator=first.task.collator(first.tokenizer, first.length, False),
            processing_class=first.tokenizer,
            **kwargs,
        )

    def get_train_dataloader(self) -> DataLoader:
        features = {
            name: self._remove_unused_columns(data.train.features, description="training")
            for name, data in self._tasks.items()
        }
        rows = TaskRows(features)
        return self._order.task_batches(rows, rows.sizes, TaskCollator(self.data_collator), self.accelerator.device)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        task = inputs.get(TASK)
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if task is not None:
            one = torch.ones((), device=loss.device)
            self._sums.add({f"{task} {_LOSS}": outputs.loss.detach(), f"{task} {_BATCHES}": one})
        return (loss, outputs) if return_outputs else loss

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        """The losses of the tasks that had a batch, beside those of the kinds."""
        of_tasks = {
            f"{task}_loss": (sums[f"{task} {_LOSS}"] / sums[f"{task} {_BATCHES}"]).item()
            for task in self._tasks
            if f"{task} {_LOSS}" in sums
        }
        return super().interval_averages(sums) | of_tasks

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        if isinstance(eval_dataset, str):  # transformers asks for one split after the other
            self.model.task = self._task_of[eval_dataset]
        metrics = super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)
        if eval_dataset is None:
            mean = {f"eval_{AVERAGE}": average(self._tasks, metrics)}
            self.log(dict(mean))
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, mean)
            metrics |= mean
        return metrics

    def _metrics(self, outputs: EvalPrediction) -> dict[str, float]:
        self._task = self._tasks[self.model.task].task
        return super()._metrics(outputs)


def named_splits(name: str, data: TaskData) -> dict[str, Split]:
    """A task's evaluation splits, by names that tell them from other tasks'."""
    several = len(data.evaluation) > 1
    return {f"{name}_{split}" if several else name: rows for split, rows in data.evaluation.items()}


def task_scores(tasks: Mapping[str, TaskData], metrics: Mapping[str, float]) -> dict[str, float]:
    """Each task's main score."""
    found = {}
    for name, data in tasks.items():
        scores = [metrics[f"eval_{split}_{data.task.metric}"] for split in named_splits(name, data)]
        found[name] = sum(scores) / len(scores)
    return found


def average(tasks: Mapping[str, TaskData], metrics: Mapping[str, float]) -> float:
    """The mean of all tasks' main scores."""
    scores = task_scores(tasks, metrics)
    return sum(scores.values()) / len(scores)
