"""Calls a linear layer together with what follows it, as one op where that computes the same."""

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from .. import ops
from ..ops.linear import onednn_multiplies
from .activation import ACTIVATIONS, FUSED_NAME
from .glorot import GlorotLinear

PLAIN = (nn.Linear, GlorotLinear)
Weights = tuple[torch.Tensor, torch.Tensor | None]  # weight and bias


def apply_linear(
    layer: nn.Module,
    x: torch.Tensor,
    *,
    activation: str | None = None,
    multiplier: torch.Tensor | None = None,
    weights: Weights | None = None,
) -> torch.Tensor:
    """activation(layer(x)), or layer(x) · multiplier.

    Plain `nn.Linear` layers on the CPU go through `bertkernels.ops.linear`, unless it would do just what the module
    does. Anything else in their place (adapters, quantised layers) and layers with hooks are called as modules, so that
    whatever they do takes effect.

    Args:
        layer: a module […, I] → […, O].
        x: […, I].
        activation: a name from `bertkernels.nn.ACTIVATIONS`; multiplier: […, O]; at most one of them.
        weights: weight and bias to use in place of the layer's own, such as slices of them; the layer is then plain.
    """
    alone = activation is None and multiplier is None
    # torch leaves bf16 to oneDNN by itself
    same = alone and (x.dtype != torch.float32 or not onednn_multiplies(x.dtype))
    if not same and x.device.type == "cpu" and type(layer) in PLAIN and calls_alone(layer):
        fused = None if activation is None else FUSED_NAME[activation]
        weight, bias = weights or (layer.weight, layer.bias)
        return ops.linear(x, weight, bias, activation=fused, multiplier=multiplier, impl="torch")
    out = layer(x) if weights is None else nn.functional.linear(x, *weights)
    if multiplier is not None:
        return out * multiplier
    return out if activation is None else ACTIVATIONS[activation](out)


def calls_alone(*layers: nn.Module) -> bool:
    """Whether calling any of the modules would do nothing but its class's forward: nobody has hooked into them."""
    for layer in layers:
        if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
            return False
        if "forward" in vars(layer):  # accelerate's device hooks put a forward on the instance
            return False
    return not torch_module._has_any_global_hook()


def children(module: nn.Module, *names: str) -> list[nn.Module | None]:
    """Its attributes of these names, which are modules; None for what is not there."""
    return _attributes(module, module._modules, names)


def weight_and_bias(layer: nn.Module) -> list[torch.Tensor | None]:
    """Its attributes of these names, which are parameters; None for what is not there."""
    return _attributes(layer, layer._parameters, ("weight", "bias"))


def _attributes(module: nn.Module, likely: dict[str, object], names: tuple[str, ...]) -> list[object]:
    # getattr finds modules and parameters last, in half a microsecond each: a block has thirty
    return [likely[name] if name in likely else getattr(module, name, None) for name in names]
