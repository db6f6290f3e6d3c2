"""Frames with other residual connections and norms, against their formulas in plain torch."""

import pytest
import torch
from torch import nn
from torch.nn.functional import gelu, layer_norm, linear

from bertkernels.nn import RESIDUALS, Attention, FeedForward, Layout, NoResidual, PostNorm, ScaledResidual, VariedFrame

B, T, C = 2, 5, 16


def inputs():
    return torch.randn(B, T, C, generator=torch.Generator().manual_seed(1))


def frame(**options):
    torch.manual_seed(0)
    made = VariedFrame(FeedForward(C, 24), C, **options).eval()
    with torch.no_grad():
        for parameter in made.parameters():  # norms too are no longer what they start as
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made


def weighed(made, name, x):
    """The residual connection of this name by hand."""
    if name in ("gated", "weighted"):
        weight = linear(x, made.residual.weight.weight, made.residual.weight.bias)  # [B, T, 1]
        return (1 / (1 + torch.exp(-weight)) if name == "gated" else weight) * x
    return {"plain": x, "scaled": made.residual.scale * x if name == "scaled" else None, "none": 0 * x}[name]


@pytest.mark.parametrize("activation", [None, "gelu"])
@pytest.mark.parametrize("norm", ["sum", "output", "none"])
@pytest.mark.parametrize("residual", RESIDUALS)
def test_is_its_formula(residual, norm, activation):
    made, x = frame(residual=residual, norm=norm, activation=activation, eps=1e-3), inputs()
    parameters = [x.requires_grad_(), *made.parameters()]

    out = made.function(x)
    out = out if activation is None else gelu(out)
    if norm == "output":
        out = layer_norm(out, (C,), made.norm.weight, made.norm.bias, 1e-3)
    expected = weighed(made, residual, x) + out
    if norm == "sum":
        expected = layer_norm(expected, (C,), made.norm.weight, made.norm.bias, 1e-3)

    found = made(x)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    factors = torch.randn(B, T, C, generator=torch.Generator().manual_seed(2))
    ours = torch.autograd.grad((found * factors).sum(), parameters)
    theirs = torch.autograd.grad((expected * factors).sum(), parameters)
    for gradient, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-5, rtol=1e-4)
        assert gradient.any()


def test_with_nothing_varied_it_is_post_norm():
    made = frame()
    plain = PostNorm(FeedForward(C, 24), C).eval()
    plain.load_state_dict(made.state_dict())
    torch.testing.assert_close(made(inputs()), plain(inputs()))


def test_without_a_residual_connection_the_input_counts_through_the_function_alone():
    x = torch.full((B, T, C), float("inf"))
    assert not NoResidual()(x).any()
    made = VariedFrame(nn.Module(), C, residual="none")
    made.function.forward = lambda x, layout: torch.arange(float(C)).expand(x.shape)
    assert torch.equal(made(inputs()), made(10 * inputs()))


def test_a_scale_starts_as_a_plain_connection():
    assert torch.equal(ScaledResidual()(inputs()), inputs()) and ScaledResidual().scale.shape == (1,)


@pytest.mark.parametrize("norm", ["sum", "output", "none"])
def test_dropout_falls_on_what_is_added_to_the_residual(norm):
    made, x = frame(dropout=0.5, norm=norm).train(), inputs()
    torch.manual_seed(3)
    found = made(x)
    torch.manual_seed(3)
    if norm == "sum":
        assert not torch.equal(found, made.eval()(x))
        return
    out = made.function(x)
    out = made.norm(out) if norm == "output" else out
    torch.testing.assert_close(found, x + made.dropout(out))


@pytest.mark.parametrize("groups", [1, 4])
def test_a_feed_forwards_inner_norm_is_its_formula(groups):
    torch.manual_seed(0)
    module, x = FeedForward(C, 24, groups=groups, activation="relu", norm_eps=1e-3).eval(), inputs()
    between = layer_norm(module.up(x), (24,), module.norm.weight, module.norm.bias, 1e-3)
    torch.testing.assert_close(module(x), module.down(torch.relu(between)), atol=1e-6, rtol=1e-5)
    assert not (module.up(x) >= 0).all(), "the activation comes after the norm alone"
    in_post_norm = PostNorm(module, C).eval()
    torch.testing.assert_close(in_post_norm(x), layer_norm(x + module(x), (C,)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("residual", RESIDUALS)
def test_padding_does_no_harm_and_packed_equals_padded(residual):
    torch.manual_seed(0)
    made = VariedFrame(Attention(C, heads=2), C, residual=residual, norm="output").eval()
    x, lengths = inputs(), torch.tensor([5, 3], dtype=torch.int32)
    real = torch.arange(T) < lengths[:, None]
    packed = made(x[real], Layout(cu_seqlens=torch.tensor([0, 5, 8], dtype=torch.int32), max_seqlen=5))
    harmed = x.masked_fill(~real[..., None], float("nan"))
    padded = made(harmed, Layout(lengths=lengths))
    torch.testing.assert_close(padded[real], packed, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": "gate"}, "residual must be one of plain, gated, weighted, scaled, none, got 'gate'"),
        ({"norm": "pre"}, "norm must be one of sum, output, none, got 'pre'"),
        ({"activation": "softsign"}, "activation must be one of"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        VariedFrame(FeedForward(C, 24), C, **options)
