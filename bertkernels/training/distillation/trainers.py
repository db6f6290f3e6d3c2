"""The Trainers of distillation: those of fine-tuning and pre-training around a `DistillationModel`."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers.utils import find_labels

from bertkernels.training.distillation.collators import TeacherColumns
from bertkernels.training.distillation.model import TEACHER_PREFIX, DistillationModel, DistillationOutput
from bertkernels.training.distillation.prediction_loss import OUTPUTS
from bertkernels.training.distillation.projection import PROJECTION_FILE
from bertkernels.training.finetuning_trainer import FinetuningTrainer
from bertkernels.training.pretraining_trainer import PretrainingTrainer
from bertkernels.training.resumable_trainer import ResumableTrainer

_LOSSES = [name for name in DistillationOutput.__dataclass_fields__ if name != "loss"]


class _Distilling(ResumableTrainer):
    """Logs each loss, and writes the student alone, with the projection beside it.

    Checkpoints hold both in one file: what a run needs to go on.
    """

    model: DistillationModel

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        for teacher in self.model.teachers:
            teacher.to(self.args.device)
        self._speed.measured = True  # the operations of student and teacher together say nothing of either

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if output_dir is not None:
            return super().save_model(output_dir, _internal_call)
        if self.args.should_save:
            model = self.accelerator.unwrap_model(self.model)
            for name, student in model.students.items():
                folder = Path(self.args.output_dir, name)
                student.save_pretrained(folder)
                self.processing_class.save_pretrained(folder)
                (folder / PROJECTION_FILE).unlink(missing_ok=True)
                if model.projection is not None:
                    save_file(
                        {name: x.contiguous() for name, x in model.projection.state_dict().items()},
                        folder / PROJECTION_FILE,
                    )

    def _add(self, outputs: DistillationOutput, weight: float | torch.Tensor = 1.0) -> None:
        found = {name: outputs[name] * weight for name in _LOSSES if name in outputs}
        self._sums.add({**found, "distilled": torch.as_tensor(weight)})

    def interval_averages(self, sums: dict[str, torch.Tensor]) -> dict[str, float]:
        count = sums["distilled"].item()
        return {name: (sums[name] / count).item() for name in _LOSSES if name in sums}


class DistillationTrainer(_Distilling, FinetuningTrainer):
    """Trains the student of a `DistillationModel` on a task, and evaluates it as fine-tuning does."""

    def __init__(self, *args, **kwargs) -> None:
        kwargs["data_collator"] = TeacherColumns(kwargs["data_collator"])
        if kwargs["args"].label_names is None:
            kwargs["args"].label_names = find_labels(type(kwargs["model"].student))
        super().__init__(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, True, num_items_in_batch)
        if self.model.training:
            self._add(outputs)
        return (loss, outputs) if return_outputs else loss

    def _set_signature_columns_if_needed(self) -> None:
        if self._signature_columns is None:
            whole, self.model = self.model, self.model.student
            super()._set_signature_columns_if_needed()
            self.model = whole
            self._signature_columns += [TEACHER_PREFIX + name for name in OUTPUTS]


class GeneralDistillationTrainer(_Distilling, PretrainingTrainer):
    """Trains the student of a `DistillationModel` on text, and evaluates its losses there."""

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs, distil=True)
        tokens = inputs["attention_mask"].sum()
        self._add(outputs, tokens)
        self._sums.add({"evaluated_loss": outputs.loss.detach() * tokens})
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def mean_loss(self, sums: dict[str, torch.Tensor]) -> float:
        return (sums["evaluated_loss"] / sums["distilled"]).item()
