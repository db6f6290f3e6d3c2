"""Whether a fine-tuned model's head is one for the task at hand."""

import copy
import json
from pathlib import Path

from transformers import PreTrainedModel

from bertkernels.errors import InputError
from bertkernels.training.tasks.task import FinetuningTask

_HEADS = ("qa_head", "answerable_classifier")  # fields of the configuration that make another head


def check_labels(folder: str, model: PreTrainedModel, task: FinetuningTask, label_scale: float) -> None:
    """A head that is taken as it is must mean what the task's labels say, in their order.

    Args:
        folder: the model's.
        label_scale: numbers are divided by this before they are learned.

    Raises:
        InputError: it means something else.
    """
    config = copy.deepcopy(model.config)
    task.configure(config)
    if config.num_labels != model.config.num_labels:
        raise InputError(
            f"{folder} predicts {model.config.num_labels} labels, {task.name} asks for {config.num_labels}"
        )
    for name in _HEADS:
        if hasattr(model.config, name) and getattr(config, name) != getattr(model.config, name):
            raise InputError(f"{folder} has {name} {getattr(model.config, name)}, not {getattr(config, name)}")
    theirs, ours = (
        [str(one.id2label[number]).lower() for number in range(one.num_labels)] for one in (model.config, config)
    )
    unnamed = [f"label_{number}" for number in range(len(theirs))]
    if theirs != ours and unnamed not in (theirs, ours):
        raise InputError(f"{folder} predicts {', '.join(theirs)}, {task.name} asks for {', '.join(ours)} in this order")
    if config.problem_type == "regression":
        learned = json.loads(Path(folder, "config.json").read_text(encoding="utf-8")).get("label_scale", 1.0)
        if learned != label_scale:
            raise InputError(
                f"{folder} learned labels divided by {learned:g}: give --label_scale {learned:g}, not {label_scale:g}"
            )
    task.configure(model.config)
