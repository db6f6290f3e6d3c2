"""Names and layouts of the weights in Hugging Face's BERT, ELECTRA and ConvBERT, beside ours."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..configuration import EncoderConfig

MODEL_TYPES = ("bert", "electra", "convbert")
PARTS = (
    "encoder",
    "masked_lm",
    "discriminator",
    "classifier",
    "token_classifier",
    "question_answering",
    "multiple_choice",
)
POOLED = ("encoder", "classifier", "multiple_choice")  # parts that read the first token, of BERT through its pooler


def unchanged(weight: torch.Tensor) -> torch.Tensor:
    return weight


@dataclass(frozen=True)
class Weight:
    """A weight of theirs: its name, how it becomes ours, and how ours becomes it."""

    name: str
    to_ours: Callable[[torch.Tensor], torch.Tensor] = unchanged
    to_theirs: Callable[[torch.Tensor], torch.Tensor] = unchanged


Names = dict[str, Weight]  # by the name of our weight


def _without_axis(axis: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Drops an axis of one; leaves weights of another shape as they are, for the shape check to name."""
    return lambda weight: weight.squeeze(axis) if weight.ndim > axis else weight


def _linear(ours: str, theirs: str) -> Names:
    return {f"{ours}.{role}": Weight(f"{theirs}.{role}") for role in ("weight", "bias")}


def encoder_names(config: EncoderConfig) -> Names:
    """The bare encoder of `config`, whose plan is one that the model type has; theirs without the model's prefix."""
    names: Names = {}
    for table in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        names[f"embeddings.{table}.weight"] = Weight(f"embeddings.{table}.weight")
    names |= _linear("embeddings.norm", "embeddings.LayerNorm")
    if config.embedding_size != config.hidden_size:
        names |= _linear("embeddings_projection", "embeddings_project")
    for index, block in enumerate(config.parsed_plan.blocks):
        mixed = block.sublayers[0].kind == "mixed"
        names |= _layer_names(f"encoder.blocks.{index}.sublayers", f"encoder.layer.{index}", mixed)
    return names


def _layer_names(ours: str, theirs: str, mixed: bool) -> Names:
    attention, self_attention = f"{ours}.0.function", f"{theirs}.attention.self"
    names: Names = {}
    for role in ("query", "key", "value"):
        names |= _linear(f"{attention}.{role}", f"{self_attention}.{role}")
    if mixed:
        span = f"{self_attention}.key_conv_attn_layer"
        names |= {
            # [C, 1, K] ↔ [C, K]
            f"{attention}.depthwise.weight": Weight(
                f"{span}.depthwise.weight", _without_axis(1), lambda weight: weight.unsqueeze(1)
            ),
            # [out, C, 1] ↔ [out, C]
            f"{attention}.pointwise.weight": Weight(
                f"{span}.pointwise.weight", _without_axis(2), lambda weight: weight.unsqueeze(2)
            ),
            # [out, 1] ↔ [out]
            f"{attention}.pointwise.bias": Weight(f"{span}.bias", _without_axis(1), lambda weight: weight.unsqueeze(1)),
        }
        names |= _linear(f"{attention}.conv_kernel", f"{self_attention}.conv_kernel_layer")
        names |= _linear(f"{attention}.conv_value", f"{self_attention}.conv_out_layer")
    names |= _linear(f"{attention}.output", f"{theirs}.attention.output.dense")
    names |= _linear(f"{ours}.0.norm", f"{theirs}.attention.output.LayerNorm")
    names |= _linear(
        f"{ours}.1.function.up", f"{theirs}.intermediate.dense"
    )  # grouped weights are [G, in, out] in both
    names |= _linear(f"{ours}.1.function.down", f"{theirs}.output.dense")
    return names | _linear(f"{ours}.1.norm", f"{theirs}.output.LayerNorm")


def head_names(model_type: str, part: str) -> Names:
    """The head of `part`. Output embeddings of a masked language model are the word embeddings, under no name here."""
    bert = model_type == "bert"
    if part == "masked_lm":
        transform = "cls.predictions.transform" if bert else "generator_predictions"
        names = _linear("prediction.dense", f"{transform}.dense")
        names |= _linear("prediction.norm", f"{transform}.LayerNorm")
        return names | {"prediction.bias": Weight("cls.predictions.bias" if bert else "generator_lm_head.bias")}
    if part == "discriminator":
        names = _linear("prediction.dense", "discriminator_predictions.dense")
        return names | _linear("prediction.output", "discriminator_predictions.dense_prediction")
    if part == "classifier":
        if bert:
            return _linear("classifier.output", "classifier")
        return _linear("classifier.dense", "classifier.dense") | _linear("classifier.output", "classifier.out_proj")
    if part == "token_classifier":
        return _linear("classifier.output", "classifier")
    if part == "question_answering":
        return _linear("span.output", "qa_outputs")
    if part == "multiple_choice":
        hidden = {} if bert else _linear("classifier.dense", "sequence_summary.summary")
        return hidden | _linear("classifier.output", "classifier")
    return {}


def model_names(model_type: str, part: str, config: EncoderConfig) -> Names:
    """All weights of a model, by their full names."""
    encoder = encoder_names(config)
    if config.pooler and part in POOLED:
        encoder |= _linear("pooler", "pooler.dense")
    if part == "encoder":
        return encoder
    full = {
        f"model.{ours}": Weight(f"{model_type}.{weight.name}", weight.to_ours, weight.to_theirs)
        for ours, weight in encoder.items()
    }
    return full | head_names(model_type, part)
