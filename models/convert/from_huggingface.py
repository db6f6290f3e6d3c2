"""Hugging Face's BERT, ELECTRA and ConvBERT as models of ours."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel

from bertkernels.errors import InputError

from ..configuration import EncoderConfig
from ..encoder import EncoderModel
from ..heads import EncoderForMaskedLM, EncoderForReplacedTokenDetection, EncoderForSequenceClassification
from ..multiple_choice import EncoderForMultipleChoice
from ..question_answering import EncoderForQuestionAnswering
from ..token_classification import EncoderForTokenClassification
from .conversion import Conversion
from .huggingface_names import MODEL_TYPES, PARTS, POOLED, model_names
from .load import build_empty, check_weights, fill, shorten, weight_shapes
from .theseus import SUCCESSOR, half_of, successor_layers
from .weight_files import read_weights

MODEL_CLASSES: dict[str, type[PreTrainedModel]] = {
    "encoder": EncoderModel,
    "masked_lm": EncoderForMaskedLM,
    "discriminator": EncoderForReplacedTokenDetection,
    "classifier": EncoderForSequenceClassification,
    "token_classifier": EncoderForTokenClassification,
    "question_answering": EncoderForQuestionAnswering,
    "multiple_choice": EncoderForMultipleChoice,
}
_COMMON_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "classifier_dropout",
)
_BUFFERS = re.compile(r"embeddings\.(position_ids|token_type_ids)")
_TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "generator_lm_head.weight": "embeddings.word_embeddings.weight",
}
# modules that are no part of some heads, and how notes call them
_OTHER_MODULES = {
    "pooler.": "pooler",
    "cls.predictions.": "masked language model's head",
    "cls.seq_relationship.": "next-sentence head",
    "generator_predictions.": "masked language model's head",
    "generator_lm_head.": "masked language model's head",
    "discriminator_predictions.": "replaced-token head",
    "classifier.": "classification head",
    "qa_outputs.": "question-answering head",
    "sequence_summary.": "multiple-choice head",
}


def from_huggingface(folder: str | Path, part: str | None = None, padding: str | None = None) -> PreTrainedModel:
    """The model in a Hugging Face folder as one of ours; see `convert_huggingface`."""
    return convert_huggingface(folder, part, padding).model


def convert_huggingface(
    folder: str | Path, part: str | None = None, padding: str | None = None, half: str = SUCCESSOR
) -> Conversion:
    """Reads a folder with a `config.json` of model type bert, electra or convbert and its weights.

    Args:
        folder: as `save_pretrained` writes it; safetensors, or PyTorch's files without executing anything in them.
        part: "encoder", "masked_lm", "discriminator" (ELECTRA's head), "classifier", "token_classifier",
            "question_answering" (two logits a token) or "multiple_choice"; None: what the folder's `architectures`
            names, else the head that is there.
        padding: as EncoderConfig; None: "reference" for ConvBERT, where padding takes part in convolutions as in
            Hugging Face's, "exact" for the others, whose real tokens do not see padding either way.
        half: of a checkpoint of BERT-of-Theseus's released code, which holds both: "successor" or "predecessor".

    Raises:
        InputError: files missing or damaged; a model that ours cannot represent, with the reason; weights that are
            missing, unexpected or of a wrong shape, all listed.
    """
    folder = Path(folder)
    theirs = read_huggingface_config(folder)
    prefix = f"{theirs.model_type}."
    weights = {_plain_name(name, prefix): weight for name, weight in read_weights(folder).items()}
    notes: list[str] = []
    if layers := successor_layers(weights):
        left_layers = "its predecessor" if half == SUCCESSOR else f"its successor of {layers} layers"
        notes.append(f"a checkpoint of BERT-of-Theseus: left out is {left_layers}")
        weights = half_of(weights, half)
        theirs.num_hidden_layers = layers if half == SUCCESSOR else theirs.num_hidden_layers
    part = part or _part(theirs, weights, folder)
    if part not in PARTS:
        raise InputError(f"part must be one of {', '.join(PARTS)} for a Hugging Face folder, got {part!r}")
    config = _our_config(theirs, part, weights, padding, folder)
    weights = _without_buffers(weights, part, folder)

    names = model_names(theirs.model_type, part, config)
    ours_by_theirs = {weight.name.removeprefix(prefix): ours for ours, weight in names.items()}
    used_modules = {module for module in _OTHER_MODULES for name in ours_by_theirs if name.startswith(module)}
    found: dict[str, torch.Tensor] = {}
    left_out: dict[str, list[str]] = {}
    for name, weight in weights.items():
        ours = ours_by_theirs.get(name)
        module = next((module for module in _OTHER_MODULES if name.startswith(module)), None)
        if ours is not None:
            found[ours] = names[ours].to_ours(weight)
        elif module is not None and module not in used_modules:
            left_out.setdefault(_OTHER_MODULES[module], []).append(name)
        else:
            found[name] = weight
    model = build_empty(MODEL_CLASSES[part], config)
    check_weights(
        weight_shapes(model),
        {name: tuple(weight.shape) for name, weight in found.items()},
        str(folder),
        foreign=lambda name: names[name].name if name in names else name,
    )
    dtypes = {weight.dtype for weight in found.values()}
    dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
    fill(model, {name: weight.to(dtype).contiguous() for name, weight in found.items()})
    return Conversion(model, [*notes, *(f"left out: {what} ({shorten(left)})" for what, left in left_out.items())])


def read_huggingface_config(folder: Path) -> PreTrainedConfig:
    """Their configuration; InputError where there is none or it is of another model type."""
    model_type = read_model_type(folder)
    if model_type not in MODEL_TYPES:
        raise InputError(
            f"{folder / 'config.json'} is of model_type {model_type!r}; can be converted: {', '.join(MODEL_TYPES)}"
        )
    try:
        return CONFIG_MAPPING[model_type].from_pretrained(folder)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise InputError(f"{folder / 'config.json'}: {' '.join(str(error).split())}") from error


def read_model_type(folder: Path) -> str | None:
    """`model_type` in the folder's `config.json`; InputError where the file cannot be read."""
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    return content.get("model_type") if isinstance(content, dict) else None


def _plain_name(name: str, prefix: str) -> str:
    """Without the model's prefix, which bare models lack; older files call a LayerNorm's weights gamma and beta."""
    name = name.removeprefix(prefix)
    return re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))


