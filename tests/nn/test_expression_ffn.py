"""The feed-forward layer that computes an expression, against the expression worked out by hand."""

import os
from functools import partial
from random import Random

import pytest
import torch
from torch.nn import functional

from bertkernels import ops
from bertkernels.errors import InputError
from bertkernels.nn import ExpressionFeedForward, PostNorm, PostNormStack
from bertkernels.nn.expression_ffn import PLAIN_FFN, combine
from bertkernels.nn.expressions import ACTIVATIONS, ExpressionError, output_width, random_expression

HAND = {
    "gelu": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "sigmoid": lambda x: 1 / (1 + torch.exp(-x)),
    "tanh": torch.tanh,
    "relu": lambda x: x.clamp(min=0),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "elu": lambda x: torch.where(x > 0, x, torch.expm1(x)),
    "swish": lambda x: x / (1 + torch.exp(-x)),
}


def by_hand(module, x):
    """The printed expression as Python, in float64: only here, where the text is our own."""
    layers = {"w1": module.up, "w2": module.down}
    layers = {name: (layer.weight.double(), layer.bias.double()) for name, layer in layers.items()}

    def linear(value, weights):
        return value @ weights[0].T + weights[1]

    def cropped(function):
        def run(left, right):
            narrow = min(left.shape[-1], right.shape[-1])
            return function(left[..., :narrow], right[..., :narrow])

        return run

    names = {"add": torch.add, "mul": torch.mul, "max": torch.maximum}
    functions = HAND | {name: cropped(function) for name, function in names.items()}
    return eval(module.expression, {"x": x.double(), "linear": linear, **layers, **functions})


