"""grouped_linear on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import ACTIVATIONS
from bertkernels.ops.grouped_linear import (
    grouped_linear_backward_op,
    grouped_linear_backward_reference,
    grouped_linear_op,
    grouped_linear_reference,
)
from tests.ops.activations import eager_activation, rounding
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

TARGETS = targets("grouped_linear")
COMPILED = compiled_targets("grouped_linear")
# leading dimensions, G, I, O
SHAPES = [((2, 17), 2, 24, 40), ((33,), 3, 5, 7), ((2, 3, 4), 1, 16, 30), ((1,), 2, 1, 1), ((), 4, 3, 2)]


def draw(shape, dtype, device="cpu", seed=0):
    """x, weight, bias and an output gradient."""
    lead, G, I, O = shape  # noqa: E741 (the letters of the formula)
    generator = torch.Generator().manual_seed(seed)
    sizes = [(*lead, G * I), (G, I, O), (G * O,), (*lead, G * O)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def run(x, weight, bias, grad, activation, impl):
    inputs = x, weight, bias
    return with_gradients(lambda *a: ops.grouped_linear(*a, activation=activation, impl=impl), inputs, grad)


def exact(x, weight, bias, grad, activation):
    """Output and gradients in fp64 by autograd of the reference."""
    inputs = x, weight, bias
    return with_gradients(lambda *a: grouped_linear_reference(*a, activation), inputs, grad, torch.float64)


def eager(x, weight, bias, grad, activation):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""

    def layer(x, weight, bias):
        groups = x.unflatten(-1, weight.shape[:2])[..., None, :]  # […, G, 1, I]
        out = torch.matmul(groups, weight).flatten(-3)
        return eager_activation(out if bias is None else out + bias, activation)

    return with_gradients(layer, (x, weight, bias), grad)


def check(x, weight, bias, grad, activation, impl, what):
    tensors = x, weight, bias, grad, activation
    names = "out", "d_x", "d_weight", "d_bias"
    got, want, same_dtype = run(*tensors, impl), exact(*tensors), eager(*tensors)
    terms = rounding(exact, (x, weight, bias), grad, activation)
    if x.dtype == torch.float64:
        assert_within_budget(names, got, want, same_dtype, what, roundings=3, of=terms)
        return
    of = list(want)
    if x.dtype == torch.float32 and activation in ("tanh", "sigmoid"):
        of[0] = terms[0]  # the sum is rounded in fp32 too, and by more than the flat ends, the largest entries, tell
    assert_within_budget(names, got, want, same_dtype, what, of=of)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_fp64(device, impl, dtype, activation):
    for shape in SHAPES:
        x, weight, bias, grad = draw(shape, dtype, device)
        for b in (bias, None):
            check(x, weight, b, grad, activation, impl, f"{shape}")


@pytest.mark.parametrize("device, impl", TARGETS)
def test_equals_a_block_diagonal_linear_layer(device, impl):
    x, weight, bias, _ = draw(((2, 5), 3, 4, 6), torch.float64, device)
    dense = torch.nn.functional.linear(x, torch.block_diag(*weight).T, bias)
    got = ops.grouped_linear(x, weight, bias, activation="gelu", impl=impl)
    torch.testing.assert_close(got, torch.nn.functional.gelu(dense))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_an_ordinary_linear_layer_is_one_group(device, impl):
    """A weight as torch keeps it, [O, I], is taken transposed, and its gradient comes in its own layout."""
    layer = torch.nn.Linear(12, 20, device=device)
    x = torch.randn(3, 7, 12, device=device)
    weight = layer.weight.T[None]
    got = ops.grouped_linear(x, weight, layer.bias, activation="gelu", impl=impl)
    want = torch.nn.functional.gelu(layer(x))
    torch.testing.assert_close(got, want)
    grads = [torch.autograd.grad(out.square().sum(), (layer.weight, layer.bias)) for out in (got, want)]
    for g, w in zip(*grads, strict=True):
        torch.testing.assert_close(g, w)
        assert g.stride() == w.stride()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_reference_is_the_gradient_of_the_reference(activation):
    x, weight, bias, grad = draw(((3, 4), 2, 5, 6), torch.float64)
    got = grouped_linear_backward_reference(grad, x, weight, bias, activation)
    for g, w in zip(got, exact(x, weight, bias, grad, activation)[1:], strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck(device, impl, activation):
    x, weight, bias, _ = draw(((2, 3), 2, 3, 4), torch.float64, device)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    assert torch.autograd.gradcheck(lambda *a: ops.grouped_linear(*a, activation=activation, impl=impl), inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32, device)
    for tensor, b, activation, keep in [
        (x, bias, "gelu", True),
        (x, None, "gelu", False),
        (sliced(x), bias, None, True),
    ]:
        torch.library.opcheck(grouped_linear_op.overload, (*leaves(tensor, weight, b), activation, keep, impl))
        _, product = grouped_linear_op(tensor, weight, b, activation, keep, impl)
        arguments = (expanded_ones(grad), tensor, weight, b, product, activation)
        torch.library.opcheck(grouped_linear_backward_op.overload, (*arguments, [True, keep, b is not None], impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_the_product_is_kept_only_for_gradients(device, impl, activation):
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32, device)
    want = run(x, weight, bias, grad, activation, impl)
    inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
    for keep in (True, False):  # the backward pass makes the product anew where it was not kept
        out, product = grouped_linear_op(*inputs, activation, keep, impl)
        assert product.numel() == (out.numel() if keep and activation else 0) and not product.requires_grad
        for g, w in zip((out, *torch.autograd.grad(out, inputs, grad)), want, strict=True):
            torch.testing.assert_close(g, w)
    with torch.no_grad():
        torch.testing.assert_close(ops.grouped_linear(*inputs, activation=activation, impl=impl), want[0])


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32, device)
    for activation in (None, "gelu"):
        _, *want = run(x, weight, bias, grad, activation, impl)
        for wanted in itertools.product([False, True], repeat=3):
            inputs = [t.clone().requires_grad_(w) for t, w in zip((x, weight, bias), wanted, strict=True)]
            out = ops.grouped_linear(*inputs, activation=activation, impl=impl)
            assert out.requires_grad == any(wanted)
            if any(wanted):
                out.backward(grad)
            for tensor, w, gradient in zip(inputs, wanted, want, strict=True):
                assert torch.equal(tensor.grad, gradient) if w else tensor.grad is None


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_strided_inputs_and_gradients(device, impl, dtype, activation):
    x, weight, bias, grad = draw(((2, 9), 2, 24, 40), dtype, device)
    want = run(x, weight, bias, grad, activation, impl)
    versions = [
        *((rearranged(x), weight) for rearranged in (swapped, sliced, misaligned)),
        *((x, rearranged(weight)) for rearranged in (swapped, transposed)),
    ]
    gradients = [grad, *(rearranged(grad) for rearranged in (swapped, sliced, misaligned, transposed))]
    for version, gradient in itertools.product(versions, gradients):
        for g, w in zip(run(*version, bias, gradient, activation, impl), want, strict=True):
            torch.testing.assert_close(g, w)  # a product may add up in another order
    ones = expanded_ones(grad)
    row = x[0, 0].expand(x.shape)
    got = run(row, weight[:1].expand(2, -1, -1), bias, ones, activation, impl)
    want = run(row.contiguous(), weight[:1].repeat(2, 1, 1), bias, ones.contiguous(), activation, impl)
    for g, w in zip(got, want, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_every_element_is_written(device, impl, activation):
    tensors = draw(((37,), 2, 24, 40), torch.float32, device)
    want = run(*tensors, activation, impl)
    with poisoned_memory():
        got = run(*tensors, activation, impl)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_reproducible_from_run_to_run(device, impl):
    tensors = draw(((130,), 2, 96, 200), torch.float32, device)
    want = run(*tensors, "gelu", impl)
    for _ in range(3):
        assert_same_bits(run(*tensors, "gelu", impl), want)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [((0, 4), 2, 3, 4), ((3,), 2, 0, 4), ((3,), 2, 4, 0)])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_empty(device, impl, shape, activation):
    x, weight, bias, grad = draw(shape, torch.float32, device)
    got = run(x, weight, bias, grad, activation, impl)
    for g, w in zip(got, exact(x, weight, bias, grad, activation), strict=True):
        torch.testing.assert_close(g, w.float())


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    x, weight, bias, grad = draw(((4,), 2, 8, 6), torch.float32, device)
    inputs = x.bfloat16(), weight, bias
    assert_casts_under_autocast(lambda *a: ops.grouped_linear(*a, activation="gelu", impl=impl), inputs, grad)
    with torch.autocast(device, torch.bfloat16), pytest.raises(TypeError, match="weight is torch.bfloat16"):
        ops.grouped_linear(x.double(), weight, impl=impl)  # autocast leaves fp64 alone


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    sizes = [(4, 9), (3, 17), (7, 5)]
    cases = [draw(((B, T), 2, 8, 10), torch.float32, device)[:3] for B, T in sizes]
    assert_compiles_whole_without_recompiling(lambda *a: ops.grouped_linear(*a, activation="gelu", impl=impl), cases)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_inductor(device, impl):
    """Inductor lays tensors out as it likes; what it hands to the op must still be taken as it is."""

    def function(x, weight, bias):
        hidden = ops.grouped_linear(x.sin().mT.contiguous().mT.contiguous(), weight, bias, activation="gelu", impl=impl)
        return ops.grouped_linear(hidden * 2, weight.mT, activation=None, impl=impl).cos()

    torch._dynamo.reset()
    tensors = draw(((3, 4), 2, 8, 10), torch.float32, device)[:3]
    gradients = []
    for f in (function, torch.compile(function, fullgraph=True)):
        inputs = [t.clone().requires_grad_() for t in tensors]
        out = f(*inputs)
        gradients.append([out, *torch.autograd.grad(out.sum(), inputs)])
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(50):
        shape = ((rng.randint(1, 70),), rng.randint(1, 5), rng.randint(1, 90), rng.randint(1, 90))
        dtype, activation = rng.choice(DTYPES), rng.choice(list(ACTIVATIONS))
        x, weight, bias, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        bias = rng.choice([bias, None])
        check(x, weight, bias, grad, activation, impl, f"seed {seed}: {shape} {dtype} {activation}")


def _bad_calls():
    x, weight, bias = torch.zeros(2, 5, 6), torch.zeros(2, 3, 4), torch.zeros(8)
    yield "not a tensor", (x, weight.tolist()), "weight must be a tensor"
    yield "no dimension", (x[0, 0, 0], weight), "x must be"
    yield "integers", (x.long(), weight), "x must be float"
    yield "x strides", (x.mT.contiguous().mT, weight), "last dimension of x must be contiguous"
    yield "x width", (x[..., :5], weight), r"last dimension of x must be G·I = 2·3 = 6 for weight \[2, 3, 4\], got 5"
    yield "weight rank", (x, weight[0]), r"weight must be \[G, I, O\]"
    yield "no group", (x, weight[:0]), "with G ≥ 1"
    yield "weight dtype", (x, weight.double()), "weight is torch.float64"
    yield "weight device", (x, weight.to("meta")), "weight is on meta"
    yield "bias rank", (x, weight, bias[None]), r"bias must be \[8\]"
    yield "bias size", (x, weight, bias[:7]), r"bias must be one value an output channel = \[8\], got \[7\]"
    yield "bias dtype", (x, weight, bias.double()), "bias is torch.float64"


@pytest.mark.parametrize("impl", implementations_on_cpu("grouped_linear"))
@pytest.mark.parametrize("arguments, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.grouped_linear(*arguments, impl=impl)


def test_unknown_activation():
    with pytest.raises(ValueError, match="grouped_linear: activation must be one of None, 'gelu'.* got 'mish'"):
        ops.grouped_linear(torch.zeros(2, 6), torch.zeros(2, 3, 4), activation="mish")
