"""Reads what `--config` may name beside a TensorFlow checkpoint: the original program's own descriptions of a model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertkernels.errors import InputError


@dataclass(frozen=True)
class Known:
    """A value and who gave it."""

    value: Any
    origin: str


@dataclass(frozen=True)
class KnownSizes:
    """What is known of the encoder (ELECTRA's discriminator) and of the generator, by the names below."""

    encoder: dict[str, Known] = field(default_factory=dict)
    generator: dict[str, Known] = field(default_factory=dict)


# the released programs' names and Hugging Face's → ours
_FIELDS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "embedding_size": "embedding_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_act": "hidden_act",
    "hidden_dropout_prob": "hidden_dropout_prob",
    "attention_probs_dropout_prob": "attention_probs_dropout_prob",
    "max_position_embeddings": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "layer_norm_eps",
    "head_ratio": "head_ratio",
    "conv_kernel_size": "conv_kernel_size",
    "linear_groups": "groups",
    "num_groups": "groups",
    "conv_type": "conv_type",
    "custom_layer_list": "custom_layer_list",
}
_WHOLE = {
    "vocab_size",
    "hidden_size",
    "embedding_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "conv_kernel_size",
    "groups",
}
_FORMS = (
    'an object with "bert_config", with "discriminator_bert_config", with "model_size", or the sizes themselves '
    '("hidden_size", "num_attention_heads", …)'
)
# model_size in the hyperparameters of the released ELECTRA, ConvBERT and LV-BERT programs
_RELEASED_SIZES = {
    "small": {"hidden_size": 256, "embedding_size": 128, "num_attention_heads": 4, "intermediate_size": 1024},
    "medium-small": {"hidden_size": 384, "embedding_size": 128, "num_attention_heads": 8, "intermediate_size": 1536},
    "medium": {"hidden_size": 384, "embedding_size": 128, "num_attention_heads": 6, "intermediate_size": 1536},
    "base": {"hidden_size": 768, "embedding_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "large": {"hidden_size": 1024, "embedding_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096},
}
_RELEASED_LAYERS = {"large": 24}
_ORDER = "custom_layer_list"  # LV-BERT's sub-layers, two to a layer
_CONVBERT_ONLY = {"conv_type", "conv_kernel_size", "head_ratio", "linear_groups"}


def read_known_sizes(path: str | Path) -> KnownSizes:
    """Reads a JSON file in one of the forms that the released programs and Hugging Face use.

    Raises:
        InputError: the file is missing, is no JSON, is in no known form or has a value of the wrong kind.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"the configuration {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"the configuration {path} is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"the configuration {path} must be {_FORMS}")
    if "bert_config" in content:
        encoder, generator = _objects(path, content, "bert_config", "generator_config")
        shared = {"embedding_size": content.get("embedding_size")}
        encoder = encoder | _given({_ORDER: content.get(_ORDER)})
    elif "discriminator_bert_config" in content:
        encoder, generator = _objects(path, content, "discriminator_bert_config", "generator_bert_config")
        asked = content.get("pretraining_kwargs") or content.get("resolved") or {}
        shared = {"embedding_size": asked.get("embedding_size")}
        encoder = encoder | _given({_ORDER: asked.get(_ORDER)})
    elif "model_size" in content or "model_hparam_overrides" in content:
        encoder, generator = _from_hyperparameters(path, content)
        shared = {}
    elif "hidden_size" in content or "num_attention_heads" in content:
        encoder, generator, shared = content, {}, {}
    else:
        raise InputError(f"the configuration {path} must be {_FORMS}")
    return KnownSizes(_known(path, encoder | _given(shared)), _known(path, generator | _given(shared)))


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _objects(path: Path, content: dict, *names: str) -> list[dict]:
    found = [content.get(name) or {} for name in names]
    for name, value in zip(names, found, strict=True):
        if not isinstance(value, dict):
            raise InputError(f"{name} in {path} must be an object")
    return found


def _from_hyperparameters(path: Path, content: dict) -> tuple[dict, dict]:
    """The sizes that `--hparams` of the released programs stand for; what it does not say stays unknown."""
    size = content.get("model_size")
    if size is not None and size not in _RELEASED_SIZES:
        raise InputError(f"model_size in {path} must be one of {', '.join(_RELEASED_SIZES)}, got {size!r}")
    encoder = {"num_hidden_layers": _RELEASED_LAYERS.get(size, 12)} | _RELEASED_SIZES[size] if size else {}
    (overrides,) = _objects(path, content, "model_hparam_overrides")
    encoder |= _given({name: value for name, value in content.items() if name in _FIELDS}) | overrides
    if isinstance(content.get(_ORDER), list):
        encoder["num_hidden_layers"] = len(content[_ORDER]) // 2  # whatever else is said
    generator = {}
    heads, fraction = encoder.get("num_attention_heads"), content.get("generator_hidden_size")
    if isinstance(fraction, float) and fraction <= 1 and heads and encoder.get("hidden_size"):
        if _CONVBERT_ONLY & content.keys():
            generator["num_attention_heads"] = max(1, int(heads * fraction))
        else:  # ELECTRA gives its generator heads of 64 channels
            generator["num_attention_heads"] = max(1, int(round(encoder["hidden_size"] * fraction)) // 64)
    return encoder, generator


def _known(path: Path, values: Mapping[str, Any]) -> dict[str, Known]:
    known = {}
    for theirs, ours in _FIELDS.items():
        value = values.get(theirs)
        if value is None:
            continue
        if ours in _WHOLE:
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value) or value < 1:
                raise InputError(f"{theirs} in {path} must be a whole number from 1, got {value!r}")
            value = int(value)  # the released ConvBERT writes its generator's heads as 2.0
        if ours == _ORDER:
            value = _order(path, value)
        known[ours] = Known(value, str(path))
    return known


def _order(path: Path, value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(number) is int and 0 <= number <= 2 for number in value):
        raise InputError(f"{_ORDER} in {path} must be a list of 0, 1 and 2, got {value!r}")
    return tuple(value[: len(value) // 2 * 2])  # of an odd one the last is not built
