"""Sub-layers in bf16 and fp16: no further from fp64 than twice the same formula op by op in the same precision."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from bertkernels.nn import Attention, DynamicConv, FeedForward, Layout, MixedAttention, PostNorm
from tests.models.half import HALVES, MODES, Run, assert_within_twice, autocast

B, T, C = 4, 40, 48

MAKERS = {
    "attention": lambda: Attention(C, heads=4),
    "mixed": lambda: MixedAttention(C, heads=2, kernel_size=9),
    "mixed, even kernel": lambda: MixedAttention(C, heads=3, head_size=16, kernel_size=4),
    "dynamic_conv": lambda: DynamicConv(C, heads=4),
    "ffn": lambda: FeedForward(C, 96),
    "grouped ffn": lambda: FeedForward(C, 96, groups=4, activation="gelu_tanh"),
    "post norm": lambda: PostNorm(MixedAttention(C, heads=2), C),
}


def eager(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The module's formula for x [B, T, C] in torch's own operations."""
    if isinstance(module, PostNorm):
        return module.norm(x + eager(module.function, x))
    if isinstance(module, FeedForward):
        return _eager_ffn(module, x)
    shape = (module.heads, module.head_size)
    if isinstance(module, DynamicConv):
        gated = module.value(x) * module.gate(x).sigmoid()
        kernels = module.conv_kernel(module.pointwise(_depthwise(module.depthwise, gated)))
        return module.output(_convolve(gated.unflatten(-1, shape), kernels.unflatten(-1, (module.heads, -1))))
    query, key, value = (
        layer(x).unflatten(-1, shape).transpose(1, 2) for layer in (module.query, module.key, module.value)
    )
    probabilities = (query @ key.transpose(-1, -2) / math.sqrt(module.head_size)).softmax(-1)
    attended = (probabilities @ value).transpose(1, 2).flatten(2)
    if isinstance(module, Attention):
        return module.output(attended)
    span = _depthwise(module.depthwise, x)
    kernels = module.conv_kernel(module.pointwise(span) * module.query(x)).unflatten(-1, (module.heads, -1))
    convolved = _convolve(module.conv_value(x).unflatten(-1, shape), kernels)
    return module.output(torch.cat([attended, convolved], -1))


def _depthwise(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """x [B, T, C] → [B, T, C]"""
    across = functional.pad(x, (0, 0, *_around(module.weight.shape[1]))).transpose(1, 2)  # [B, C, T + K - 1]
    return functional.conv1d(across, module.weight[:, None], groups=x.shape[-1]).transpose(1, 2)


def _convolve(values: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """values [B, T, H, D], logits [B, T, H, K] → [B, T, H·D]"""
    taps = logits.shape[-1]
    windows = functional.pad(values, (0, 0, 0, 0, *_around(taps))).unfold(1, taps, 1)  # [B, T, H, D, K]
    return (windows @ logits.softmax(-1)[..., None]).squeeze(-1).flatten(2)


def _around(taps: int) -> tuple[int, int]:
    return (taps - 1) // 2, taps // 2


def _eager_ffn(module: FeedForward, x: torch.Tensor) -> torch.Tensor:
    if not module.grouped:
        return module.down(functional.gelu(module.up(x)))
    for layer, approximate in ((module.up, "tanh"), (module.down, None)):
        groups = layer.weight.shape[0]
        product = x.unflatten(-1, (groups, -1)).transpose(1, 2) @ layer.weight  # [B, G, T, O]
        x = product.transpose(1, 2).flatten(2) + layer.bias
        x = x if approximate is None else functional.gelu(x, approximate=approximate)
    return x


def run(function, module: nn.Module, x: torch.Tensor, half: torch.dtype | None, real=None) -> Run:
    """`function`'s result for x and the gradients of x and all parameters."""
    x = x.clone().requires_grad_()
    module.zero_grad()
    with autocast(half):
        out = function(module, x)
    states = out.flatten(0, -2) if real is None else out[real]
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (states * weights.to(states.dtype)).sum().backward()
    gradient = x.grad.flatten(0, -2) if real is None else x.grad[real]
    named = {name: parameter.grad.double() for name, parameter in module.named_parameters()}
    return Run(states.detach(), named | {"x.gradient": gradient.double()})


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["whole", "lengths", "packed"])
@pytest.mark.parametrize("name", MAKERS)
def test_error_is_within_twice_eagers(name, form, mode, half):
    torch.manual_seed(0)
    module = MAKERS[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    x = torch.randn(B, T, C, generator=generator)
    if mode == "dtype":
        module, x = module.to(half), x.to(half)
    plain = run(eager, copy.deepcopy(module).double(), x.double(), None)
    half = half if mode == "autocast" else None
    same_precision = run(eager, module, x, half)
    if form == "whole":
        got = run(lambda module, x: module(x), module, x, half)
    elif form == "lengths":
        lengths = torch.full((B,), T, dtype=torch.int32)
        wider = torch.full((B, T + 9, C), 1e4).to(x.dtype)  # padding that would show
        wider[:, :T] = x
        real = (torch.arange(T + 9) < T).expand(B, -1)
        got = run(lambda module, x: module(x, Layout(lengths=lengths)), module, wider, half, real)
    else:
        ends = torch.arange(0, B * T + 1, T, dtype=torch.int32)
        got = run(lambda module, x: module(x, Layout(cu_seqlens=ends, max_seqlen=T)), module, x.flatten(0, 1), half)
    assert_within_twice(got, same_precision, plain, f"{name}, {form}")


@pytest.mark.parametrize("half", HALVES)
def test_post_norm_keeps_a_sub_layers_full_precision_under_autocast(half):
    """A sub-layer may return fp32 under autocast; the sum and the norm then have it too, and so has the gradient."""
    torch.manual_seed(0)
    module = PostNorm(nn.Identity(), C)
    module.function.forward = lambda x, layout: x * 1.0
    x = torch.randn(5, C, requires_grad=True)
    with autocast(half):
        out = module(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, module(x))
