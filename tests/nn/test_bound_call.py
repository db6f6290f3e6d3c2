"""Calls that sub-layers keep: made again as long as nothing has changed, and forgotten as soon as anything has."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from torch import nn

from bertkernels import ops
from bertkernels.nn import (
    Attention,
    DynamicConv,
    ExpressionFeedForward,
    FeedForward,
    Layout,
    MixedAttention,
    PostNorm,
    PostNormStack,
    bound_call,
    whole_sublayer,
)
from bertkernels.nn.residual import apply_residual_norm

pytestmark = pytest.mark.skipif(
    not ops.can_run("mixed_block", "cpu", "cpu")[0], reason=ops.can_run("mixed_block", "cpu", "cpu")[1] or "it can run"
)
EXPRESSION = "tanh(linear(gelu(linear(max(x, relu(x)), w1)), w2))"
FRAMES = {
    "attention": lambda: framed(Attention(32, heads=4)),
    "mixed": lambda: framed(MixedAttention(32, heads=2, kernel_size=5)),
    "dynamic_conv": lambda: framed(DynamicConv(32, heads=4, kernel_size=5)),
    "ffn": lambda: framed(FeedForward(32, 32)),
    "grouped ffn": lambda: framed(FeedForward(32, 32, groups=2)),
    "expression": lambda: framed(ExpressionFeedForward(32, 32, EXPRESSION)),
    "expressions": lambda: PostNormStack(framed(ExpressionFeedForward(32, 32, EXPRESSION)) for _ in range(2)),
}


def framed(function):
    return PostNorm(function, 32, dropout=0.1)


@pytest.fixture(params=FRAMES)
def sublayer(request):
    torch.manual_seed(0)
    made = FRAMES[request.param]().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)  # biases and norms too
    return made


@pytest.fixture
def recalled(monkeypatch):
    """Whether each recall found a call."""
    found, recall = [], whole_sublayer.recall

    def watched(*arguments):
        call = recall(*arguments)
        found.append(call is not None)
        return call

    monkeypatch.setattr(whole_sublayer, "recall", watched)
    return found


def frames_of(sublayer):
    return list(sublayer) if isinstance(sublayer, PostNormStack) else [sublayer]


def composed(sublayer, x, layout=None):
    """What the modules give, one by one."""
    for frame in frames_of(sublayer):
        x = apply_residual_norm(frame.norm, frame.dropout, frame.function(x, layout or Layout()), x)
    return x


def layer_of(sublayer):
    """A linear layer of the last frame's, with a square weight where it is of one matrix."""
    function = frames_of(sublayer)[-1].function
    return function.output if hasattr(function, "output") else function.down


@torch.no_grad()
def check(sublayer, x):
    torch.testing.assert_close(sublayer(x), composed(sublayer, x), atol=3e-6, rtol=3e-6)


@torch.no_grad()
def test_it_is_made_once_and_gives_the_same(sublayer, recalled):
    x = torch.randn(3, 20, 32)
    first, second, third = (sublayer(x) for _ in range(3))
    assert recalled == [False, True, True]
    assert torch.equal(first, second) and torch.equal(first, third)
    check(sublayer, x)
    for other in (torch.randn(1, 7, 32), torch.randn(2, 5, 64)[..., :32].transpose(0, 1), x[:0]):
        torch.testing.assert_close(sublayer(other), composed(sublayer, other), atol=3e-6, rtol=3e-6)
        assert sublayer(other).is_contiguous() and recalled[-1]


@torch.no_grad()
def test_masks_and_sequences_are_each_calls_own(sublayer, recalled):
    x = torch.randn(3, 20, 32)
    mask = torch.arange(20)[None, None, None] < torch.tensor([20, 7, 1])[:, None, None, None]
    starts = torch.tensor([0, -1, 9, -1, 9, -1, 20], dtype=torch.int32)[::2]  # not contiguous
    layouts = (Layout(), Layout(attention_mask=mask), Layout(cu_seqlens=starts, max_seqlen=11))
    for layout in layouts * 2:
        rows = x if layout.cu_seqlens is None else x[0]
        torch.testing.assert_close(sublayer(rows, layout), composed(sublayer, rows, layout), atol=3e-6, rtol=3e-6)
    assert recalled == [False] + [True] * 5


def in_place(sublayer):
    layer_of(sublayer).weight.mul_(2)


def through_data(sublayer):
    layer_of(sublayer).weight.data.mul_(2)


def other_parameter(sublayer):
    layer = layer_of(sublayer)
    layer.weight = nn.Parameter(layer.weight * 2)


def other_data(sublayer):
    layer = layer_of(sublayer)
    layer.weight.data = layer.weight.data * 2


def turned_in_place(sublayer):
    layer = layer_of(sublayer)
    layer.weight.data = layer.weight.data.transpose(-1, -2)  # the same address and sizes


def other_bias(sublayer):
    layer_of(sublayer).bias = nn.Parameter(torch.randn(32))


def no_bias(sublayer):
    layer_of(sublayer).bias = None


def loaded(sublayer):
    sublayer.load_state_dict({name: value + 0.1 for name, value in sublayer.state_dict().items()}, assign=True)


def other_layer(sublayer):
    layer = layer_of(sublayer)
    function = frames_of(sublayer)[-1].function
    name = next(name for name, child in function.named_children() if child is layer)
    setattr(function, name, nn.Sequential(layer, nn.Tanh()))


def other_class(sublayer):
    layer = layer_of(sublayer)
    layer.__class__ = type(
        "Doubled", (type(layer),), {"forward": lambda self, x: 2 * super(type(self), self).forward(x)}
    )


