"""Sub-layers as one op: the same results and gradients, and modules wherever something else stands in their place."""

import pytest
import torch
from torch import nn

from bertkernels import ops
from bertkernels.nn import (
    ALL_TOKENS,
    Attention,
    DynamicConv,
    FeedForward,
    Layout,
    MixedAttention,
    PostNorm,
    whole_sublayer,
)
from bertkernels.nn.residual import apply_residual_norm

pytestmark = pytest.mark.skipif(
    not ops.can_run("mixed_block", "cpu", "cpu")[0], reason=ops.can_run("mixed_block", "cpu", "cpu")[1] or "it can run"
)
FUNCTIONS = {
    "attention": lambda: Attention(32, heads=4, dropout=0.1),
    "narrow attention": lambda: Attention(32, heads=3, head_size=7, dropout=0.1),
    "mixed": lambda: MixedAttention(32, heads=2, kernel_size=5, dropout=0.1),
    "dynamic_conv": lambda: DynamicConv(32, heads=4, kernel_size=5),
    "dynamic_conv, even kernel": lambda: DynamicConv(32, heads=3, head_size=7, kernel_size=4),
    "ffn": lambda: FeedForward(32, 64),
    "grouped ffn": lambda: FeedForward(32, 64, groups=2),
}


@pytest.fixture(params=FUNCTIONS)
def sublayer(request):
    torch.manual_seed(0)
    return PostNorm(FUNCTIONS[request.param](), 32, dropout=0.1).eval()


@pytest.fixture
def called(monkeypatch):
    """Names of the ops that ran as a block."""
    names = []
    for name in ("attention_block", "mixed_block", "feed_forward_block", "dynamic_conv_block"):
        run = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *a, _run=run, _name=name, **k: names.append(_name) or _run(*a, **k))
    recall = whole_sublayer.recall

    def recalled(*arguments):
        call = recall(*arguments)
        if call is not None:
            names.append(call.__module__.split(".")[-1])
        return call

    monkeypatch.setattr(whole_sublayer, "recall", recalled)
    return names


def both(sublayer, x, layout=ALL_TOKENS):
    """As inference runs it, and composed of its parts."""
    with torch.no_grad():
        return sublayer(x, layout), composed(sublayer, x, layout)


def composed(sublayer, x, layout=ALL_TOKENS):
    return apply_residual_norm(sublayer.norm, sublayer.dropout, sublayer.function(x, layout), x)


LAYOUTS = {
    "whole": Layout(),
    "masked": Layout(attention_mask=torch.arange(20)[None, None, None] < torch.tensor([20, 7, 1])[:, None, None, None]),
    "packed": Layout(cu_seqlens=torch.tensor([0, 9, 9, 20], dtype=torch.int32), max_seqlen=11),
    "lengths": Layout(lengths=torch.tensor([20, 7, 1], dtype=torch.int32)),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_same_as_its_parts(sublayer, called, name):
    x = torch.randn(20, 32) if name == "packed" else torch.randn(3, 20, 32)
    got, want = both(sublayer, x, LAYOUTS[name])
    torch.testing.assert_close(got, want, atol=3e-6, rtol=3e-6)
    in_parts = name == "lengths" and not isinstance(sublayer.function, FeedForward)
    assert len(called) == (0 if in_parts else 1)


def test_a_mask_of_pairs_and_dropout_on_probabilities_are_for_the_parts(called):
    torch.manual_seed(0)
    sublayer, x = PostNorm(Attention(32, heads=4, dropout=0.5), 32), torch.randn(3, 20, 32)
    causal = Layout(attention_mask=torch.ones(20, 20, dtype=torch.bool).tril()[None, None])
    got, want = both(sublayer.eval(), x, causal)
    assert torch.equal(got, want) and not called
    with torch.no_grad():
        sublayer.train()
        assert not torch.equal(sublayer(x), sublayer(x)) and not called
        sublayer.function.dropout = 0.0
        assert torch.equal(sublayer(x), sublayer(x)) and called == ["attention_block"] * 2


@pytest.mark.parametrize("training", [False, True])
def test_gradients_and_dropout_are_those_of_its_parts(sublayer, called, training):
    sublayer.train(training)
    for module in sublayer.function.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # on attention's probabilities, which one op draws in an order of its own
    x, grad = torch.randn(3, 20, 32, requires_grad=True), torch.randn(3, 20, 32)
    results = []
    for function in (sublayer, lambda x: composed(sublayer, x)):
        torch.manual_seed(3)
        out = function(x)
        results.append((out, *torch.autograd.grad(out, [x, *sublayer.parameters()], grad)))
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=2e-5, rtol=2e-5)
    differentiated = {FeedForward: ["feed_forward_block"], DynamicConv: ["dynamic_conv_block"]}
    assert called == differentiated.get(type(sublayer.function), [])


