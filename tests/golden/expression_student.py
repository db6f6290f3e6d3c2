"""EfficientBERT's student in plain torch, from a recorded state dict: what distillation's losses are compared on."""

import ast
import re
from collections.abc import Mapping

import torch
from torch.nn import functional

Tensors = Mapping[str, torch.Tensor]


def gelu(x: torch.Tensor) -> torch.Tensor:
    return functional.gelu(x, approximate="tanh")


_UNARY = {
    "gelu": gelu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.01),
    "elu": functional.elu,
    "swish": functional.silu,
}
_BINARY = {"add": torch.add, "mul": torch.mul, "max": torch.maximum}


def _evaluate(node: ast.expr, values: dict) -> torch.Tensor:
    """An expression such as tanh(linear4_2(x, wb1)), narrower operands deciding the width."""
    if isinstance(node, ast.Name):
        return values[node.id]
    found = [_evaluate(argument, values) for argument in node.args]
    name = node.func.id
    if name.startswith("linear"):
        weight, bias = found[1]
        return found[0] @ weight + bias
    if name in _UNARY:
        return _UNARY[name](*found)
    width = min(x.shape[-1] for x in found)
    return _BINARY[name](*(x[..., :width] for x in found))


def _norm(x: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])


def _linear(x: torch.Tensor, weights: Tensors, name: str) -> torch.Tensor:
    return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _embed(weights: Tensors, batch: Tensors) -> torch.Tensor:
    # padding has an embedding, which does not train
    words = functional.embedding(batch["in/token_ids"], weights["embeddings.token_embeddings.weight"], padding_idx=0)
    around = functional.pad(words, (0, 0, 1, 1))
    trigrams = torch.cat([around[:, 2:], words, around[:, :-2]], -1)
    x = _linear(trigrams, weights, "embeddings.dense")
    for name in ("segment", "position"):
        x = x + weights[f"embeddings.{name}_embeddings.weight"][batch[f"in/{name}_ids"]]
    return _norm(x, weights, "embeddings.layernorm")


def _attend(x: torch.Tensor, weights: Tensors, name: str, heads: int, real: torch.Tensor) -> tuple:
    query, key, value = (
        _linear(x, weights, f"{name}.{part}").unflatten(-1, (heads, -1)).transpose(1, 2)
        for part in ("query", "key", "value")
    )
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5  # [B, H, T, T]
    probs = (scores + ~real[:, None, None, :] * -10000.0).softmax(-1)
    context = (probs @ value).transpose(1, 2).flatten(-2)
    return scores, _norm(x + _linear(context, weights, f"{name}.dense"), weights, f"{name}.layernorm")


def _feed_forward(x: torch.Tensor, weights: Tensors, name: str, expression: str) -> torch.Tensor:
    stacked, ratio = map(int, re.search(r"linear(\d)_(\d)", expression).groups())
    tree = ast.parse(expression, mode="eval").body
    for number in range(stacked):
        inner = f"{name}.{number}"
        width = weights[f"{inner}.dense1.weight"].shape[0] // ratio
        first = weights[f"{inner}.dense1.weight"].T[:, :width], weights[f"{inner}.dense1.bias"][:width]
        second = weights[f"{inner}.dense2.weight"].T[:width], weights[f"{inner}.dense2.bias"]
        out = _evaluate_ffn(tree, x, first, second)
        x = _norm(x + out, weights, f"{inner}.layernorm")
    return x


def _evaluate_ffn(tree: ast.expr, x: torch.Tensor, first: tuple, second: tuple) -> torch.Tensor:
    return _evaluate(tree, {"x": x, "wb1": first, "wb2": second})


def expression_student(
    weights: Tensors, batch: Tensors, expressions: list[str], heads: int
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Hidden states [B, T, C], the embeddings' output first, and scores [B, H, T, T] of each layer without the mask."""
    real = batch["in/attn_mask_1_is_pad"] == 0
    states, scores = [_embed(weights, batch)], []
    for number, expression in enumerate(expressions):
        found, x = _attend(states[-1], weights, f"encoder.{number}.attention", heads, real)
        scores.append(found)
        states.append(_feed_forward(x, weights, f"encoder.{number}.all_ffn", expression))
    return states, scores
