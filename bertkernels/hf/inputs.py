"""What a patched `ConvBertModel` does to its arguments: forward pre-hooks, since its class must stay what it is.

(`save_pretrained` writes the class's name, and transformers finds the outputs it may record by it.)
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.utils.import_utils import is_tracing

_HANDLE = "bertkernels_input_hook"  # attribute of a patched ConvBertModel
_NAMES = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds")


def broadcast_mask(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Turns attention_mask [B, T] into an additive [B, 1, 1, T], which the model passes on to its layers as it is.

    Left to itself it builds [B, 1, T, T] of it. Where nothing is masked the layers get a single zero, which adds the
    same to all scores.
    """
    inputs = dict(zip(_NAMES, args, strict=False)) | kwargs
    mask = inputs.get("attention_mask")
    tokens = inputs.get("input_ids") if inputs.get("input_ids") is not None else inputs.get("inputs_embeds")
    if tokens is None or (mask is not None and mask.dim() != 2):
        return None
    if mask is None and inputs.get("input_ids") is not None:  # the model warns only where it gets no mask
        module.warn_if_padding_and_no_attention_mask(tokens, None)
    dtype = module.embeddings.LayerNorm.weight.dtype
    if mask is None or (not is_tracing(mask) and bool(mask.all())):
        additive = torch.zeros(1, 1, 1, 1, dtype=dtype, device=tokens.device)
    else:
        lowest = torch.finfo(dtype).min
        additive = torch.zeros(mask.shape, dtype=dtype, device=tokens.device)
        additive = additive.masked_fill(mask.to(tokens.device) == 0, lowest)[:, None, None, :]
    return (), inputs | {"attention_mask": additive}


def unpadded_inputs(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Counts positions over real tokens alone, so that padding on the left moves none; then `broadcast_mask`."""
    inputs = dict(zip(_NAMES, args, strict=False)) | kwargs
    mask = inputs.get("attention_mask")
    if mask is not None and mask.dim() == 2 and inputs.get("position_ids") is None:
        inputs["position_ids"] = ((mask != 0).cumsum(1) - 1).clamp(min=0)  # [B, T]
    return broadcast_mask(module, (), inputs)


def input_hook(module: nn.Module) -> Callable | None:
    """Which of the hooks above this module has."""
    handle = vars(module).get(_HANDLE)
    return None if handle is None else module._forward_pre_hooks[handle.id]


def set_input_hook(module: nn.Module, hook: Callable | None) -> None:
    """Gives the module this hook, or none, instead of the one it has."""
    if input_hook(module) is hook:
        return
    if _HANDLE in vars(module):
        vars(module).pop(_HANDLE).remove()
    if hook is not None:
        setattr(module, _HANDLE, module.register_forward_pre_hook(hook, with_kwargs=True))
