"""bias_activation on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import math

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import (
    ACTIVATIONS,
    bias_activation_backward_op,
    bias_activation_backward_reference,
    bias_activation_op,
    bias_activation_reference,
)
from tests.ops.activations import eager_activation, rounding
from tests.ops.bits import assert_same_bits, assert_threads_do_not_matter
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

TARGETS = targets("bias_activation")
COMPILED = compiled_targets("bias_activation")
SHAPES = [(2, 35, 64), (3, 600), (7, 1), (5,), (70, 130)]


def draw(shape, dtype, device="cpu", seed=0):
    """x (also far from zero), bias and an output gradient."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [shape, shape[-1:], shape]
    x, bias, grad = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
    return [tensor.to(dtype).to(device) for tensor in (3 * x, bias, grad)]


def run(x, bias, grad, activation, impl):
    return with_gradients(lambda x, b: ops.bias_activation(x, b, activation, impl=impl), (x, bias), grad)


def exact(x, bias, grad, activation):
    """Output and gradients in fp64 by autograd of the reference."""
    return with_gradients(lambda x, b: bias_activation_reference(x, b, activation), (x, bias), grad, torch.float64)


def eager(x, bias, grad, activation):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    return with_gradients(lambda x, b: eager_activation(x if b is None else x + b, activation), (x, bias), grad)


def check(x, bias, grad, activation, impl, what):
    tensors = x, bias, grad, activation
    names = "out", "d_x", "d_bias"
    got, want, same_dtype = run(*tensors, impl), exact(*tensors), eager(*tensors)
    if x.dtype == torch.float64:
        terms = rounding(exact, (x, bias), grad, activation)
        assert_within_budget(names, got, want, same_dtype, what, roundings=3, of=terms)
    else:
        assert_within_budget(names, got, want, same_dtype, what)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_fp64(device, impl, dtype, activation):
    for shape in SHAPES:
        x, bias, grad = draw(shape, dtype, device)
        for b in (bias, None):
            check(x, b, grad, activation, impl, f"{shape}")


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_accuracy_over_a_dense_grid(device, impl, activation):
    """fp32 to a few units in the last place of the larger of the value and one, over the whole range."""
    x = torch.cat([torch.linspace(-30, 30, 300_001), torch.logspace(-37, 2, 20_001)]).to(device)
    out = ops.bias_activation(x, None, activation, impl=impl)
    d_x, _ = bias_activation_backward_op(torch.ones_like(x), x, None, activation, [True, False], impl)
    function, derivative = ACTIVATIONS[activation]
    for got, want in ((out, function(x.double())), (d_x, derivative(x.double()))):
        assert ((got - want).abs() / want.abs().clamp(min=1)).max() < 3e-7


@pytest.mark.parametrize("device, impl", COMPILED)
def test_gelu_keeps_its_digits_in_the_left_tail(device, impl):
    """Where 1 + erf has cancelled to nothing, x·Φ(x) has not."""
    x = torch.linspace(-12, 0, 10_001, device=device)[:-1]
    want = 0.5 * x.double() * torch.special.erfc(-x.double() / math.sqrt(2))
    got = ops.bias_activation(x, None, "gelu", impl=impl)
    assert ((got - want) / want).abs().max() < 1e-5


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_not_a_number_and_infinity(device, impl, dtype, activation):
    x = torch.tensor([float("nan"), float("inf"), 3.0, -100.0], dtype=dtype, device=device)
    got = ops.bias_activation(x, None, activation, impl=impl)
    assert got[0].isnan() and not got[2:].isnan().any()
    assert got[1] == (1 if activation in ("tanh", "sigmoid") else float("inf"))
    d_x, _ = bias_activation_backward_op(torch.ones_like(x), x, None, activation, [True, False], impl)
    assert not d_x[2:].isnan().any()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_reference_is_the_gradient_of_the_reference(activation):
    x, bias, grad = draw((3, 5, 6), torch.float64)
    got = bias_activation_backward_reference(grad, x, bias, activation)
    for g, w in zip(got, exact(x, bias, grad, activation)[1:], strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck(device, impl, activation):
    x, bias, _ = draw((2, 3, 5), torch.float64, device)
    inputs = x.requires_grad_(), bias.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, b: ops.bias_activation(x, b, activation, impl=impl), inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    x, bias, _ = draw((3, 4, 6), torch.float32, device)
    for tensor, b, activation in [(x, bias, "gelu"), (sliced(x), None, None)]:
        torch.library.opcheck(bias_activation_op.overload, (*leaves(tensor, b), activation, impl))
        for wanted in ([True, b is not None], [False, True]):
            arguments = (expanded_ones(tensor), tensor, b, activation, wanted, impl)
            torch.library.opcheck(bias_activation_backward_op.overload, arguments)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_strided_inputs_and_gradients(device, impl, dtype, activation):
    x, bias, grad = draw((4, 6, 70), dtype, device)
    want = run(x, bias, grad, activation, impl)
    for version in (sliced(x), misaligned(x), swapped(x)):
        for gradient in (grad, transposed(grad), swapped(grad)):
            assert_same_bits(run(version, bias, gradient, activation, impl), want)
    row = bias.expand(x.shape)
    for tensor, gradient in ((x, expanded_ones(x)), (row, row)):
        got = run(tensor, bias, gradient, activation, impl)
        assert_same_bits(got, run(tensor.contiguous(), bias, gradient.contiguous(), activation, impl))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written(device, impl):
    tensors = draw((37, 130), torch.float32, device)
    want = run(*tensors, "gelu", impl)
    with poisoned_memory():
        got = run(*tensors, "gelu", impl)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_bitwise_reproducible(device, impl, activation):
    tensors = draw((300, 1100), torch.float32, device)
    assert_threads_do_not_matter(lambda: run(*tensors, activation, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)])
