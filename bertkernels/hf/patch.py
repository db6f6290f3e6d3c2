"""`patch`: Hugging Face models that contain ConvBERT layers, on fused ops, in place.

A module is swapped by giving it another class, a subclass of its own that computes the same from the same parameters:
parameters, names, state dicts, hooks and recorded outputs stay as they are, and `unpatch` gives the old class back.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers.models.convbert.modeling_convbert import (
    ConvBertForQuestionAnswering,
    ConvBertLayer,
    ConvBertModel,
)

from .attention import FusedConvBertSelfAttention, FusedSeparableConv1D
from .blocks import FusedConvBertAttention, FusedConvBertLayer
from .encoder import FusedConvBertEncoder, UnpaddedConvBertEncoder, UnpaddedConvBertLayer
from .feed_forward import FusedConvBertIntermediate, FusedGroupedLinearLayer
from .inputs import broadcast_mask, input_hook, set_input_hook, unpadded_inputs
from .output import FusedConvBertOutput, FusedConvBertSelfOutput
from .pooling import UnpaddedConvBertClassificationHead, UnpaddedConvBertSequenceSummary, UnpaddedSpanLogits
from .report import PatchReport, implementations
from .supported import DECODER, reason_against

_COMMON = (
    FusedConvBertAttention,
    FusedConvBertSelfAttention,
    FusedSeparableConv1D,
    FusedGroupedLinearLayer,
    FusedConvBertIntermediate,
    FusedConvBertSelfOutput,
    FusedConvBertOutput,
)
_PADDED = (*_COMMON, FusedConvBertLayer, FusedConvBertEncoder)
_UNPADDED = (
    *_COMMON,
    UnpaddedConvBertEncoder,
    UnpaddedConvBertLayer,
    UnpaddedConvBertClassificationHead,
    UnpaddedConvBertSequenceSummary,
)
_REPLACEMENTS = {
    False: {replacement.stock: replacement for replacement in _PADDED},
    True: {replacement.stock: replacement for replacement in _UNPADDED},
}
_STOCK = {replacement: replacement.stock for replacement in (*_PADDED, *_UNPADDED, UnpaddedSpanLogits)}
_INPUT_HOOK = {False: broadcast_mask, True: unpadded_inputs}


def patch(model: nn.Module, *, unpad: bool = False) -> PatchReport:
    """Makes a model that contains Hugging Face's ConvBERT layers run on fused ops, in place. Calling it again is safe.

    Parameters, state dict, module names, hooks, `output_attentions`, `output_hidden_states`, gradient checkpointing,
    `save_pretrained`, copying, pickling and `torch.compile(fullgraph=True)` keep working as they did. One difference
    can be seen from outside: in an encoder, a self-attention module returns None for its attention probabilities
    unless `output_attentions` asks for them.

    Args:
        model: any module: a ConvBERT model with or without a head, a part of one, or a module of yours around one.
        unpad: False keeps Hugging Face's results: padding takes part in the convolutions, as in the released code.
            True runs on real tokens only. Then padding can't change a real token: each sentence of a batch comes out
            as if it were alone, positions are counted over its real tokens (unless `position_ids` are given), heads
            that read the first or last position read the first or last real one, question answering's logits are the
            lowest number at padding, and hidden states and attention maps zero. On padded batches this differs from
            the unpatched model on purpose. It takes an `attention_mask` [B, T] of any pattern; `torch.compile` breaks
            the graph where tokens are packed; inside `bertkernels.nn.static_shapes()` padding is computed, and it is
            one graph for all sizes.

    Returns:
        A report of what was swapped, what was left alone and why, and what the ops run on.

    Raises:
        TypeError: `model` is not a torch module.
        ValueError: it has no ConvBERT layers; or unpad=True and a part of it cannot run on packed tokens.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"patch: model must be a torch.nn.Module, got {type(model).__name__}")
    swaps, left_alone = _plan(model, unpad)
    if not swaps and not left_alone:
        looked_for = ", ".join(stock.__name__ for stock in _REPLACEMENTS[False])
        raise ValueError(f"patch: found no ConvBERT layers in {type(model).__name__}; looked for {looked_for}")
    if unpad:
        _plan_span_logits(model, swaps, left_alone)
        _check_unpad(model, left_alone)

    unpatch(model)
    for module, replacement in swaps:
        module.__class__ = replacement
    for module in model.modules():
        if isinstance(module, ConvBertModel):
            set_input_hook(module, _INPUT_HOOK[unpad])

    swapped = dict(Counter(replacement.stock.__name__ for _, replacement in swaps))
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    return PatchReport(swapped, left_alone, implementations(swapped, device), device.type, unpad)


def unpatch(model: nn.Module) -> None:
    """Undoes `patch`, in place; a model that was never patched is left as it is."""
    for module in model.modules():
        module.__class__ = _STOCK.get(type(module), type(module))
        set_input_hook(module, None)


@contextmanager
def patched(model: nn.Module, *, unpad: bool = False) -> Iterator[PatchReport]:
    """`patch` inside a `with` block; afterwards the model is as it was before, patched or not."""
    before = [(module, type(module), input_hook(module)) for module in model.modules()]
    try:
        yield patch(model, unpad=unpad)
    finally:
        for module, kind, hook in before:
            module.__class__ = kind
            set_input_hook(module, hook)


def _plan(model: nn.Module, unpad: bool) -> tuple[list[tuple[nn.Module, type]], dict[str, str]]:
    """Modules with the classes they get, and reasons by name of those that must be left alone."""
    replacements = _REPLACEMENTS[unpad]
    in_decoders = {
        part
        for layer in model.modules()
        if isinstance(layer, ConvBertLayer) and layer.is_decoder
        for part in layer.modules()
    }
    swaps, left_alone = [], {}
    for name, module in model.named_modules():
        stock = _STOCK.get(type(module), type(module))
        if stock in replacements:
            reason = DECODER if module in in_decoders else reason_against(module, unpad)
        elif isinstance(module, tuple(replacements)):
            reason = f"it is a {stock.__name__}, a subclass that may compute something else"
        else:
            continue
        if reason:
            left_alone[name] = reason
        else:
            swaps.append((module, replacements[stock]))
    return swaps, left_alone


def _plan_span_logits(model: nn.Module, swaps: list[tuple[nn.Module, type]], left_alone: dict[str, str]) -> None:
    """Adds question answering's last layers, which their class does not tell from other linear layers."""
    for name, module in model.named_modules():
        if not isinstance(module, ConvBertForQuestionAnswering):
            continue
        layer = module.qa_outputs
        if type(layer) in (nn.Linear, UnpaddedSpanLogits):
            swaps.append((layer, UnpaddedSpanLogits))
        else:
            left_alone[f"{name}.qa_outputs".lstrip(".")] = f"it is a {type(layer).__name__}, not a Linear"


def _check_unpad(model: nn.Module, left_alone: dict[str, str]) -> None:
    if not any(isinstance(module, ConvBertModel) for module in model.modules()):
        raise ValueError(
            f"patch: unpad=True needs a ConvBertModel, which is given the attention mask; "
            f"{type(model).__name__} contains none"
        )
    if left_alone:
        name, reason = next(iter(left_alone.items()))
        raise ValueError(f"patch: unpad=True needs all ConvBERT layers on fused ops, but not {name}: {reason}")
