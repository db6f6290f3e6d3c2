"""Sub-layers alone: against torch's own layers, and the three forms of a batch against each other."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from bertkernels.nn import (
    ACTIVATIONS,
    Attention,
    DepthwiseConv1d,
    DynamicConv,
    FeedForward,
    GlorotLinear,
    GroupedLinear,
    Layout,
    LinearAttention,
    MixedAttention,
    PostNorm,
    VariedFrame,
)

B, T, C = 3, 9, 16
LENGTHS = [9, 4, 1]

MAKERS = {
    "attention": lambda: Attention(C, heads=4),
    "narrow attention": lambda: Attention(C, heads=2, head_size=3),
    "linear attention": lambda: LinearAttention(C, heads=4),
    "mixed": lambda: MixedAttention(C, heads=2, kernel_size=5),
    "mixed, wide": lambda: MixedAttention(C, heads=4, head_size=4, kernel_size=3),
    "mixed, even kernel wider than the sequence": lambda: MixedAttention(C, heads=1, head_size=8, kernel_size=12),
    "dynamic_conv": lambda: DynamicConv(C, heads=4, kernel_size=5),
    "dynamic_conv, even kernel wider than the sequence": lambda: DynamicConv(C, heads=3, head_size=7, kernel_size=12),
    "depthwise": lambda: DepthwiseConv1d(C, 5),
    "ffn": lambda: FeedForward(C, 24),
    "grouped ffn": lambda: FeedForward(C, 24, groups=4),
    "ffn with a norm": lambda: FeedForward(C, 24, norm_eps=1e-12),
    "grouped ffn with a norm": lambda: FeedForward(C, 24, groups=4, norm_eps=1e-12),
    "varied frame": lambda: VariedFrame(LinearAttention(C, heads=2), C, residual="gated", norm="output"),
    "post norm": lambda: PostNorm(MixedAttention(C, heads=2), C),
}


@pytest.fixture(params=MAKERS)
def module(request):
    torch.manual_seed(0)
    return MAKERS[request.param]().eval()


def inputs():
    return torch.randn(B, T, C, generator=torch.Generator().manual_seed(1))


def real():
    return torch.arange(T) < torch.tensor(LENGTHS)[:, None]


def alone(module, x):
    """Each sequence without its padding."""
    return [module(x[row : row + 1, :length])[0] for row, length in enumerate(LENGTHS)]


def test_padding_past_the_lengths_is_not_read(module):
    x = inputs().masked_fill(~real()[..., None], float("nan")).requires_grad_()
    out = module(x, Layout(lengths=torch.tensor(LENGTHS, dtype=torch.int32)))
    assert out.shape == (B, T, C)
    torch.testing.assert_close(out[real()], torch.cat(alone(module, inputs())), atol=1e-6, rtol=1e-5)
    if not isinstance(module, (FeedForward, PostNorm, VariedFrame)):  # these work on each token, padding too
        out[real()].sum().backward()
        assert all(p.grad.isfinite().all() for p in (x, *module.parameters()))


def test_lengths_equal_sequences_alone(module):
    out = module(inputs(), Layout(lengths=torch.tensor(LENGTHS, dtype=torch.int32)))
    torch.testing.assert_close(out[real()], torch.cat(alone(module, inputs())), atol=1e-6, rtol=1e-5)


def test_packed_sequences_equal_sequences_alone(module):
    ends = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)
    for longest in (max(LENGTHS), None):
        out = module(inputs()[real()], Layout(cu_seqlens=ends, max_seqlen=longest))
        torch.testing.assert_close(out, torch.cat(alone(module, inputs())), atol=1e-6, rtol=1e-5)


def test_gradients_reach_everything(module):
    x = inputs().requires_grad_()
    weights = torch.randn(B, T, C, generator=torch.Generator().manual_seed(2))
    (module(x) * weights).sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad is not None and tensor.grad.isfinite().all()


def test_compiles_to_one_graph(module):
    torch._dynamo.reset()
    out = torch.compile(module, backend="aot_eager", fullgraph=True)(inputs())
    torch.testing.assert_close(out, module(inputs()))


# -- attention ---------------------------------------------------------------------------------------------------------


def test_attention_is_torchs():
    torch.manual_seed(0)
    module = Attention(C, heads=4).eval()
    theirs = nn.MultiheadAttention(C, 4, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([module.query.weight, module.key.weight, module.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([module.query.bias, module.key.bias, module.value.bias]))
        theirs.out_proj.load_state_dict(module.output.state_dict())
    x = inputs()
    expected, maps = theirs(x, x, x, key_padding_mask=~real(), average_attn_weights=False)
    bool_mask = real()[:, None, None, :]
    added = torch.zeros(B, 1, 1, T).masked_fill(~bool_mask, float("-inf"))
    for mask in (bool_mask, added):
        torch.testing.assert_close(module(x, Layout(attention_mask=mask)), expected, atol=1e-6, rtol=1e-5)
        found = module.attention_probs(x, Layout(attention_mask=mask))
        torch.testing.assert_close(found, maps, atol=1e-6, rtol=1e-5)


def test_attention_probs_need_the_padded_form():
    module = Attention(C, heads=4)
    with pytest.raises(ValueError, match="padded form"):
        module.attention_probs(torch.randn(4, C), Layout(cu_seqlens=torch.tensor([0, 4], dtype=torch.int32)))


def test_attention_dropout_is_for_training():
    torch.manual_seed(0)
    module = Attention(C, heads=4, dropout=0.5)
    assert not torch.equal(module(inputs()), module(inputs()))
    module.eval()
    assert torch.equal(module(inputs()), module(inputs()))


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="hidden_size 16 must be divisible by the number of heads, 3"):
        Attention(16, heads=3)
    with pytest.raises(ValueError, match="divisible by the number of heads, 6"):
        MixedAttention(16, heads=3)
    with pytest.raises(ValueError, match="hidden_size 16 must be divisible by the number of heads, 5"):
        DynamicConv(16, heads=5)
    assert Attention(16, heads=3, head_size=4)(inputs()).shape == (B, T, C)


# -- mixed attention ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("taps", [1, 4, 5])
def test_mixed_attention_is_the_papers_formula(taps):
    torch.manual_seed(0)
    module = MixedAttention(C, heads=2, head_size=3, kernel_size=taps).double().eval()
    x = inputs().double()
    left = (taps - 1) // 2
    padded = functional.pad(x, (0, 0, left, taps - 1 - left))
    span = sum(padded[:, k : k + T] * module.depthwise.weight[:, k] for k in range(taps))
    query = module.query(x)
    kernels = module.conv_kernel(module.pointwise(span) * query).view(B, T, 2, taps).softmax(-1)
    values = functional.pad(module.conv_value(x), (0, 0, left, taps - 1 - left)).view(B, T + taps - 1, 2, 3)
    convolved = sum(kernels[..., k, None] * values[:, k : k + T] for k in range(taps))  # [B, T, H, D]
    keys, plain = module.key(x).view(B, T, 2, 3), module.value(x).view(B, T, 2, 3)
    maps = (torch.einsum("bthd,bshd->bhts", query.view(B, T, 2, 3), keys) / 3**0.5).softmax(-1)
    attended = torch.einsum("bhts,bshd->bthd", maps, plain)
    expected = module.output(torch.cat([attended, convolved], dim=2).flatten(2))
    torch.testing.assert_close(module(x), expected)
    torch.testing.assert_close(module.attention_probs(x), maps)


# -- dynamic convolution -----------------------------------------------------------------------------------------------


def dynamic_conv_by_unfolding(module, x):
    """The published formula for x [B, T, C] in torch's own operations, windows copied out."""
    taps = module.depthwise.weight.shape[1]
    around = (0, 0, (taps - 1) // 2, taps // 2)
    gated = functional.glu(torch.cat([module.value(x), module.gate(x)], -1))  # [B, T, H·D]
    windows = functional.pad(gated, around).unfold(1, taps, 1)  # [B, T, H·D, K]
    span = module.pointwise((windows * module.depthwise.weight).sum(-1))
    kernels = module.conv_kernel(span).unflatten(-1, (module.heads, taps)).softmax(-1)  # [B, T, H, K]
    heads = windows.unflatten(2, (module.heads, module.head_size))  # [B, T, H, D, K]
    return module.output((heads @ kernels[..., None]).squeeze(-1).flatten(2))


@pytest.mark.parametrize("taps", [1, 4, 9])
@pytest.mark.parametrize("heads, head_size", [(4, None), (3, 5)])
def test_dynamic_conv_is_the_published_formula(taps, heads, head_size):
    torch.manual_seed(0)
    module = DynamicConv(C, heads, head_size, kernel_size=taps).double()
    x = inputs().double().requires_grad_()
    weights = torch.randn(B, T, C, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    out, expected = module(x), dynamic_conv_by_unfolding(module, x)
    torch.testing.assert_close(out, expected)
    wanted = (x, *module.parameters())
    for found, gradient in zip(
        torch.autograd.grad((out * weights).sum(), wanted),
        torch.autograd.grad((expected * weights).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("form", ["padded", "lengths", "packed"])
def test_dynamic_conv_passes_gradcheck(form):
    torch.manual_seed(0)
    module = DynamicConv(4, heads=2, kernel_size=3).double()
    if form == "packed":
        x, layout = torch.randn(7, 4), Layout(cu_seqlens=torch.tensor([0, 4, 4, 7], dtype=torch.int32), max_seqlen=4)
    else:
        lengths = torch.tensor([5, 2], dtype=torch.int32) if form == "lengths" else None
        x, layout = torch.randn(2, 5, 4), Layout(lengths=lengths)
    names = [name for name, _ in module.named_parameters()]

    def function(x, *parameters):
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x, layout))

    assert torch.autograd.gradcheck(function, (x.double().requires_grad_(), *module.parameters()))


def test_dynamic_conv_sees_padding_only_where_it_is_told_nothing_but_a_mask():
    torch.manual_seed(0)
    module = DynamicConv(C, heads=4)
    before, after = inputs(), inputs().masked_fill(~real()[..., None], 3.0)
    masked = Layout(attention_mask=real()[:, None, None, :])  # as the released code, whose convolutions see padding
    assert not torch.allclose(module(before, masked)[real()], module(after, masked)[real()])
    told = Layout(lengths=torch.tensor(LENGTHS, dtype=torch.int32))
    assert torch.equal(module(before, told)[real()], module(after, told)[real()])


# -- depthwise, grouped, feed-forward ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_depthwise_is_torchs(bias):
    torch.manual_seed(0)
    module = DepthwiseConv1d(C, 5, bias=bias)
    theirs = nn.Conv1d(C, C, 5, padding=2, groups=C, bias=bias)
    theirs.load_state_dict({**module.state_dict(), "weight": module.weight.unsqueeze(1)})
    torch.testing.assert_close(module(inputs()), theirs(inputs().transpose(1, 2)).transpose(1, 2))


def test_causal_depthwise_does_not_see_the_future():
    torch.manual_seed(0)
    module = DepthwiseConv1d(C, 5, causal=True)
    x = inputs()
    changed = x.clone()
    changed[:, 5:] += 1
    before, after = module(x), module(changed)
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.equal(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_grouped_linear_is_linear_layers_side_by_side(activation, bias):
    torch.manual_seed(0)
    module = GroupedLinear(C, 24, 4, bias=bias, activation=activation)
    parts = []
    for group, chunk in enumerate(inputs().chunk(4, dim=-1)):
        part = chunk @ module.weight[group]
        parts.append(part + module.bias.chunk(4)[group] if bias else part)
    torch.testing.assert_close(module(inputs()), ACTIVATIONS[activation](torch.cat(parts, dim=-1)))


def test_one_group_is_a_linear_layer():
    torch.manual_seed(0)
    grouped, whole = GroupedLinear(C, 24, 1), nn.Linear(C, 24)
    whole.load_state_dict({"weight": grouped.weight[0].T, "bias": grouped.bias})
    torch.testing.assert_close(grouped(inputs()), whole(inputs()))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "linear"])
def test_feed_forward(groups, activation):
    torch.manual_seed(0)
    module = FeedForward(C, 24, groups=groups, activation=activation)

    def apply(layer, x):
        if groups == 1:
            return functional.linear(x, layer.weight, layer.bias)
        return functional.linear(x, torch.block_diag(*layer.weight).T, layer.bias)

    middle = ACTIVATIONS[activation](apply(module.up, inputs()))
    torch.testing.assert_close(module(inputs()), apply(module.down, middle))
    assert middle.shape == (B, T, 24)


def test_post_norm():
    torch.manual_seed(0)
    module = PostNorm(FeedForward(C, 24), C, dropout=0.5, eps=1e-3).eval()
    x = inputs()
    expected = functional.layer_norm(x + module.function(x), (C,), module.norm.weight, module.norm.bias, 1e-3)
    torch.testing.assert_close(module(x), expected)
    assert not torch.equal(module.train()(x), module(x))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: GroupedLinear(16, 24, 3), "groups must divide"),
        (lambda: GroupedLinear(16, 24, 0), "groups must divide"),
        (lambda: GroupedLinear(16, 24, 4, activation="mish"), "activation must be one of elu"),
        (lambda: FeedForward(16, 24, activation="mish"), "activation must be one of elu"),
        (lambda: DepthwiseConv1d(16, 0), "at least 1"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# -- initialisation of modules used alone ------------------------------------------------------------------------------


def test_modules_alone_start_as_torchs_do():
    torch.manual_seed(0)
    grouped, depthwise = GroupedLinear(400, 400, 4), DepthwiseConv1d(2000, 9)
    for parameter, bound in (
        (grouped.weight, 0.1),
        (grouped.bias, 0.1),
        (depthwise.weight, 1 / 3),
        (depthwise.bias, 1 / 3),
    ):
        assert 0.95 * bound < parameter.abs().max() <= bound
    glorot = GlorotLinear(100, 50)
    bound = (6 / 150) ** 0.5
    assert 0.99 * bound < glorot.weight.abs().max() <= bound and (glorot.bias == 0).all()
