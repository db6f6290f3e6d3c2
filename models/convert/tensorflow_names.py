"""Names and layouts of the variables in TensorFlow checkpoints of BERT, ELECTRA and ConvBERT, beside ours.

A dense kernel is [in, out] there and [out, in] here; ConvBERT's grouped kernels are [groups, in, out] in both. The
depthwise kernel [K, C, 1] and the pointwise kernel [1, C, out] of its separable convolution lose their axis of one.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np


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


def layer_names(scope: str, layer: int, variables: Iterable[str]) -> Names:
    """One layer: with a convolution beside attention and with grouped feed-forward, where `variables` has such."""
    theirs = f"{scope}/encoder/layer_{layer}"
    ours = f"encoder.blocks.{layer}.sublayers"
    attention, self_attention = f"{ours}.0.function", f"{theirs}/attention/self"
    names: Names = {}
    for role in ("query", "key", "value"):
        names |= _dense(f"{attention}.{role}", f"{self_attention}/{role}")
    present = set(variables)
    if any(name.startswith(f"{self_attention}/conv_attn_") for name in present):
        names |= {
            f"{attention}.depthwise.weight": Variable(f"{self_attention}/conv_attn_key/depthwise_kernel", depthwise, 3),
            f"{attention}.pointwise.weight": Variable(f"{self_attention}/conv_attn_key/pointwise_kernel", pointwise, 3),
            f"{attention}.pointwise.bias": Variable(f"{self_attention}/conv_attn_key/bias"),
        }
        names |= _dense(f"{attention}.conv_kernel", f"{self_attention}/conv_attn_kernel")
        names |= _dense(f"{attention}.conv_value", f"{self_attention}/conv_attn_point")
    names |= _dense(f"{attention}.output", f"{theirs}/attention/output/dense")
    names |= _norm(f"{ours}.0.norm", f"{theirs}/attention/output/LayerNorm")
    for role, part in (("up", "intermediate"), ("down", "output")):
        grouped = any(name.startswith(f"{theirs}/{part}/g_dense/") for name in present)
        linear = _grouped if grouped else _dense
        names |= linear(f"{ours}.1.function.{role}", f"{theirs}/{part}/{'g_dense' if grouped else 'dense'}")
    return names | _norm(f"{ours}.1.norm", f"{theirs}/output/LayerNorm")


def replaced_token_names() -> Names:
    dense = _dense("prediction.dense", "discriminator_predictions/dense")
    return dense | _dense("prediction.output", "discriminator_predictions/dense_1")


def masked_lm_names(scope: str) -> Names:
    """`scope` is generator_predictions (ELECTRA, ConvBERT) or cls/predictions (BERT)."""
    transform = f"{scope}/transform" if scope.startswith("cls/") else scope
    names = _dense("prediction.dense", f"{transform}/dense") | _norm("prediction.norm", f"{transform}/LayerNorm")
    return names | {"prediction.bias": Variable(f"{scope}/output_bias")}


def task_names(task: str) -> Names:
    """The classification or regression head of a fine-tuned ELECTRA or ConvBERT."""
    return _dense("classifier.output", f"task_specific/{task}/dense")


def bert_classifier_names() -> Names:
    """The head of a fine-tuned BERT, whose kernel is [labels, hidden]."""
    return {"classifier.output.weight": Variable("output_weights", unchanged, 2)} | {
        "classifier.output.bias": Variable("output_bias")
    }


def prefixed(prefix: str, names: Names) -> Names:
    return {f"{prefix}.{ours}": variable for ours, variable in names.items()}
