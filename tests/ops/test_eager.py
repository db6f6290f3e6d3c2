"""The short way past torch's dispatcher: taken by plain eager calls, the same to the bit, and by nothing else."""

import contextlib
import importlib

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._vmap_internals import _vmap
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bertkernels import ops
from bertkernels.ops import eager, registry
from tests.ops.gradients import leaves

light_conv = importlib.import_module("bertkernels.ops.light_conv")


def inputs(batch=2):
    torch.manual_seed(0)
    return torch.randn(batch, 6, 2, 8), torch.randn(batch, 6, 2, 3)


class Dispatched(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


class Passing(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    """Overrides nothing: only its type tells."""


@pytest.fixture
def no_dispatcher(monkeypatch):
    """Fails whatever call of a registered op reaches the dispatcher."""

    def refuse(*arguments):
        raise AssertionError("the dispatcher was called")

    monkeypatch.setattr(light_conv.light_conv_op, "overload", refuse)
    monkeypatch.setattr(light_conv.light_conv_backward_op, "overload", refuse)


CONTEXTS = {
    "nothing": contextlib.nullcontext,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast off": lambda: torch.autocast("cpu", torch.bfloat16, enabled=False),
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_plain_calls_take_it(context, no_dispatcher):
    with CONTEXTS[context]():
        values, logits = inputs()
        ops.light_conv(values, torch.nn.Parameter(logits, requires_grad=False))
        ops.light_conv(values.transpose(0, 1), logits.transpose(0, 1), causal=True)


def test_tensors_of_inference_mode_take_it_outside(no_dispatcher):
    with torch.inference_mode():
        tensors = inputs()
    ops.light_conv(*tensors)


def test_training_takes_it(no_dispatcher):
    tensors = leaves(*inputs())
    ops.light_conv(*tensors).sum().backward()
    assert all(tensor.grad is not None for tensor in tensors)


MODES = {
    "dispatch mode": Dispatched,
    "function mode": Passing,
    "default device": lambda: torch.device("cpu"),
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "profiler": torch.profiler.profile,
    "autograd's profiler": torch.autograd.profiler.profile,
    "fake tensors": lambda: FakeTensorMode(allow_non_fake_inputs=True),
    "below autograd": torch._C._AutoDispatchBelowAutograd,
}


@pytest.mark.parametrize("mode", MODES)
def test_what_is_on_gets_the_call(mode):
    tensors = inputs()
    assert eager.is_plain(tensors)
    with MODES[mode]():
        assert not eager.is_plain(tensors)
    assert eager.is_plain(tensors)


TRANSFORMS = {
    "vmap": lambda see, x: torch.func.vmap(see)(x),
    "grad": lambda see, x: torch.func.grad(lambda y: see(y).sum())(x),
    "jvp": lambda see, x: torch.func.jvp(see, (x,), (x,)),
    "functionalize": lambda see, x: torch.func.functionalize(see)(x),
    "vmap of autograd": lambda see, x: _vmap(see)(x),
    "jit.trace": lambda see, x: torch.jit.trace(see, (x,), check_trace=False),
    "export": lambda see, x: torch.export.export(Module(see), (x,), strict=False),
    "make_fx": lambda see, x: torch.fx.experimental.proxy_tensor.make_fx(see)(x),
}


class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.forward = function


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.filterwarnings("ignore")  # torch says that legacy ones are
def test_transforms_get_the_call(transform):
    seen = []

    def see(x):
        seen.append(eager.is_plain((x,)))
        return x * 2

    TRANSFORMS[transform](see, torch.randn(3, 4))
    assert seen and not any(seen)


def test_compilers_take_every_call_for_theirs():
    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x):
        return x + 1 if eager.is_plain((x,)) else x - 1

    assert torch.equal(compiled(torch.zeros(3)), -torch.ones(3))


@pytest.mark.filterwarnings("ignore")  # nested and sparse tensors are said to be prototypes
def test_tensors_that_are_more_than_memory_get_the_dispatcher():
    x = torch.randn(3, 4)
    others = {
        "subclass": x.as_subclass(Subclass),
        "negated later": torch._neg_view(x),
        "zeros without memory": torch._efficientzerotensor((3, 4)),
        "sparse": x.to_sparse(),
        "nested": torch.nested.nested_tensor([x, x]),
        "meta": x.to("meta"),
        "fake": FakeTensorMode().from_tensor(x),
        "quantized": torch.quantize_per_tensor(x, 1.0, 0, torch.qint8),
        "nothing that is known": object(),
    }
    for name, other in others.items():
        assert not eager.is_plain((x, other)), name
        assert not eager.is_plain((x, [x, other], 1.0)), name
    assert eager.is_plain((x, torch.nn.Parameter(x), [x, x], [True, False], None, 1, 1.0, "name"))


def test_modes_see_the_ops_of_both_passes():
    tensors = leaves(*inputs())
    with Dispatched() as mode:
        ops.light_conv(*tensors).sum().backward()
    assert {"bertkernels.light_conv.default", "bertkernels.light_conv_backward.default"} <= set(mode.names)


def test_profiles_name_the_ops():
    tensors = leaves(*inputs())
    with torch.profiler.profile() as profile:
        ops.light_conv(*tensors).sum().backward()
    names = {event.name for event in profile.events()}
    assert {"bertkernels::light_conv", "bertkernels::light_conv_backward"} <= names


def test_vmap_of_gradients_is_refused_or_right():
    """`is_grads_batched` hands batched gradients, of torch's old kind, to backward passes."""
    tensors = leaves(*inputs())
    out = ops.light_conv(*tensors)
    grads = torch.randn(3, *out.shape)
    try:
        got = torch.autograd.grad(out, tensors, grads, is_grads_batched=True, retain_graph=True)
    except RuntimeError as error:
        assert "batching rule" in str(error).lower()
        return
    want = [torch.autograd.grad(out, tensors, grad, retain_graph=True) for grad in grads]
    for i, gradients in enumerate(zip(*want, strict=True)):
        torch.testing.assert_close(got[i], torch.stack(gradients))


def test_records_as_the_registered_op_does():
    op, rest = light_conv.light_conv_op, (None, None, True, False, "")
    grad = torch.randn(2, 6, 2, 8)
    results = []
    for call in (op, op.overload):
        for frozen in (0, 1):
            tensors = leaves(*inputs())
            tensors[frozen].requires_grad_(False)
            out = call(*tensors, *rest)
            out.backward(grad)
            results.append((out.detach(), tensors[1 - frozen].grad))
            assert tensors[frozen].grad is None
    for (out, gradient), (want_out, want_gradient) in zip(results[:2], results[2:], strict=True):
        assert torch.equal(out, want_out)
        assert torch.equal(gradient, want_gradient)


def test_a_tensor_changed_before_the_backward_pass_is_noticed():
    values, logits = leaves(*inputs())
    logits = logits * 1
    out = ops.light_conv(values, logits)
    logits.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_checkpoints_and_hooks_on_what_is_saved():
    tensors = leaves(*inputs())
    ops.light_conv(*tensors).sum().backward()
    want = [tensor.grad for tensor in tensors]
    packed = []
    again = leaves(*inputs())
    with torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(1) or x, lambda x: x):
        out = torch.utils.checkpoint.checkpoint(ops.light_conv, *again, use_reentrant=False)
    out.sum().backward()
    assert all(torch.equal(x.grad, y) for x, y in zip(again, want, strict=True))
    with torch.autograd.graph.saved_tensors_hooks(lambda x: packed.append(1) or x, lambda x: x):
        ops.light_conv(*again)
    assert len(packed) >= 2


def test_forward_mode_is_refused_as_before():
    values, logits = leaves(*inputs())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(values, torch.ones_like(values))
        with pytest.raises(NotImplementedError, match="jvp"):
            ops.light_conv(dual, logits)


def test_lists_of_tensors_that_ask_for_gradients_are_left_to_the_dispatcher():
    x = torch.randn(3, requires_grad=True)
    assert registry._asks_for_gradients((torch.randn(3), [torch.randn(3), x]))
    with torch.no_grad():
        assert not registry._asks_for_gradients((x, [x]))
