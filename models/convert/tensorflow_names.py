"""Names and layouts of the variables in TensorFlow checkpoints of BERT, ELECTRA, ConvBERT and LV-BERT, beside ours.

A dense kernel is [in, out] there and [out, in] here; ConvBERT's grouped kernels are [groups, in, out] in both. The
depthwise kernel [K, C, 1] and the pointwise kernel [1, C, out] of a separable convolution lose their axis of one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from .tensorflow_layers import Place


def unchanged(array: np.ndarray) -> np.ndarray:
    return array


def transposed(array: np.ndarray) -> np.ndarray:
    return array.T


def depthwise(array: np.ndarray) -> np.ndarray:
    """[K, C, 1] → [C, K]"""
    return array[:, :, 0].T


def pointwise(array: np.ndarray) -> np.ndarray:
    """[1, C, out] → [out, C]"""
    return array[0].T


@dataclass(frozen=True)
class Variable:
    """Where a weight of ours comes from: the variable's name and how its array becomes ours."""

    name: str
    layout: Callable[[np.ndarray], np.ndarray] = unchanged
    rank: int = 1


Names = dict[str, Variable]  # by the name of our weight


def _kernel(name: str) -> Variable:
    return Variable(f"{name}/kernel", transposed, 2)


def _dense(ours: str, theirs: str) -> Names:
    return {f"{ours}.weight": _kernel(theirs), f"{ours}.bias": Variable(f"{theirs}/bias")}


def _grouped(ours: str, theirs: str) -> Names:
    return {f"{ours}.weight": Variable(f"{theirs}/kernel", unchanged, 3), f"{ours}.bias": Variable(f"{theirs}/bias")}


def _norm(ours: str, theirs: str) -> Names:
    return {f"{ours}.weight": Variable(f"{theirs}/gamma"), f"{ours}.bias": Variable(f"{theirs}/beta")}


def embedding_names(scope: str) -> Names:
    tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
    names = {f"embeddings.{table}.weight": Variable(f"{scope}/{table}", unchanged, 2) for table in tables}
    return names | _norm("embeddings.norm", f"{scope}/LayerNorm")


def projection_names(scope: str) -> Names:
    return _dense("embeddings_projection", f"{scope}/embeddings_project")


def pooler_names(scope: str) -> Names:
    return _dense("pooler", f"{scope}/pooler/dense")


def sublayer_names(place: Place, ours: str, variables: Iterable[str]) -> Names:
    """One sub-layer, called `ours` here; its feed-forward is grouped where `variables` has such."""
    if place.kind == "ffn":
        return _feed_forward_names(place.scope, ours, variables)
    if place.kind == "dynamic_conv":
        return _dynamic_conv_names(f"{place.scope}/dynamic_convolution_layer", ours)
    return _attention_names(f"{place.scope}/attention", ours, mixed=place.kind == "mixed")


def _attention_names(theirs: str, ours: str, mixed: bool) -> Names:
    function, names = f"{ours}.function", {}
    for role in ("query", "key", "value"):
        names |= _dense(f"{function}.{role}", f"{theirs}/self/{role}")
    if mixed:
        names |= _convolution_names(f"{theirs}/self", function)
        names |= _dense(f"{function}.conv_value", f"{theirs}/self/conv_attn_point")
    return names | _output_names(f"{theirs}/output", ours)


def _dynamic_conv_names(theirs: str, ours: str) -> Names:
    function, convolution = f"{ours}.function", f"{theirs}/convolution"
    names = _dense(f"{function}.value", f"{convolution}/glu_l") | _dense(f"{function}.gate", f"{convolution}/glu_g")
    return names | _convolution_names(convolution, function) | _output_names(f"{theirs}/output", ours)


def _convolution_names(theirs: str, ours: str) -> Names:
    """What makes the kernels."""
    return {
        f"{ours}.depthwise.weight": Variable(f"{theirs}/conv_attn_key/depthwise_kernel", depthwise, 3),
        f"{ours}.pointwise.weight": Variable(f"{theirs}/conv_attn_key/pointwise_kernel", pointwise, 3),
        f"{ours}.pointwise.bias": Variable(f"{theirs}/conv_attn_key/bias"),
    } | _dense(f"{ours}.conv_kernel", f"{theirs}/conv_attn_kernel")


def _output_names(theirs: str, ours: str) -> Names:
    return _dense(f"{ours}.function.output", f"{theirs}/dense") | _norm(f"{ours}.norm", f"{theirs}/LayerNorm")


def _feed_forward_names(theirs: str, ours: str, variables: Iterable[str]) -> Names:
    names, present = {}, set(variables)
    for role, part in (("up", "intermediate"), ("down", "output")):
        grouped = any(name.startswith(f"{theirs}/{part}/g_dense/") for name in present)
        linear = _grouped if grouped else _dense
        names |= linear(f"{ours}.function.{role}", f"{theirs}/{part}/{'g_dense' if grouped else 'dense'}")
    return names | _norm(f"{ours}.norm", f"{theirs}/output/LayerNorm")


def replaced_token_names() -> Names:
    dense = _dense("prediction.dense", "discriminator_predictions/dense")
    return dense | _dense("prediction.output", "discriminator_predictions/dense_1")


def masked_lm_names(scope: str) -> Names:
    """`scope` is generator_predictions (ELECTRA, ConvBERT, LV-BERT) or cls/predictions (BERT)."""
    transform = f"{scope}/transform" if scope.startswith("cls/") else scope
    names = _dense("prediction.dense", f"{transform}/dense") | _norm("prediction.norm", f"{transform}/LayerNorm")
    return names | {"prediction.bias": Variable(f"{scope}/output_bias")}


def task_names(task: str) -> Names:
    """The classification or regression head of a fine-tuned ELECTRA, ConvBERT or LV-BERT."""
    return _dense("classifier.output", f"task_specific/{task}/dense")


def bert_classifier_names() -> Names:
    """The head of a fine-tuned BERT, whose kernel is [labels, hidden]."""
    return {"classifier.output.weight": Variable("output_weights", unchanged, 2)} | {
        "classifier.output.bias": Variable("output_bias")
    }


def prefixed(prefix: str, names: Names) -> Names:
    return {f"{prefix}.{ours}": variable for ours, variable in names.items()}
