"""The teacher: a fine-tuned model of this package's or of Hugging Face's, which is converted, or an encoder alone."""

import copy
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from torch import nn
from transformers import PreTrainedModel

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.convert.from_huggingface import MODEL_CLASSES, from_huggingface, read_model_type
from bertkernels.models.convert.huggingface_names import MODEL_TYPES
from bertkernels.models.convert.ours import load_ours
from bertkernels.models.supernet import is_supernet
from bertkernels.training.finetuning_model import finetuned_model
from bertkernels.training.tasks.task import FinetuningTask

_FILES = ["*.json", "*.safetensors", "vocab.txt"]  # of a model on the hub
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def model_folder(name_or_path: str, flag: str) -> str:
    """The folder, or this machine's copy of a model on the hub. Raises InputError where there is neither."""
    if Path(name_or_path).exists():
        return name_or_path
    try:
        return snapshot_download(name_or_path, allow_patterns=_FILES)
    except (OSError, ValueError, HfHubHTTPError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"{flag} {name_or_path} is no folder, and the hub has no such model for us: {reason}"
        ) from None


def load_encoder(folder: str, flag: str) -> PreTrainedModel:
    """The encoder in a folder of ours or Hugging Face's, without its head. Raises InputError where there is none."""
    encoder = (
        from_huggingface(folder, "encoder") if is_huggingface(folder, flag) else load_ours(Path(folder), "encoder")
    )
    if is_supernet(encoder):
        raise InputError(f"{flag} {folder} is a supernet: `bertkernels search` makes an encoder of one of its plans")
    return encoder


def load_with_head(folder: str, task: FinetuningTask, flag: str) -> PreTrainedModel:
    """The model with the task's head in a folder of ours or Hugging Face's. Raises InputError where it has none."""
    if not is_huggingface(folder, flag):
        return finetuned_model(task.auto_model, folder)
    wanted = task.auto_model._model_mapping[EncoderConfig]
    part = next(part for part, model in MODEL_CLASSES.items() if model is wanted)
    return from_huggingface(folder, part)


def is_huggingface(folder: str, flag: str) -> bool:
    """Whether a folder holds a model of Hugging Face's that can be converted. Raises InputError where it holds none."""
    if not Path(folder, "config.json").is_file():
        raise InputError(f"{flag} {folder} is no folder of a model: there is no config.json")
    return read_model_type(Path(folder)) in MODEL_TYPES


def match_labels(teacher: PreTrainedModel, task: FinetuningTask, label_scale: float) -> None:
    """Has the teacher's head say labels in the task's order, and numbers in the student's scale.

    Args:
        label_scale: the student learns numbers divided by this.

    Raises:
        InputError: the teacher knows other labels.
    """
    labels = getattr(task, "labels", None)
    theirs = copy.copy(task)
    if labels is None:
        if hasattr(task, "labels"):
            theirs.adopt(teacher.config)
            _rescale(teacher.classifier.output, getattr(teacher.config, "label_scale", 1.0) / label_scale)
        return
    try:
        theirs.adopt(teacher.config)
    except InputError as error:
        raise InputError(f"the teacher is of another task: {error}") from None
    if sorted(theirs.labels) != sorted(labels):
        raise InputError(
            f"the teacher is of another task: it knows {', '.join(theirs.labels)}, {task.name} has {', '.join(labels)}"
        )
    _reorder(teacher.classifier.output, [theirs.labels.index(label) for label in labels])


@torch.no_grad()
def _reorder(layer: nn.Linear, order: list[int]) -> None:
    for weight in (layer.weight, layer.bias):
        weight.copy_(weight[order].clone())


@torch.no_grad()
def _rescale(layer: nn.Linear, factor: float) -> None:
    for weight in (layer.weight, layer.bias):
        weight.mul_(factor)