def _part(theirs: PreTrainedConfig, weights: Mapping[str, torch.Tensor], folder: Path) -> str:
    architecture = (theirs.architectures or [None])[0]
    if architecture is None:
        for part, module in (
            ("masked_lm", "generator_predictions."),
            ("masked_lm", "cls.predictions."),
            ("discriminator", "discriminator_predictions."),
            ("classifier", "classifier."),
        ):
            if any(name.startswith(module) for name in weights):
                return part
        return "encoder"
    for ending, part in (
        ("ForMaskedLM", "masked_lm"),
        ("ForPreTraining", "masked_lm" if theirs.model_type == "bert" else "discriminator"),
        ("ForSequenceClassification", "classifier"),
        ("ForTokenClassification", "token_classifier"),
        ("ForQuestionAnswering", "question_answering"),
        ("ForMultipleChoice", "multiple_choice"),
        ("Model", "encoder"),
    ):
        if architecture.endswith(ending) and not architecture.endswith("LMHeadModel"):
            return part
    raise InputError(
        f"{folder} holds a {architecture}, whose head has no counterpart; --part encoder converts the rest"
    )


def _our_config(
    theirs: PreTrainedConfig, part: str, weights: Mapping[str, torch.Tensor], padding: str | None, folder: Path
) -> EncoderConfig:
    for name, wanted in (("is_decoder", False), ("add_cross_attention", False)):
        if getattr(theirs, name, wanted) != wanted:
            raise InputError(f"{folder} has {name}=true: only encoders can be converted")
    if getattr(theirs, "position_embedding_type", "absolute") != "absolute":
        raise InputError(
            f"{folder} has {theirs.position_embedding_type!r} position embeddings; only absolute ones can be converted"
        )
    if part == "masked_lm":
        if not theirs.tie_word_embeddings:
            raise InputError(f"{folder} predicts with output embeddings of its own (tie_word_embeddings=false)")
        if theirs.model_type != "bert" and theirs.hidden_act != "gelu":
            raise InputError(f"{folder} has hidden_act {theirs.hidden_act!r} in its layers but gelu in its head")
    fields = {name: getattr(theirs, name) for name in _COMMON_FIELDS}
    if theirs.model_type == "convbert":
        fields |= _convbert_fields(theirs, folder)
    else:
        fields["plan"] = f"{theirs.num_hidden_layers}*(attention ffn)"
    if theirs.model_type != "bert":
        fields["embedding_size"] = theirs.embedding_size
    if part in ("classifier", "token_classifier"):
        fields |= {"id2label": theirs.id2label, "label2id": theirs.label2id, "problem_type": theirs.problem_type}
    if part == "classifier":
        hidden_act = {"bert": None, "electra": "gelu", "convbert": theirs.hidden_act}
        fields["classifier_hidden_act"] = hidden_act[theirs.model_type]
    if part == "question_answering":
        fields |= {"qa_head": "plain", "answerable_classifier": False}
    if part == "multiple_choice":
        fields["classifier_hidden_act"] = _summary_activation(theirs, folder)
    if theirs.model_type == "bert":
        pooled = part in POOLED
        fields["pooler"] = pooled and (part != "encoder" or any(name.startswith("pooler.") for name in weights))
    fields["padding"] = padding or ("reference" if theirs.model_type == "convbert" else "exact")
    try:
        return EncoderConfig(**fields)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from None


