"""Evaluation and prediction of a task's splits, each with its own rows at hand."""

from collections.abc import Mapping

from transformers import EvalPrediction

from bertkernels.training.resumable_trainer import ResumableTrainer
from bertkernels.training.tasks.task import FinetuningTask, Split


class FinetuningTrainer(ResumableTrainer):
    """`ResumableTrainer` that evaluates splits of a `FinetuningTask` by name: on its own, all of them.

    Metrics of the only split are called `eval_METRIC`, those of several `eval_SPLIT_METRIC`. `evaluated` holds the
    outputs of each split's last evaluation.
    The loss is the mean over the batch, or the sum over the batch of all processes and accumulated steps.
    """

    def __init__(self, *args, task: FinetuningTask, evaluation: Mapping[str, Split], **kwargs) -> None:
        self._task, self._splits = task, dict(evaluation)
        self._current: str | None = None
        self.evaluated: dict[str, EvalPrediction] = {}
        features = {name: split.features for name, split in evaluation.items()}
        only = next(iter(features.values())) if len(features) == 1 else features or None
        super().__init__(*args, eval_dataset=only, compute_metrics=self._metrics if features else None, **kwargs)
        if self.args.loss_reduction == "sum":
            self.model_accepts_loss_kwargs = False  # losses come as means, so the Trainer divides as for those

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix: str = "eval") -> dict[str, float]:
        if len(self._splits) == 1:
            self._current = next(iter(self._splits))
        elif isinstance(eval_dataset, str):  # transformers asks for one split after the other
            self._current = eval_dataset
        return super().evaluate(eval_dataset, ignore_keys, metric_key_prefix)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if not self.model.training or self.args.loss_reduction == "mean":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        rows = len(inputs["input_ids"])
        loss, outputs = super().compute_loss(model, inputs, True, None)  # the mean over this batch
        # The Trainer divides by the accumulated steps, and gradients are averaged over processes.
        loss = loss * (rows * self.current_gradient_accumulation_steps * self.accelerator.num_processes)
        return (loss, outputs) if return_outputs else loss

    def outputs(self, split: Split) -> EvalPrediction:
        """The model's outputs for a split, in its order."""
        self._current = None
        found = self.predict(split.features)
        return EvalPrediction(predictions=found.predictions, label_ids=found.label_ids)

    def _metrics(self, outputs: EvalPrediction) -> dict[str, float]:
        if self._current is None:
            return {}
        self.evaluated[self._current] = outputs
        return self._task.metrics(self._splits[self._current], outputs)
