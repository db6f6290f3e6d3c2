"""Models of ours as Hugging Face's BERT, ELECTRA and ConvBERT, where those can represent them."""

from pathlib import Path

from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    ConvBertConfig,
    ConvBertForMaskedLM,
    ConvBertForQuestionAnswering,
    ConvBertForSequenceClassification,
    ConvBertForTokenClassification,
    ConvBertModel,
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForMultipleChoice,
    ElectraForPreTraining,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ElectraForTokenClassification,
    ElectraModel,
    PreTrainedConfig,
    PreTrainedModel,
)

from bertkernels.errors import InputError

from ..configuration import EncoderConfig
from ..kinds import find_kind
from .from_huggingface import MODEL_CLASSES
from .huggingface_names import MODEL_TYPES, POOLED, model_names
from .load import build_empty, check_weights, fill, weight_shapes
from .save import save_model

_CONFIGS: dict[str, type[PreTrainedConfig]] = {"bert": BertConfig, "electra": ElectraConfig, "convbert": ConvBertConfig}
_CLASSES: dict[tuple[str, str], type[PreTrainedModel]] = {
    ("bert", "encoder"): BertModel,
    ("bert", "masked_lm"): BertForMaskedLM,
    ("bert", "classifier"): BertForSequenceClassification,
    ("bert", "token_classifier"): BertForTokenClassification,
    ("bert", "question_answering"): BertForQuestionAnswering,
    ("bert", "multiple_choice"): BertForMultipleChoice,
    ("electra", "encoder"): ElectraModel,
    ("electra", "masked_lm"): ElectraForMaskedLM,
    ("electra", "discriminator"): ElectraForPreTraining,
    ("electra", "classifier"): ElectraForSequenceClassification,
    ("electra", "token_classifier"): ElectraForTokenClassification,
    ("electra", "question_answering"): ElectraForQuestionAnswering,
    ("electra", "multiple_choice"): ElectraForMultipleChoice,
    ("convbert", "encoder"): ConvBertModel,
    ("convbert", "masked_lm"): ConvBertForMaskedLM,
    ("convbert", "classifier"): ConvBertForSequenceClassification,
    ("convbert", "token_classifier"): ConvBertForTokenClassification,
    ("convbert", "question_answering"): ConvBertForQuestionAnswering,
}
_COMMON_FIELDS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "pad_token_id",
    "classifier_dropout",
)
_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}  # their name of it


def to_huggingface(
    model: PreTrainedModel, folder: str | Path, to: str = "huggingface", overwrite: bool = False
) -> None:
    """Writes a model of ours as a Hugging Face folder (`config.json`, `model.safetensors`).

    Args:
        model: EncoderModel or one of its heads; of an ELECTRA pair, its `.generator` or `.discriminator`.
        folder: must be new or empty, unless `overwrite`.
        to: "bert", "electra" or "convbert"; "huggingface": the one that fits the plan.

    Raises:
        InputError: their class cannot represent the model, with every reason; or the folder is not empty.
    """
    save_model(their_model(model, to), Path(folder), overwrite=overwrite)


def their_model(model: PreTrainedModel, to: str = "huggingface") -> PreTrainedModel:
    """Their model around the same weights, to be saved, not run; arguments and errors as `to_huggingface`."""
    part = next((part for part, ours in MODEL_CLASSES.items() if type(model) is ours), None)
    if part is None:
        raise InputError(f"a {type(model).__name__} has no counterpart in Hugging Face: convert one part of it")
    _check_kinds(model.config)
    model_type = fitting_model_type(model.config) if to == "huggingface" else to
    if model_type not in MODEL_TYPES:
        raise InputError(f"to must be one of huggingface, {', '.join(MODEL_TYPES)}, got {to!r}")
    config = _their_config(model, model_type, part)
    theirs = build_empty(_CLASSES[model_type, part], config)
    ours = model.state_dict()
    weights = {
        weight.name: weight.to_theirs(ours[name])
        for name, weight in model_names(model_type, part, model.config).items()
    }
    check_weights(
        weight_shapes(theirs), {name: tuple(weight.shape) for name, weight in weights.items()}, f"this {model_type}"
    )
    return fill(theirs, weights)


def _check_kinds(config: EncoderConfig) -> None:
    if config.supernet_kinds is not None:
        raise InputError("this model is a supernet: only a model of one of its plans has a counterpart")
    if config.trigram_embeddings:
        raise InputError("no Hugging Face model that we convert to has trigram embeddings")
    kinds = {sublayer.kind for block in config.parsed_plan.blocks for sublayer in block.sublayers}
    unknown = sorted(kinds - {"attention", "mixed", "ffn"})
    if unknown:
        raise InputError(f'no Hugging Face model has {" or ".join(unknown)} sub-layers; the plan is "{config.plan}"')


def fitting_model_type(config: EncoderConfig) -> str:
    """The model type whose layers the plan has; of BERT and ELECTRA, which have the same, BERT for its pooler."""
    kinds = {sublayer.kind for block in config.parsed_plan.blocks for sublayer in block.sublayers}
    if "mixed" in kinds:
        return "convbert"
    return "bert" if config.pooler else "electra"