def test_empty(device, impl, shape):
    x, bias, grad = draw(shape, torch.float32, device)
    out, d_x, d_bias = run(x, bias, grad, "gelu", impl)
    assert out.shape == d_x.shape == x.shape
    assert d_bias.shape == bias.shape and not d_bias.any()


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    x, bias, grad = draw((4, 9), torch.float32, device)
    inputs = x.bfloat16(), bias
    assert_casts_under_autocast(lambda x, b: ops.bias_activation(x, b, "gelu", impl=impl), inputs, grad)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    sizes = [(4, 9), (3, 17), (7, 5)]
    cases = [draw((B, T, 8), torch.float32, device)[:2] for B, T in sizes]
    assert_compiles_whole_without_recompiling(lambda x, b: ops.bias_activation(x, b, "gelu", impl=impl), cases)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(60):
        shape = (rng.randint(1, 90), rng.randint(1, 700))
        dtype, activation = rng.choice(DTYPES), rng.choice(list(ACTIVATIONS))
        x, bias, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        bias = rng.choice([bias, None])
        check(x, bias, grad, activation, impl, f"seed {seed}: {shape} {dtype} {activation}")


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "from bertkernels.ops.bias_activation import ACTIVATIONS\n"
        "for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):\n"
        "  for activation in ACTIVATIONS:\n"
        "    inputs = [(3 * torch.randn(*s)).to(dtype).requires_grad_() for s in ((37, 77), (77,))]\n"
        "    inputs[0].data[0] *= 1e-6\n"
        "    out = [ops.bias_activation(*inputs, activation, impl=i) for i in ('cpu', 'reference')]\n"
        "    grads = [torch.autograd.grad(o, inputs, torch.ones_like(o)) for o in out]\n"
        "    for a, b in zip((out[0], *grads[0]), (out[1], *grads[1])):\n"
        "      torch.testing.assert_close(a, b, **(dict(rtol=2e-6, atol=2e-6) if dtype == torch.float32 else {}))\n"
    )
    run_with_instruction_set("bias_activation", isa, code)


def _bad_calls():
    x, bias = torch.zeros(2, 5, 4), torch.zeros(4)
    yield "not a tensor", (x.tolist(), bias), "x must be a tensor"
    yield "no dimension", (x[0, 0, 0],), "x must be"
    yield "integers", (x.long(),), "x must be float"
    yield "x strides", (x.mT.contiguous().mT,), "last dimension of x must be contiguous"
    yield "bias rank", (x, bias[None]), r"bias must be \[4\]"
    yield "bias size", (x, bias[:3]), "bias must be one value an output channel"
    yield "bias dtype", (x, bias.double()), "bias is torch.float64"
    yield "bias device", (x, bias.to("meta")), "bias is on meta"
    yield "activation", (x, bias, "mish"), "activation must be one of None, 'gelu'.* got 'mish'"


@pytest.mark.parametrize("impl", implementations_on_cpu("bias_activation"))
@pytest.mark.parametrize("arguments, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.bias_activation(*arguments, impl=impl)


def test_the_reference_of_gelu_is_right_far_in_the_left_tail():
    """Φ(-12) = 1.7764821120776759e-33, φ(-12) = 2.1463837356630728e-32."""
    function, derivative = ACTIVATIONS["gelu"]
    x = torch.tensor([-12.0], dtype=torch.float64)
    share, density = 1.7764821120776759e-33, 2.1463837356630728e-32
    assert function(x).item() == pytest.approx(-12 * share, rel=1e-12)
    assert derivative(x).item() == pytest.approx(share - 12 * density, rel=1e-12)
