"""What surgery does to a model, each a function that leaves with a stack how to undo it."""

from collections.abc import Callable
from contextlib import ExitStack

import torch
from torch import nn

from .attributes import set_attribute
from .layers import LayeredModel
from .padding import Padding, watch_padding
from .sublayers import ATTENTION, Heads, Site, Sublayer
from .taps import INPUT, OUTPUT, Tap

Edit = Callable[[ExitStack], None]
Function = Callable[[torch.Tensor], torch.Tensor]
_STD = 0.02  # of the published initialisation, cut at two of it


def reroute(undo: ExitStack, start: Tap, end: Tap, function: Function) -> None:
    """Has function(what is at start) stand at end."""
    passed: list[torch.Tensor] = []

    def keep(x: torch.Tensor) -> None:
        passed[:] = [x]

    def give(_: torch.Tensor) -> torch.Tensor:
        return function(passed.pop())

    undo.callback(start.hook(keep).remove)
    undo.callback(end.hook(give).remove)


def scale_residual(undo: ExitStack, sublayer: Sublayer, residual: Function | None) -> None:
    """Has the norm take dropout(f(x)) + residual(x), or dropout(f(x)) alone."""
    if sublayer.residual is not None:
        start, end = (Tap(sublayer.residual, side, sublayer.start.width) for side in (INPUT, OUTPUT))
        reroute(undo, start, end, torch.zeros_like if residual is None else residual)
        return
    passed: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def store(x: torch.Tensor) -> None:
            passed[name] = x

        return store

    def add(_: torch.Tensor) -> torch.Tensor:
        out, x = passed.pop("out"), passed.pop("x")
        return out if residual is None else out + residual(x)

    # before anything else that is done to what the function takes
    undo.callback(sublayer.start.hook(keep("x"), first=True).remove)
    undo.callback(Tap(sublayer.dropout, OUTPUT, sublayer.start.width).hook(keep("out")).remove)
    undo.callback(sublayer.before_norm.hook(add).remove)


def move_norm(undo: ExitStack, sublayer: Sublayer, placement: str) -> None:
    """Has the LayerNorm stand before f, over its output, or nowhere; nothing is left where it stood."""
    norm = sublayer.norm

    def normalise(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)

    if placement == "before":
        undo.callback(sublayer.entry.hook(normalise).remove)
    elif placement == "inside":
        undo.callback(sublayer.result.hook(normalise).remove)
    reroute(undo, sublayer.before_norm, Tap(norm, OUTPUT, sublayer.start.width), lambda x: x)


def set_activation(undo: ExitStack, sublayer: Sublayer, function: Function) -> None:
    """Has an FFN apply the function in the place of its activation, or attention apply it to its output."""
    if sublayer.part == ATTENTION:
        undo.callback(sublayer.result.hook(function).remove)
        return
    for owner, name, value in sublayer.linear:
        set_attribute(undo, owner, name, value)
    undo.callback(sublayer.before_activation.hook(function).remove)


def drop_softmax(undo: ExitStack, layers: LayeredModel, site: Site, heads: Heads) -> None:
    """Has attention heads weigh values by the scaled scores themselves, those of padding by 0."""
    padding = undo.enter_context(watch_padding(layers.base))

    def attend(x: torch.Tensor) -> torch.Tensor:
        return padding.as_encoder_has_it(_without_softmax(heads, padding.padded(x), padding), x)

    reroute(undo, site.start, site.end, attend)


def _without_softmax(heads: Heads, x: torch.Tensor, padding: Padding) -> torch.Tensor:
    """Σ_j (query · key_j / √D) value_j over the real tokens j: [B, T, C] → [B, T, H·D]"""
    query, key, value = (
        layer(x).unflatten(-1, (heads.attention, heads.width)).transpose(1, 2) for layer in heads.of_attention
    )  # [B, H, T, D]
    if padding.mask is not None:
        key = key.masked_fill(~padding.mask[:, None, :, None], 0)
    context = query @ (key.transpose(-1, -2) @ value) * heads.width**-0.5
    return context.transpose(1, 2).flatten(-2)


def set_weights(undo: ExitStack, module: nn.Module, new: Callable[[str, nn.Parameter], torch.Tensor]) -> None:
    """Has every parameter of the module hold new(name, parameter), and not train."""
    for name, parameter in module.named_parameters():
        undo.callback(_restore, parameter, parameter.data, parameter.requires_grad)
        parameter.data = new(name, parameter)
        parameter.requires_grad_(False)


def _restore(parameter: nn.Parameter, data: torch.Tensor, requires_grad: bool) -> None:
    parameter.data = data
    parameter.requires_grad_(requires_grad)


def skip(undo: ExitStack, site: Site) -> None:
    """Has y be x, of a block or of whole sub-layers."""
    if site.kind == "block":
        reroute(undo, site.start, site.end, lambda x: x)
        return
    for sublayer in site.drops:
        reroute(undo, sublayer.start, sublayer.end, lambda x: x)


def add_nothing(undo: ExitStack, site: Site) -> None:
    """Has f(x) be 0, of whole sub-layers."""
    for sublayer in site.drops:
        undo.callback(sublayer.result.hook(torch.zeros_like).remove)


def overwrite(undo: ExitStack, site: Site, seed: int | None) -> None:
    """Has the site's weights be zeros, or drawn where there is a seed, and its norms as they began."""
    generator = None if seed is None else torch.Generator().manual_seed(seed)

    def draw(name: str, parameter: nn.Parameter) -> torch.Tensor:
        new = torch.zeros(parameter.shape)
        if generator is not None and not name.endswith("bias"):
            nn.init.trunc_normal_(new, std=_STD, a=-2 * _STD, b=2 * _STD, generator=generator)
        return new.to(parameter)

    for module in site.weights:
        set_weights(undo, module, draw)
    for norm in site.norms:
        set_weights(undo, norm, lambda name, parameter: torch.full_like(parameter, name == "weight"))


def mask_heads(undo: ExitStack, layers: LayeredModel, matrix: torch.Tensor) -> None:
    """Multiplies heads' results by the matrix [L, H]."""
    for block in range(len(layers.blocks)):
        heads = layers.heads(block)
        if heads is not None:
            undo.callback(heads.context.hook(_times(matrix, block, heads)).remove)


def _times(matrix: torch.Tensor, block: int, heads: Heads) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda context: context * matrix[block, : len(heads)].to(context).repeat_interleave(heads.width)


def feed_same(undo: ExitStack, layers: LayeredModel) -> None:
    """Has every block take what the one that runs first takes."""
    first: list[torch.Tensor] = []

    def give(x: torch.Tensor) -> torch.Tensor | None:
        if first:
            return first[0]
        first.append(x)
        return None

    # kept past the forward pass: blocks that are computed again for their gradients need it too
    undo.callback(layers.base.register_forward_pre_hook(lambda *_: first.clear()).remove)
    for number in range(len(layers.blocks)):
        undo.callback(layers.site(number, "encoder").start.hook(give).remove)