def _summary_activation(theirs: PreTrainedConfig, folder: Path) -> str | None:
    """classifier_hidden_act of a multiple-choice head: ELECTRA has a hidden layer there, BERT its pooler before it."""
    if theirs.model_type == "bert":
        return None
    if theirs.model_type == "convbert":
        raise InputError(
            f"{folder}: Hugging Face's ConvBERT reads a choice off its last position, padding included, which ours do "
            "not; --part encoder converts the rest"
        )
    if (theirs.summary_type, theirs.summary_use_proj) != ("first", True):
        raise InputError(f"{folder}: only summary_type 'first' with summary_use_proj can be converted")
    return theirs.summary_activation


def _convbert_fields(theirs: PreTrainedConfig, folder: Path) -> dict[str, object]:
    """Their heads in our terms: theirs always share hidden_size, half of it for attention, whatever head_ratio is."""
    heads = max(1, theirs.num_attention_heads // theirs.head_ratio)
    if theirs.hidden_size % (2 * heads):
        raise InputError(
            f"{folder}: {heads} attention heads and {heads} convolution heads do not share hidden_size "
            f"{theirs.hidden_size} evenly, and Hugging Face's class cannot run such a model"
        )
    if theirs.conv_kernel_size % 2 == 0:
        raise InputError(
            f"{folder}: Hugging Face's class cannot run an even conv_kernel_size {theirs.conv_kernel_size}"
        )
    groups = f"[groups={theirs.num_groups}]" if theirs.num_groups > 1 else ""
    return {
        "num_attention_heads": 2 * heads,
        "head_ratio": 2,
        "conv_kernel_size": theirs.conv_kernel_size,
        "plan": f"{theirs.num_hidden_layers}*(mixed ffn{groups})",
    }


def _without_buffers(weights: dict[str, torch.Tensor], part: str, folder: Path) -> dict[str, torch.Tensor]:
    """Without what is computed or tied: position numbers, and output embeddings, which must be the word embeddings."""
    kept = {name: weight for name, weight in weights.items() if not _BUFFERS.fullmatch(name)}
    if part != "masked_lm":
        return kept
    for name, source in _TIED.items():
        tied, original = kept.pop(name, None), kept.get(source)
        if tied is not None and original is not None and not torch.equal(tied, original):
            raise InputError(f"{folder}: {name} differs from {source}, which it is tied to (tie_word_embeddings)")
    return kept
