"""linear on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import ACTIVATIONS
from bertkernels.ops.linear import linear_backward_op, linear_op, linear_reference
from tests.ops.activations import eager_activation, rounding
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.memory import expanded_ones, misaligned, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, implementations_on_cpu, targets

TARGETS = targets("linear", kernels=("torch",))
# leading dimensions, I, O
SHAPES = [((2, 17), 24, 40), ((33,), 5, 7), ((2, 3, 4), 96, 30), ((1,), 1, 1), ((), 12, 8), ((2, 100), 190, 180)]


def draw(shape, dtype, device="cpu", seed=0):
    """x, weight, bias, multiplier and an output gradient."""
    lead, width_in, width_out = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(*lead, width_in), (width_out, width_in), (width_out,), (*lead, width_out), (*lead, width_out)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def run(x, weight, bias, multiplier, grad, activation, impl):
    def function(x, weight, bias, multiplier):
        return ops.linear(x, weight, bias, multiplier=multiplier, activation=activation, impl=impl)

    return with_gradients(function, (x, weight, bias, multiplier), grad)


def exact(x, weight, bias, multiplier, grad, activation):
    """Output and gradients in fp64 by autograd of the reference."""
    inputs = x, weight, bias, multiplier
    return with_gradients(lambda *a: linear_reference(*a, activation), inputs, grad, torch.float64)


def eager(x, weight, bias, multiplier, grad, activation):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""

    def layer(x, weight, bias, multiplier):
        out = x @ weight.mT
        out = eager_activation(out if bias is None else out + bias, activation)
        return out if multiplier is None else out * multiplier

    return with_gradients(layer, (x, weight, bias, multiplier), grad)


def check(x, weight, bias, multiplier, grad, activation, impl, what):
    inputs = x, weight, bias, multiplier
    names = ["out", "d_x", "d_weight", *(["d_bias"] if bias is not None else []), "d_multiplier"]
    want, same_dtype = exact(*inputs, grad, activation), eager(*inputs, grad, activation)
    got = run(*inputs, grad, activation, impl)
    with torch.no_grad():  # another path: the epilogue is part of the product
        alone = ops.linear(x, weight, bias, multiplier=multiplier, activation=activation, impl=impl)
    # also where x is not fp64: oneDNN's GELU is rounded in proportion to its argument, not to itself
    of = rounding(exact, inputs, grad, activation)
    roundings = 4 if x.dtype == torch.float64 else 1
    assert_within_budget(names, got, want, same_dtype, what, roundings=roundings, of=of)
    assert_within_budget(
        names[:1], [alone], want[:1], same_dtype[:1], f"{what}, no gradients", roundings=roundings, of=of[:1]
    )


EPILOGUES = [*((activation, False) for activation in ACTIVATIONS), (None, True)]


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation, multiplied", EPILOGUES)
def test_against_fp64(device, impl, dtype, activation, multiplied):
    for shape in SHAPES:
        x, weight, bias, multiplier, grad = draw(shape, dtype, device)
        for b in (bias, None):
            check(x, weight, b, multiplier if multiplied else None, grad, activation, impl, f"{shape}")


@pytest.mark.parametrize("device, impl", TARGETS)
def test_equals_torchs_layer(device, impl):
    layer = torch.nn.Linear(12, 20, device=device)
    x = torch.randn(3, 7, 12, device=device)
    got = ops.linear(x, layer.weight, layer.bias, impl=impl)
    torch.testing.assert_close(got, layer(x))
    grads = [torch.autograd.grad(out.square().sum(), (layer.weight, layer.bias)) for out in (got, layer(x))]
    for g, w in zip(*grads, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation, multiplied", EPILOGUES)
def test_gradcheck(device, impl, activation, multiplied):
    x, weight, bias, multiplier, _ = draw(((2, 3), 3, 4), torch.float64, device)
    inputs = [t.requires_grad_() for t in (x, weight, bias, multiplier)[: 4 if multiplied else 3]]

    def function(x, weight, bias, multiplier=None):
        return ops.linear(x, weight, bias, activation=activation, multiplier=multiplier, impl=impl)

    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    x, weight, bias, multiplier, grad = draw(((2, 5), 6, 8), torch.float32, device)
    cases = [(x, bias, None, "gelu", True), (x, None, multiplier, None, True), (sliced(x), bias, None, None, False)]
    for tensor, b, m, activation, keep in cases:
        torch.library.opcheck(linear_op.overload, (*leaves(tensor, weight, b, m), activation, keep, impl))
        _, product = linear_op(tensor, weight, b, m, activation, keep, impl)
        wanted = [True, keep, b is not None, m is not None]
        arguments = (expanded_ones(grad), tensor, weight, b, product, m, activation, wanted, impl)
        torch.library.opcheck(linear_backward_op.overload, arguments)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation, multiplied", [(None, False), ("gelu", False), (None, True)])
def test_the_product_is_kept_only_for_gradients(device, impl, activation, multiplied):
    x, weight, bias, multiplier, grad = draw(((2, 5), 6, 8), torch.float32, device)
    multiplier = multiplier if multiplied else None
    want = run(x, weight, bias, multiplier, grad, activation, impl)
    inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
    for keep in (True, False):  # the backward pass makes the product anew where it was not kept
        out, product = linear_op(*inputs, multiplier, activation, keep, impl)
        has_epilogue = multiplied or activation is not None
        assert product.numel() == (out.numel() if keep and has_epilogue else 0) and not product.requires_grad
        for g, w in zip((out, *torch.autograd.grad(out, inputs, grad)), want, strict=False):
            torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    *tensors, grad = draw(((2, 5), 6, 8), torch.float32, device)
    _, *want = run(*tensors, grad, None, impl)
    for wanted in itertools.product([False, True], repeat=4):
        inputs = [t.clone().requires_grad_(w) for t, w in zip(tensors, wanted, strict=True)]
        out = ops.linear(*inputs[:3], multiplier=inputs[3], impl=impl)
        assert out.requires_grad == any(wanted)
        if any(wanted):
            out.backward(grad)
        for tensor, w, gradient in zip(inputs, wanted, want, strict=True):
            assert torch.equal(tensor.grad, gradient) if w else tensor.grad is None


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation, multiplied", [(None, False), ("gelu", False), (None, True)])
def test_strided_inputs_and_gradients(device, impl, dtype, activation, multiplied):
    x, weight, bias, multiplier, grad = draw(((2, 100), 190, 180), dtype, device)
    multiplier = multiplier if multiplied else None

    def right(a, w, m, g, what):
        check(a, w, bias, m, g, activation, impl, what)

    for rearrange in (swapped, sliced, misaligned):
        right(rearrange(x), weight, multiplier, grad, f"{rearrange.__name__} x")
        right(x, weight, multiplier, rearrange(grad), f"{rearrange.__name__} gradient")
        if multiplied:
            right(x, weight, rearrange(multiplier), grad, f"{rearrange.__name__} multiplier")
    right(x, weight, multiplier, transposed(grad), "transposed gradient")
    right(x, transposed(weight), multiplier, grad, "transposed weight")
    right(x, torch.stack([weight, weight], 1)[:, 0], multiplier, grad, "weight cut out of a wider one")

    x, weight, bias, multiplier, grad = draw(((2, 9), 24, 40), dtype, device)
    multiplier = multiplier if multiplied else None
    row, ones = x[0, 0].expand(x.shape), expanded_ones(grad)
    got = run(row, weight, bias, multiplier, ones, activation, impl)
    want = run(row.contiguous(), weight, bias, multiplier, ones.contiguous(), activation, impl)
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation, multiplied", [("gelu", False), (None, True)])
def test_reproducible_from_run_to_run(device, impl, activation, multiplied):
    x, weight, bias, multiplier, grad = draw(((190,), 192, 200), torch.float32, device)
    tensors = x, weight, bias, multiplier if multiplied else None, grad, activation, impl
    want = run(*tensors)
    for _ in range(3):
        assert_same_bits(run(*tensors), want)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [((0, 4), 3, 4), ((3,), 0, 4), ((3,), 4, 0)])
@pytest.mark.parametrize("activation, multiplied", [(None, False), ("sigmoid", False), (None, True)])
def test_empty(device, impl, shape, activation, multiplied):
    x, weight, bias, multiplier, grad = draw(shape, torch.float32, device)
    tensors = x, weight, bias, multiplier if multiplied else None, grad, activation
    for g, w in zip(run(*tensors, impl), exact(*tensors), strict=True):
        torch.testing.assert_close(g, w.float())


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    *inputs, grad = draw(((4,), 8, 6), torch.float32, device)

    def function(x, weight, bias, multiplier):
        return ops.linear(x, weight, bias, multiplier=multiplier, impl=impl)

    assert_casts_under_autocast(function, inputs, grad)
    with torch.autocast(device, torch.bfloat16), pytest.raises(TypeError, match="weight is torch.bfloat16"):
        ops.linear(inputs[0].double(), inputs[1], impl=impl)  # autocast leaves fp64 alone


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    def function(x, weight, bias, multiplier):
        gelu = ops.linear(x, weight, bias, activation="gelu", impl=impl)
        return gelu + ops.linear(x, weight, multiplier=multiplier, impl=impl)

    cases = [draw((lead, 16, 10), torch.float32, device)[:4] for lead in [(4, 9), (3, 17), (7, 5)]]
    assert_compiles_whole_without_recompiling(function, cases)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_inductor(device, impl):
    """Inductor lays tensors out as it likes; what it hands to the op must still be taken as it is."""

    def function(x, weight, bias):
        hidden = ops.linear(x.sin().mT.contiguous().mT.contiguous(), weight, bias, activation="gelu", impl=impl)
        return ops.linear(hidden * 2, weight.mT, impl=impl).cos()

    torch._dynamo.reset()
    tensors = draw(((3, 4), 16, 10), torch.float32, device)[:3]
    gradients = []
    for f in (function, torch.compile(function, fullgraph=True)):
        inputs = leaves(*tensors)
        out = f(*inputs)
        gradients.append([out, *torch.autograd.grad(out.sum(), inputs)])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(50):
        shape = ((rng.randint(1, 300),), rng.randint(1, 300), rng.randint(1, 300))
        dtype, (activation, multiplied) = rng.choice(DTYPES), rng.choice(EPILOGUES)
        x, weight, bias, multiplier, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        tensors = x, weight, rng.choice([bias, None]), multiplier if multiplied else None, grad, activation
        check(*tensors, impl, f"seed {seed}: {shape} {dtype} {activation} {multiplied}")


def _bad_calls():
    x, weight, bias, multiplier = torch.zeros(2, 5, 6), torch.zeros(8, 6), torch.zeros(8), torch.zeros(2, 5, 8)
    yield "not a tensor", (x, weight.tolist()), {}, "weight must be a tensor"
    yield "integers", (x.long(), weight), {}, "x must be float"
    yield "x strides", (x.mT.contiguous().mT, weight), {}, "last dimension of x must be contiguous"
    yield "weight rank", (x, weight[0]), {}, r"weight must be \[O, I\] with I = 6, got shape \[6\]"
    yield "weight width", (x, weight[:, :5]), {}, r"weight must be \[O, I\] with I = 6, got shape \[8, 5\]"
    yield "weight dtype", (x, weight.double()), {}, "weight is torch.float64"
    yield "weight device", (x, weight.to("meta")), {}, "weight is on meta"
    yield "bias size", (x, weight, bias[:7]), {}, r"bias must be one value an output channel = \[8\], got \[7\]"
    yield "multiplier shape", (x, weight), {"multiplier": multiplier[:1]}, r"multiplier must be \[…, O\] = \[2, 5, 8\]"
    yield "multiplier dtype", (x, weight), {"multiplier": multiplier.double()}, "multiplier is torch.float64"
    yield "both", (x, weight), {"multiplier": multiplier, "activation": "gelu"}, "an activation or a multiplier, not"
    yield "activation", (x, weight), {"activation": "mish"}, "activation must be one of None, 'gelu'.* got 'mish'"


@pytest.mark.parametrize("impl", implementations_on_cpu("linear", ["torch"]))
@pytest.mark.parametrize("arguments, options, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.linear(*arguments, **options, impl=impl)
