"""Loads folders that hold models of ours, whole or one part of them."""

import copy
import json
from pathlib import Path

from transformers import PreTrainedConfig, PreTrainedModel

from bertkernels.errors import InputError

from ..configuration import EncoderConfig
from ..electra import ElectraConfig, ElectraForPreTraining
from ..encoder import EncoderModel
from ..next_sentence import EncoderForMaskedLMAndNextSentence
from .from_huggingface import MODEL_CLASSES
from .load import build_empty, check_weights, fill, weight_shapes
from .weight_files import read_weights

_CONFIGS: dict[str, type[PreTrainedConfig]] = {config.model_type: config for config in (EncoderConfig, ElectraConfig)}
OUR_MODEL_TYPES = tuple(_CONFIGS)
_CLASSES = {
    model.__name__: model
    for model in (*MODEL_CLASSES.values(), EncoderForMaskedLMAndNextSentence, ElectraForPreTraining)
}


def load_ours(folder: Path, part: str | None = None) -> PreTrainedModel:
    """The model in a folder of ours.

    Args:
        folder: as `save_pretrained` writes it.
        part: None: the whole; "encoder": without its head; of a pre-training pair "generator" or "discriminator"
            ("encoder" is the discriminator's).

    Raises:
        InputError: files missing or damaged, weights that do not fit, or a part that the model does not have.
    """
    content = json.loads((folder / "config.json").read_text())
    architecture = (content.get("architectures") or [EncoderModel.__name__])[0]
    if architecture not in _CLASSES:
        raise InputError(f"{folder / 'config.json'} names the unknown architecture {architecture!r}")
    config = _CONFIGS[content["model_type"]].from_pretrained(folder)
    model = build_empty(_CLASSES[architecture], config)
    # of tied weights, a file may have either name or both
    tied = model.all_tied_weights_keys
    weights = {name: weight for name, weight in read_weights(folder).items() if name not in tied}
    check_weights(weight_shapes(model), {name: tuple(weight.shape) for name, weight in weights.items()}, str(folder))
    return _part(fill(model, weights), part)


def _part(model: PreTrainedModel, part: str | None) -> PreTrainedModel:
    if part is None:
        return model
    if isinstance(model, ElectraForPreTraining):
        if part in ("generator", "discriminator"):
            return getattr(model, part)
        if part == "encoder":
            return _part(model.discriminator, "encoder")
        if part == "pretraining":
            return model
    elif part == "encoder" and hasattr(model, "model"):
        encoder = model.model
        if encoder.pooler is None and encoder.config.pooler:
            encoder.config = copy.deepcopy(encoder.config)
            encoder.config.pooler = False  # the head went without it
        return encoder
    elif isinstance(model, MODEL_CLASSES.get(part, ())):
        return model
    raise InputError(f"a {type(model).__name__} has no part {part!r}")