def other_forward(sublayer):
    layer = layer_of(sublayer)
    forward = layer.forward
    layer.forward = lambda x: 2 * forward(x)


def hooked(sublayer):
    layer_of(sublayer).register_forward_hook(lambda module, inputs, output: output * 2)


def hooked_function(sublayer):
    frames_of(sublayer)[-1].function.register_forward_hook(lambda module, inputs, output: output * 2)


def hooked_norm(sublayer):
    frames_of(sublayer)[-1].norm.register_forward_pre_hook(lambda module, inputs: (inputs[0] + torch.arange(32),))


def other_eps(sublayer):
    for frame in frames_of(sublayer):
        frame.norm.eps = 0.5


def one_other_eps(sublayer):
    frames_of(sublayer)[-1].norm.eps = 0.5


def other_norm(sublayer):
    frames_of(sublayer)[-1].norm = nn.LayerNorm(32, elementwise_affine=False)


def other_dropout(sublayer):
    class Halves(nn.Dropout):
        def forward(self, x):
            return x / 2

    frames_of(sublayer)[-1].dropout = Halves(0.3).train()


CHANGES = (
    in_place,
    through_data,
    other_parameter,
    other_data,
    other_bias,
    no_bias,
    loaded,
    other_layer,
    other_class,
    other_forward,
    hooked,
    hooked_function,
    hooked_norm,
    other_eps,
    one_other_eps,
    other_norm,
    other_dropout,
)


@torch.no_grad()
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_takes_effect(sublayer, change):
    x = torch.randn(3, 20, 32)
    sublayer(x)
    before = sublayer(x)
    change(sublayer)
    for _ in range(2):
        assert not torch.allclose(sublayer(x), before, atol=1e-3)
        check(sublayer, x)


def test_what_a_function_is_told_takes_effect():
    x = torch.randn(3, 20, 32)
    attention, ffn, stack = (framed(Attention(32, heads=4)), framed(FeedForward(32, 48)), FRAMES["expressions"]())
    for sublayer in (attention, ffn, stack):
        sublayer.eval()
        check(sublayer, x)
    before = [sublayer(x) for sublayer in (attention, ffn, stack)]
    attention.function.heads, attention.function.head_size = 2, 16
    ffn.function.activation = "relu"
    stack[1].function.choose("linear(relu(linear(x, w1)), w2)")
    for sublayer, old in zip((attention, ffn, stack), before, strict=True):
        check(sublayer, x)
        assert not torch.allclose(sublayer(x), old, atol=1e-3)
    stack[0].function.choose("linear(relu(linear(x, w1)), w2)")
    check(stack, x)
    for inner in (24, 32):
        for frame in stack:
            frame.function.choose("linear(relu(linear(x, w1)), w2)", inner)
        check(stack, x)
    stack.choose(1)
    with torch.no_grad():
        torch.testing.assert_close(stack(x), composed(stack[0], x), atol=3e-6, rtol=3e-6)


def test_only_plain_inference_recalls(sublayer, recalled):
    x = torch.randn(3, 20, 32)
    with torch.no_grad():
        sublayer(x)
        assert sublayer(x) is not None and recalled.pop()
    recalled.clear()
    sublayer(x).sum().backward()
    assert all(parameter.grad is not None for parameter in sublayer.parameters())
    with torch.no_grad():
        sublayer.train()
        assert not torch.equal(sublayer(x), sublayer(x))
        sublayer.eval()
        with torch.autocast("cpu", torch.bfloat16):
            sublayer(x)
        with ops.use("reference"):
            sublayer(x)
        with torch.profiler.profile():
            sublayer(x)
        assert not any(recalled)
        sublayer(x)
    with torch.inference_mode():
        sublayer(x)
        sublayer(x)
    assert recalled[-1]


@torch.no_grad()
def test_weights_that_lie_another_way_are_refused_as_ever(sublayer):
    x = torch.randn(3, 20, 32)
    sublayer(x)
    turned_in_place(sublayer)
    with pytest.raises(ValueError, match="contiguous"):
        sublayer(x)


@torch.no_grad()
def test_other_dtypes_and_back(sublayer, recalled):
    x = torch.randn(3, 20, 32)
    want = sublayer(x)
    sublayer.double()
    torch.testing.assert_close(sublayer(x.double()), want.double(), atol=1e-5, rtol=1e-5)
    with pytest.raises((RuntimeError, TypeError)):
        sublayer(x)
    sublayer.float()
    torch.testing.assert_close(sublayer(x), want, atol=1e-6, rtol=1e-6)
    assert not any(recalled)
    sublayer(x)
    assert recalled[-1]


@torch.no_grad()
def test_copies_have_calls_of_their_own(sublayer, recalled):
    x = torch.randn(3, 20, 32)
    sublayer(x)
    copies = (copy.deepcopy(sublayer), pickle.loads(pickle.dumps(sublayer)))
    in_place(sublayer)
    for other in copies:
        recalled.clear()
        check(other, x)
        assert not any(recalled)
        assert not torch.allclose(other(x), sublayer(x), atol=1e-3)


@torch.no_grad()
def test_wrong_input_is_refused_as_ever(sublayer):
    sublayer(torch.randn(3, 20, 32))
    with pytest.raises(ValueError, match="32"):
        sublayer(torch.randn(3, 20, 33))


@torch.no_grad()
@pytest.mark.parametrize("name", FRAMES)
def test_it_goes_with_its_module(name):
    sublayer = FRAMES[name]().eval()
    sublayer(torch.randn(3, 20, 32))
    owner, layer = weakref.ref(frames_of(sublayer)[0].function), weakref.ref(layer_of(sublayer))
    assert owner() in bound_call._calls
    del sublayer
    gc.collect()
    assert owner() is None and layer() is None
