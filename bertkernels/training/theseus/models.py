"""Predecessor and successor of a run."""

from dataclasses import dataclass
from pathlib import Path

from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from bertkernels.errors import InputError
from bertkernels.models.convert.from_huggingface import MODEL_CLASSES, convert_huggingface, read_model_type
from bertkernels.models.convert.huggingface_names import MODEL_TYPES
from bertkernels.models.convert.ours import OUR_MODEL_TYPES, load_ours
from bertkernels.models.convert.theseus import PREDECESSOR, SUCCESSOR, successor_layers
from bertkernels.models.convert.weight_files import read_weights
from bertkernels.models.module_map import ModuleMap, parse_module_map
from bertkernels.models.plan import parse_plan
from bertkernels.models.successor import FIRST, INITIALISATIONS, Successor, build_successor, replace_modules
from bertkernels.training.task_labels import check_labels
from bertkernels.training.tasks.task import FinetuningTask
from bertkernels.training.theseus.arguments import CLIP_ORIGINAL, TheseusArguments

_PARTS = {
    AutoModelForSequenceClassification: "classifier",
    AutoModelForTokenClassification: "token_classifier",
    AutoModelForQuestionAnswering: "question_answering",
    AutoModelForMultipleChoice: "multiple_choice",
}
_ENCODER, _EMBEDDINGS = "model.encoder.", ("model.embeddings.", "model.embeddings_projection.")


@dataclass
class Predecessor:
    """The model to compress, as one of ours, and its successor where its folder holds one already."""

    model: PreTrainedModel
    successor: PreTrainedModel | None = None


@dataclass
class Pair:
    """A successor in whose encoder the predecessor's blocks stand. `trained`: the names of weights that learn."""

    predecessor: PreTrainedModel
    successor: Successor
    module_map: ModuleMap
    trained: frozenset[str]

    @property
    def model(self) -> PreTrainedModel:
        return self.successor.model


def load_predecessor(folder: str, task: FinetuningTask, arguments: TheseusArguments) -> Predecessor:
    """The fine-tuned model in a folder of ours or Hugging Face's.

    Raises InputError where there is none, where it was not fine-tuned, or on another task.
    """
    found = Predecessor(_finetuned(folder, task))
    if read_model_type(Path(folder)) in MODEL_TYPES and successor_layers(read_weights(Path(folder))):
        found.successor = _load(folder, "encoder")
    check_labels(folder, found.model, task, arguments.label_scale)
    return found


def build_pair(found: Predecessor, arguments: TheseusArguments) -> Pair:
    """Predecessor and successor as the flags ask for, with random weights by torch's generator.

    Frozen weights are left without gradients, unless clipping needs those. Frozen embeddings are there once.
    """
    predecessor = found.model
    blocks = predecessor.config.num_hidden_layers
    init: str | PreTrainedModel = arguments.successor_init or FIRST
    text = arguments.successor_blocks
    if arguments.successor_init is None and found.successor is not None:
        init = found.successor
        text = text or str(init.config.num_hidden_layers)
    elif init not in INITIALISATIONS:
        if not Path(init).is_dir():
            raise InputError(f"--successor_init must be {', '.join(INITIALISATIONS)} or a folder, not {init!r}")
        init = _load(init, "encoder")
    if text is None:
        raise InputError(f"--successor_blocks is missing: how many modules, or which of the {blocks} blocks each is of")
    module_map = parse_module_map(text, blocks)
    plan = None if arguments.successor_plan is None else parse_plan(arguments.successor_plan)
    successor = build_successor(predecessor, module_map, plan, init)
    replace_modules(successor.model, predecessor, module_map)
    if not arguments.train_embeddings:
        successor.model.model.embeddings = predecessor.model.embeddings
        successor.model.model.embeddings_projection = predecessor.model.embeddings_projection
    trained = _trained(successor.model, arguments)
    gradients = arguments.clip == CLIP_ORIGINAL
    predecessor.requires_grad_(gradients)
    for name, parameter in successor.model.named_parameters():
        parameter.requires_grad_(gradients or name in trained)
    return Pair(predecessor, successor, module_map, trained)


def _trained(model: PreTrainedModel, arguments: TheseusArguments) -> frozenset[str]:
    names = [name for name, _ in model.named_parameters()]
    embeddings = [name for name in names if name.startswith(_EMBEDDINGS)]
    blocks = [name for name in names if name.startswith(_ENCODER)]
    head = set(names) - {*embeddings, *blocks}
    return frozenset(
        [*blocks, *(head if arguments.train_head else ()), *(embeddings if arguments.train_embeddings else ())]
    )


def _finetuned(folder: str, task: FinetuningTask) -> PreTrainedModel:
    """The model in the folder; of a checkpoint of the released code, the predecessor."""
    wanted = MODEL_CLASSES[_PARTS[task.auto_model]]
    model = _load(folder, half=PREDECESSOR)
    if type(model) is not wanted:
        raise InputError(
            f"{folder} was never fine-tuned on {task.name}: it holds a {type(model).__name__}, without the head of a "
            f"{wanted.__name__}; fine-tune it first (bertkernels finetune)"
        )
    if model.config.supernet_kinds is not None:
        raise InputError(f"{folder} holds a supernet: compress a model of one of its plans")
    model.config.architectures = [wanted.__name__]  # by which tasks know that its head is trained
    return model


def _load(folder: str, part: str | None = None, half: str = SUCCESSOR) -> PreTrainedModel:
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InputError(f"{folder} holds no model: there is no config.json (a folder is needed, not a hub name)")
    kind = read_model_type(path)
    if kind in MODEL_TYPES:
        return convert_huggingface(path, part, half=half).model.float()
    if kind in OUR_MODEL_TYPES:
        return load_ours(path, part).float()
    known = ", ".join((*MODEL_TYPES, *OUR_MODEL_TYPES))
    raise InputError(f"{folder} is of model_type {kind!r}; what can be compressed: {known}")
