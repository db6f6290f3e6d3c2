"""What a patched `ConvBertModel` does to its arguments: forward pre-hooks, since its class must stay what it is.

(`save_pretrained` writes the class's name, and transformers finds the outputs it may record by it.)
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.utils.import_utils import is_tracing

from ..nn import shapes_are_static

_HANDLE = "bertkernels_input_hook"  # attribute of a patched ConvBertModel
_NAMES = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds")


def broadcast_mask(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Turns attention_mask [B, T] into an additive [B, 1, 1, T], which the model passes on to its layers as it is.

    Left to itself it builds [B, 1, T, T] of it. Where nothing is masked the layers get a single zero, which adds the
    same to all scores.
    """
    ids, mask = _argument("input_ids", args, kwargs), _argument("attention_mask", args, kwargs)
    tokens = _argument("inputs_embeds", args, kwargs) if ids is None else ids
    if tokens is None or (mask is not None and mask.dim() != 2):
        return None
    if mask is None and ids is not None:  # the model itself warns only where it gets no mask
        module.warn_if_padding_and_no_attention_mask(ids, None)
    dtype = module.embeddings.LayerNorm.weight.dtype
    looked_at = mask is not None and not is_tracing(mask) and not shapes_are_static()
    if mask is None or (looked_at and bool(mask.all())):
        additive = torch.zeros(1, 1, 1, 1, dtype=dtype, device=tokens.device)
    else:
        additive = torch.zeros(mask.shape, dtype=dtype, device=tokens.device)
        additive = additive.masked_fill(mask.to(tokens.device) == 0, torch.finfo(dtype).min)[:, None, None, :]
    return _with_argument("attention_mask", additive, args, kwargs)


def unpadded_inputs(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
    """Keeps padding from where Hugging Face's code still runs on padded tokens; then `broadcast_mask`.

    Positions count real tokens alone, so that padding on the left moves none. What is given in place of embeddings is
    set to zero at padding: the embeddings' LayerNorm and projection come before packing, and zero gradients times NaN
    would be NaN.
    """
    mask, embeds = _argument("attention_mask", args, kwargs), _argument("inputs_embeds", args, kwargs)
    if mask is not None and mask.dim() == 2:
        real = mask != 0  # [B, T]
        if _argument("position_ids", args, kwargs) is None:
            args, kwargs = _with_argument("position_ids", (real.cumsum(1) - 1).clamp(min=0), args, kwargs)
        if embeds is not None:
            embeds = embeds.masked_fill(~real.to(embeds.device)[..., None], 0)  # [B, T, E]
            args, kwargs = _with_argument("inputs_embeds", embeds, args, kwargs)
    return broadcast_mask(module, args, kwargs) or (args, kwargs)


def _argument(name: str, args: tuple, kwargs: dict) -> torch.Tensor | None:
    place = _NAMES.index(name)
    return args[place] if place < len(args) else kwargs.get(name)


def _with_argument(name: str, value: torch.Tensor, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    place = _NAMES.index(name)
    if place < len(args):
        return (*args[:place], value, *args[place + 1 :]), kwargs
    return args, kwargs | {name: value}


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