EXPRESSIONS = [
    PLAIN_FFN,
    "leaky_relu(linear(elu(linear(x, w1)), w2))",
    "linear(gelu(linear(max(x, tanh(x)), w1)), w2)",
    "linear(relu(mul(linear(x, w1), x)), w2)",
    "linear(swish(add(linear(x, w1), x)), w2)",
    "add(mul(x, linear(sigmoid(linear(x, w1)), w2)), x)",
    "mul(linear(elu(max(linear(x, w1), sigmoid(x))), w2), tanh(x))",
    *(f"{name}(linear({name}(linear(x, w1)), w2))" for name in ACTIVATIONS),
]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions_and_their_gradients(expression):
    torch.manual_seed(0)
    module = ExpressionFeedForward(24, 13, expression)
    x = torch.randn(2, 5, 24, requires_grad=True)
    tensors = [x, *module.parameters()]
    grad = torch.randn(2, 5, 24)
    out, wanted = module(x), by_hand(module, x)
    torch.testing.assert_close(out, wanted.float(), rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(result, tensors, grad.to(result.dtype)) for result in (out, wanted)]
    for found, known in zip(*gradients, strict=True):
        torch.testing.assert_close(found, known.float(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(module(x), out, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("expression", EXPRESSIONS[:4])
def test_in_its_frame(expression, training):
    """Where the frame and its function are one op, and where they are not."""
    torch.manual_seed(0)
    frame = PostNorm(ExpressionFeedForward(24, 13, expression), 24, eps=1e-5).train(training)
    x = torch.randn(2, 5, 24)
    wanted = functional.layer_norm(x + by_hand(frame.function, x).float(), (24,), eps=1e-5)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(frame(x), wanted, rtol=1e-5, atol=1e-5)


def test_a_stack_runs_its_frames_in_order_and_as_many_as_chosen():
    torch.manual_seed(0)
    stack = PostNormStack(PostNorm(ExpressionFeedForward(8, 8), 8) for _ in range(3))
    x = torch.randn(4, 8)
    one = stack[0](x)
    two = stack[1](one)
    assert torch.equal(stack(x), stack[2](two))
    stack.choose(2)
    assert torch.equal(stack(x), two) and stack.function is stack[0].function
    for running in (0, 4):
        with pytest.raises(ValueError, match=f"1 to 3 can run, not {running}"):
            stack.choose(running)


@pytest.fixture
def rows_of_sublayers(monkeypatch):
    """How many sub-layers each call of expression_block took."""
    counts = []
    run = ops.expression_block
    monkeypatch.setattr(ops, "expression_block", lambda x, w, *a, **k: counts.append(len(w) // 2) or run(x, w, *a, **k))
    return counts


@pytest.mark.skipif(not ops.can_run("expression_block", "cpu", "cpu")[0], reason="needs the compiled op")
@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("inner", [24, 13])
def test_a_stack_is_one_op_in_inference(rows_of_sublayers, expression, inner):
    torch.manual_seed(0)
    stack = PostNormStack(PostNorm(ExpressionFeedForward(24, 24, expression), 24) for _ in range(3))
    for frame in stack:
        frame.function.choose(expression, inner)
    x = torch.randn(2, 5, 24)
    wanted = x
    for frame in stack:
        wanted = functional.layer_norm(wanted + frame.function(wanted), (24,), eps=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(stack(x), wanted, rtol=1e-5, atol=1e-5)
        assert rows_of_sublayers == [3]
        stack[1].register_forward_hook(lambda *_: None)
        torch.testing.assert_close(stack(x), wanted, rtol=1e-5, atol=1e-5)
    assert rows_of_sublayers == [3, 1, 1, 1], "a hooked frame is called"


def test_fewer_channels_are_those_of_a_smaller_module_to_the_bit():
    torch.manual_seed(0)
    wide = ExpressionFeedForward(24, 24)
    narrow = ExpressionFeedForward(24, 8, EXPRESSIONS[3])
    narrow.load_state_dict(
        {
            "up.weight": wide.up.weight[:8],
            "up.bias": wide.up.bias[:8],
            "down.weight": wide.down.weight[:, :8],
            "down.bias": wide.down.bias,
        }
    )
    wide.choose(EXPRESSIONS[3], 8)
    x = torch.randn(3, 24)
    assert torch.equal(wide(x), narrow(x))
    with pytest.raises(ValueError, match="of 24 channels between the layers 1 to 24 can be used, not 25"):
        wide.choose(PLAIN_FFN, 25)
    assert torch.equal(wide(x), narrow(x)), "as before"


def test_hooks_and_replaced_layers_take_effect():
    module = ExpressionFeedForward(8, 8)
    x = torch.randn(3, 8)
    before = PostNorm(module, 8)(x)
    seen = []
    module.up.register_forward_hook(lambda *_: seen.append(True))
    torch.testing.assert_close(PostNorm(module, 8)(x), before)
    assert seen == [True]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_autocast(expression):
    torch.manual_seed(0)
    frame = PostNorm(ExpressionFeedForward(24, 13, expression), 24, eps=1e-5)
    x = torch.randn(2, 5, 24)
    with torch.autocast("cpu", torch.bfloat16):
        out = frame(x)
    torch.testing.assert_close(out.float(), frame(x), rtol=0.05, atol=0.05)
    out.float().square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in frame.parameters())


def test_compiles_as_one_graph():
    module = ExpressionFeedForward(24, 13, EXPRESSIONS[3])
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="eager")(x), module(x))


@pytest.mark.parametrize("name", ["add", "mul", "max"])
def test_padding_changes_nothing(name):
    left, right = torch.randn(2, 3), torch.randn(2, 5) - 2
    neutral = {"add": 0.0, "mul": 1.0, "max": -1e10}[name]
    function = {"add": torch.add, "mul": torch.mul, "max": torch.maximum}[name]
    wanted = function(functional.pad(left, (0, 2), value=neutral), right)
    assert torch.equal(combine(name, left, right, "pad"), wanted)
    assert torch.equal(combine(name, right, left, "pad"), wanted)
    published = combine(name, left, right, "pad_published")
    if name == "max":
        assert torch.equal(published, function(functional.pad(left, (0, 2), value=-1e-10), right))
        assert not torch.equal(published, wanted)
    else:
        assert torch.equal(published, wanted)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("linear(gelu(linear(x, w1)), w2", "expected ')', got the end"),
        ("gelu(linear(x, w1))", "it yields 13 channels, and x has 24"),
        ("linear(gelu(x), w2)", "w2 takes 13 channels and is given 24"),
    ],
)
def test_expressions_that_cannot_be_computed(expression, message):
    with pytest.raises(ExpressionError) as caught:
        ExpressionFeedForward(24, 13, expression)
    assert message in str(caught.value) and isinstance(caught.value, InputError)


def test_random_expressions_run_forward_and_backward():
    """As many as $BERTKERNELS_GENOTYPES says."""
    generator = Random(7)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12)
    for _ in range(int(os.environ.get("BERTKERNELS_GENOTYPES", "300"))):
        inner = generator.choice([12, 6, 4, 3])
        expression = random_expression(generator, partial(fits, inner=inner))
        module = ExpressionFeedForward(12, inner, str(expression))
        out = module(x)
        out.square().sum().backward()
        assert out.isfinite().all() and all(weight.grad.isfinite().all() for weight in module.parameters())
        torch.testing.assert_close(out, by_hand(module, x).float(), rtol=1e-4, atol=1e-4)


def fits(tree, inner):
    try:
        return output_width(tree, 12, inner) == 12
    except ExpressionError:
        return False