def test_other_dtypes_compose(sublayer, called):
    with torch.autocast("cpu", torch.bfloat16):
        sublayer(torch.randn(2, 5, 32))
        with torch.no_grad():
            sublayer(torch.randn(2, 5, 32))
    sublayer.double()(torch.randn(2, 5, 32).double())
    with torch.no_grad():
        sublayer(torch.randn(2, 5, 32).double())
    assert called == []


def test_a_dropout_of_another_kind_is_called(sublayer, called):
    class Halves(nn.Dropout):
        def forward(self, x):
            return x / 2

    x = torch.randn(2, 5, 32)
    for dropout in (Halves(0.3), nn.Dropout(1.0)):
        sublayer.dropout = dropout.train()
        want = nn.functional.layer_norm(
            x + dropout(sublayer.function(x)), (32,), sublayer.norm.weight, sublayer.norm.bias, sublayer.norm.eps
        )
        torch.testing.assert_close(sublayer(x), want, atol=3e-6, rtol=3e-6)
    assert called == []


@pytest.mark.parametrize("training", [False, True])
def test_what_stands_in_dropouts_place_is_called_unless_it_does_nothing(sublayer, called, training):
    class Halves(nn.Module):
        def forward(self, x):
            return x / 2

    x = torch.randn(2, 5, 32)
    sublayer.train(training)
    for module in sublayer.function.modules():
        if isinstance(module, (Attention, MixedAttention)):
            module.dropout = 0.0
    for dropout, factor, ops_run in ((Halves(), 0.5, 0), (nn.Identity(), 1.0, 1)):
        sublayer.dropout = dropout.train(training)
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                want = nn.functional.layer_norm(
                    x + factor * sublayer.function(x),
                    (32,),
                    sublayer.norm.weight,
                    sublayer.norm.bias,
                    sublayer.norm.eps,
                )
                called.clear()
                torch.testing.assert_close(sublayer(x), want, atol=3e-6, rtol=3e-6)
            if not grad:
                assert len(called) == ops_run


def test_whatever_stands_in_a_modules_place_takes_effect(sublayer, called):
    x = torch.randn(2, 5, 32)
    modules = dict(sublayer.named_modules())
    modules.pop("")
    modules.pop("function.depthwise", None)  # only its weight is ever read
    for name, module in modules.items():
        seen = []
        handle = module.register_forward_hook(lambda *a, _seen=seen: _seen.append(1))
        for grad in (False, True):
            seen.clear()
            with torch.set_grad_enabled(grad):
                sublayer(x)
            assert seen, f"a hook on {name} was passed over"
        handle.remove()
    assert called == []
    first = {FeedForward: "up", DynamicConv: "pointwise"}.get(type(sublayer.function), "key")
    inner = getattr(sublayer.function, first)

    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * inner(x)

    before = both(sublayer, x)[0]
    setattr(sublayer.function, first, Doubled())
    got, want = both(sublayer, x)
    torch.testing.assert_close(got, want, atol=3e-6, rtol=3e-6)
    assert not torch.allclose(got, before)
