"""The student: a pre-trained encoder, or one that starts from nothing or from parts of the teacher."""

from collections.abc import Callable, Sequence

import torch
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from bertkernels.data.tokenizer import model_vocab_size
from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.encoder import EncoderModel
from bertkernels.models.presets import preset
from bertkernels.models.supernet import is_supernet
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.distillation.model import encoder_of
from bertkernels.training.distillation.teacher import is_huggingface, load_encoder
from bertkernels.training.encoder_size_arguments import SIZE_FIELDS
from bertkernels.training.finetuning_model import encoder_folder, pretrained_model

_FLAG = "--model_name_or_path"


def student_model(
    arguments: DistillArguments,
    tokenizer: PreTrainedTokenizerBase,
    teacher: EncoderConfig | None,
    auto_model: type,
    configure: Callable[[PreTrainedConfig], None],
) -> PreTrainedModel:
    """The student with a head, as the flags describe it.

    Args:
        teacher: whose sizes a student without others has; None where the flags name one with weights.
        auto_model, configure: as `pretrained_model` takes them.

    Raises:
        InputError: no such model, or flags that make none.
    """
    if arguments.model_name_or_path is None:
        config = _fresh_config(arguments, tokenizer, teacher)
        configure(config)
        return auto_model.from_config(config)
    folder = encoder_folder(arguments.model_name_or_path)
    if auto_model is not AutoModel and not is_huggingface(folder, _FLAG):
        model = pretrained_model(auto_model, folder, configure, arguments.from_scratch)
        if is_supernet(model):
            raise InputError(
                f"{_FLAG} {folder} is a supernet: `bertkernels search` makes an encoder of one of its plans"
            )
        return model
    encoder = load_encoder(folder, _FLAG)
    config = encoder.config
    configure(config)
    model = auto_model.from_config(config)
    if not arguments.from_scratch:
        own = encoder_of(model).state_dict()
        encoder_of(model).load_state_dict({name: x for name, x in encoder.state_dict().items() if name in own})
    return model


def _fresh_config(
    arguments: DistillArguments, tokenizer: PreTrainedTokenizerBase, teacher: EncoderConfig
) -> EncoderConfig:
    changes = {name: getattr(arguments, name) for name in SIZE_FIELDS if getattr(arguments, name) is not None}
    changes |= {"vocab_size": model_vocab_size(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if arguments.preset is not None:
        return preset(arguments.preset, **changes)
    sizes = {name: getattr(teacher, name) for name in EncoderConfig.__annotations__ if name != "model_type"}
    if teacher.embedding_size == teacher.hidden_size:
        sizes["embedding_size"] = None  # as wide as the student
    return EncoderConfig(**sizes | {"padding": "exact", "supernet_kinds": None} | changes)


def start_from_teacher(student: EncoderModel, teacher: EncoderModel, blocks: Sequence[int | None]) -> None:
    """Gives the student the teacher's embeddings, pooler, and for each of its blocks the weights of the named one.

    Blocks without a number keep theirs. Raises InputError where a weight's shape is another, or where a block has other
    sub-layers.
    """
    own, theirs = student.state_dict(), teacher.state_dict()
    taken = {name: name for name in own if not name.startswith("encoder.")}
    for number, block in enumerate(blocks):
        if block is not None:
            prefix = f"encoder.blocks.{number}."
            inner = [name.removeprefix(prefix) for name in own if name.startswith(prefix)]
            taken |= {prefix + name: f"encoder.blocks.{block}.{name}" for name in inner}
    for name, source in taken.items():
        if source not in theirs:
            if name.startswith("pooler."):
                continue
            raise InputError(f"--init_from_teacher: the student has a weight {name}, the teacher no {source}")
        if own[name].shape != theirs[source].shape:
            found, wanted = list(own[name].shape), list(theirs[source].shape)
            raise InputError(f"--init_from_teacher: {name} is {found}, the teacher's {source} {wanted}")
        with torch.no_grad():
            own[name].copy_(theirs[source])
