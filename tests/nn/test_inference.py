"""Sub-layers as one op: the same results, and modules again wherever something else stands in their place."""

import pytest
import torch
from torch import nn

from bertkernels import ops
from bertkernels.nn import ALL_TOKENS, FeedForward, Layout, MixedAttention, PostNorm

pytestmark = pytest.mark.skipif(
    not ops.can_run("mixed_block", "cpu", "cpu")[0], reason=ops.can_run("mixed_block", "cpu", "cpu")[1] or "it can run"
)
FUNCTIONS = {
    "mixed": lambda: MixedAttention(32, heads=2, kernel_size=5, dropout=0.1),
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
    for name in ("mixed_block", "feed_forward_block"):
        run = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *a, _run=run, _name=name, **k: names.append(_name) or _run(*a, **k))
    return names


def both(sublayer, x, layout=ALL_TOKENS):
    """As inference runs it, and as training composes it."""
    with torch.no_grad():
        out = sublayer(x, layout)
    return out, sublayer(x, layout).detach()


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
    composed = name == "lengths" and isinstance(sublayer.function, MixedAttention)
    assert len(called) == (0 if composed else 1)


def test_training_and_other_dtypes_compose(sublayer, called):
    sublayer(torch.randn(2, 5, 32))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        sublayer(torch.randn(2, 5, 32))
    with torch.no_grad():
        sublayer.train()(torch.randn(2, 5, 32))
        sublayer.double().eval()(torch.randn(2, 5, 32).double())
    assert called == []


def test_whatever_stands_in_a_modules_place_takes_effect(sublayer, called):
    x = torch.randn(2, 5, 32)
    modules = dict(sublayer.named_modules())
    modules.pop("")
    modules.pop("function.depthwise", None)  # only its weight is ever read
    for name, module in modules.items():
        seen = []
        handle = module.register_forward_hook(lambda *a, _seen=seen: _seen.append(1))
        with torch.no_grad():
            sublayer(x)
        handle.remove()
        assert seen, f"a hook on {name} was passed over"
    assert called == []
    first = "up" if isinstance(sublayer.function, FeedForward) else "key"
    inner = getattr(sublayer.function, first)

    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * inner(x)

    before = both(sublayer, x)[0]
    setattr(sublayer.function, first, Doubled())
    got, want = both(sublayer, x)
    torch.testing.assert_close(got, want, atol=3e-6, rtol=3e-6)
    assert not torch.allclose(got, before)