def _their_config(model: PreTrainedModel, model_type: str, part: str) -> PreTrainedConfig:
    config: EncoderConfig = model.config
    problems: list[str] = []
    fields = {name: getattr(config, name) for name in _COMMON_FIELDS}
    fields |= {"hidden_act": _ACTIVATIONS.get(config.hidden_act, config.hidden_act), "tie_word_embeddings": True}
    if model_type == "convbert":
        # their defaults are another vocabulary's
        fields |= {"bos_token_id": None, "eos_token_id": None}
    fields |= _layer_fields(config, model_type, problems)
    if model_type != "bert":
        fields["embedding_size"] = config.embedding_size
    elif config.embedding_size != config.hidden_size:
        problems.append(
            f"BERT's embeddings are as wide as its hidden states, {config.hidden_size}, not {config.embedding_size}"
        )
    problems += _head_problems(model, model_type, part)
    if problems:
        raise InputError(f"this model cannot be a Hugging Face {model_type}: {'; '.join(problems)}")
    if part in ("classifier", "token_classifier"):
        fields |= {"id2label": config.id2label, "label2id": config.label2id, "problem_type": config.problem_type}
    if part == "multiple_choice" and model_type == "electra":
        act = config.classifier_hidden_act
        fields |= {"summary_activation": _ACTIVATIONS.get(act, act)}
    return _CONFIGS[model_type](**fields)


def _layer_fields(config: EncoderConfig, model_type: str, problems: list[str]) -> dict[str, int]:
    """Sizes of layers, which are all alike in their classes."""
    wanted = "mixed" if model_type == "convbert" else "attention"
    blocks = config.parsed_plan.blocks
    if any([sublayer.kind for sublayer in block.sublayers] != [wanted, "ffn"] for block in blocks):
        problems.append(f'its layers are ({wanted} ffn), but the plan is "{config.plan}"')
        return {}
    if len(set(blocks)) > 1:
        problems.append(f'its layers are all alike, but the plan is "{config.plan}"')
        return {}
    first, ffn = blocks[0].sublayers
    heads_of = find_kind(first.kind).arguments(config, **first.function_options)
    heads, width = heads_of["heads"], heads_of["heads"] * config.head_size
    ffn_of = find_kind("ffn").arguments(config, **ffn.function_options)
    for sublayer in (first, ffn):
        problems += [f"it has no {sublayer.kind}[{name}={value}]" for name, value in sublayer.frame_options.items()]
    if ffn_of["activation"] != config.hidden_act:
        activation = ffn_of["activation"]
        problems.append(f"it has one activation, hidden_act {config.hidden_act}, but its feed-forward has {activation}")
    fields = {"intermediate_size": ffn_of["intermediate_size"]}
    if model_type == "convbert":
        taps = heads_of["kernel_size"]
        if 2 * width != config.hidden_size:
            problems.append(
                f"its {heads} attention and {heads} convolution heads share hidden_size {config.hidden_size}, but here "
                f"they are {config.head_size} wide, {2 * width} together"
            )
        if taps % 2 == 0:
            problems.append(f"its convolutions need an odd number of taps, not {taps}")
        # their head size is hidden_size / heads / 2 after the ratio, so these two numbers give it for any ratio of ours
        fields |= {"num_attention_heads": 2 * heads, "head_ratio": 2}
        return fields | {"conv_kernel_size": taps, "num_groups": ffn_of["groups"]}
    if width != config.hidden_size:
        problems.append(f"its heads share hidden_size {config.hidden_size}, but here they have {width} channels")
    if ffn_of["groups"] > 1:
        problems.append("its feed-forward has no groups")
    return fields | {"num_attention_heads": heads}


def _head_problems(model: PreTrainedModel, model_type: str, part: str) -> list[str]:
    config: EncoderConfig = model.config
    if (model_type, part) not in _CLASSES:
        return [f"it has no class with the head of a {type(model).__name__} (--part encoder converts the rest)"]
    problems = []
    if part == "masked_lm":
        if model_type != "bert" and config.hidden_act != "gelu":
            problems.append(f"its masked language model's head uses gelu, not {config.hidden_act}")
        if not config.tie_word_embeddings:
            problems.append("this one predicts with output embeddings of its own (tie_word_embeddings=false)")
    if part in POOLED and config.pooler != (model_type == "bert"):
        problems.append("it has no pooler" if config.pooler else "it needs a pooler (electra is the same without)")
    if part == "classifier":
        wanted = {"bert": None, "electra": "gelu", "convbert": config.hidden_act}[model_type]
        if config.classifier_hidden_act != wanted:
            problems.append(
                f"its classification head has classifier_hidden_act {wanted}, not {config.classifier_hidden_act}"
            )
    if part == "question_answering" and (config.qa_head != "plain" or config.answerable_classifier):
        problems.append("its question-answering head is qa_head plain without an answerable_classifier")
    if part == "multiple_choice" and (config.classifier_hidden_act is None) != (model_type == "bert"):
        wanted = "None" if model_type == "bert" else "a name"
        problems.append(
            f"its multiple-choice head has classifier_hidden_act {wanted}, not {config.classifier_hidden_act}"
        )
    return problems
