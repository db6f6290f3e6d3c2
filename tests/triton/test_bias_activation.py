"""The Triton kernels of bias_activation, interpreted: against fp64, on awkward memory, in blocks of rows."""

import math

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import (
    ACTIVATIONS,
    activate_into,
    bias_activation_backward_op,
    bias_activation_op,
    differentiate_into,
)
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES
from tests.ops.test_bias_activation import check, draw, eager, exact, run


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_fp64(dtype, activation):
    for shape in [(2, 3, 64), (3, 300), (7, 1), (5,), (19, 26)]:
        x, bias, grad = draw(shape, dtype)
        for b in (bias, None):
            check(x, b, grad, activation, "triton", f"{shape}")


def test_random_sweep():
    seed, rng = seeded()
    for _ in range(12):
        shape = (rng.randint(1, 40), rng.randint(1, 150))
        dtype, activation = rng.choice(DTYPES), rng.choice(list(ACTIVATIONS))
        x, bias, grad = draw(shape, dtype, seed=rng.randrange(2**31))
        check(x, rng.choice([bias, None]), grad, activation, "triton", f"seed {seed}: {shape} {dtype} {activation}")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_accuracy_over_a_dense_grid(activation):
    """fp32 to a few units in the last place of the larger of the value and one, over the whole range."""
    x = torch.cat([torch.linspace(-30, 30, 15_000), torch.logspace(-37, 2, 1_000)]).view(125, 128)
    out = ops.bias_activation(x, None, activation, impl="triton")
    d_x, _ = bias_activation_backward_op(torch.ones_like(x), x, None, activation, [True, False], "triton")
    function, derivative = ACTIVATIONS[activation]
    for got, want in ((out, function(x.double())), (d_x, derivative(x.double()))):
        assert ((got - want).abs() / want.abs().clamp(min=1)).max() < 3e-7


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_tanh_keeps_its_digits_near_zero(dtype):
    x = torch.cat([torch.logspace(-30, 0, 1_900, dtype=dtype), torch.linspace(0.5, 0.6, 100, dtype=dtype)])
    x = x.view(20, 100)
    got, want = ops.bias_activation(x, None, "tanh", impl="triton"), x.double().tanh()
    assert ((got - want) / want).abs().max() < 4 * torch.finfo(dtype).eps


def test_gelu_keeps_its_digits_in_the_left_tail():
    """Where 1 + erf has cancelled to nothing, x·Φ(x) has not."""
    x = torch.linspace(-12, 0, 2_001)[:-1].view(20, 100)
    want = 0.5 * x.double() * torch.special.erfc(-x.double() / math.sqrt(2))
    assert ((ops.bias_activation(x, None, "gelu", impl="triton") - want) / want).abs().max() < 1e-5


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_not_a_number_and_infinity(dtype, activation):
    x = torch.tensor([float("nan"), float("inf"), 3.0, -100.0], dtype=dtype)
    got = ops.bias_activation(x, None, activation, impl="triton")
    assert got[0].isnan() and not got[2:].isnan().any()
    assert got[1] == (1 if activation in ("tanh", "sigmoid") else float("inf"))
    d_x, _ = bias_activation_backward_op(torch.ones_like(x), x, None, activation, [True, False], "triton")
    assert not d_x[2:].isnan().any()


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_memory_layouts_change_nothing(activation):
    x, bias, grad = draw((2, 6, 20), torch.float32)
    want = run(x, bias, grad, activation, "triton")
    versions = [(sliced(x), transposed(grad)), (misaligned(x), swapped(grad)), (swapped(x), sliced(grad))]
    for version, gradient in versions:
        assert_same_bits(run(version, misaligned(bias), gradient, activation, "triton"), want)
    row = bias.expand(x.shape)
    for tensor, gradient in ((x, expanded_ones(x)), (row, row)):
        got = run(tensor, bias, gradient, activation, "triton")
        assert_same_bits(got, run(tensor.contiguous(), bias, gradient.contiguous(), activation, "triton"))


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_every_element_is_written(activation):
    tensors = draw((37, 26), torch.float32)
    want = run(*tensors, activation, "triton")
    with poisoned_memory():
        assert_same_bits(run(*tensors, activation, "triton"), want)


def test_in_place_and_into_a_slice_and_nowhere_else():
    x, bias, grad = draw((9, 26), torch.float32)
    out, d_x, d_bias = run(x, bias, grad, "gelu", "triton")
    wide = torch.full((9, 30), 7.0)
    activate_into(wide[:, 2:28], x, bias, "gelu", "triton")
    assert torch.equal(wide[:, 2:28], out) and (wide[:, :2] == 7).all() and (wide[:, 28:] == 7).all()
    sums, upstream, inside = torch.empty(26), grad.clone(), x.clone()
    differentiate_into(upstream, sums, upstream, x, bias, "gelu", "triton")
    assert_same_bits((upstream, sums), (d_x, d_bias))
    activate_into(inside, inside, bias, "gelu", "triton")
    assert torch.equal(inside, out)


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_blocks_of_rows_add_up_in_order(activation, monkeypatch):
    """Few large blocks, the last of them short, and a grid of two sides with programs to spare."""
    from bertkernels.kernels import bias_activation as kernel
    from bertkernels.kernels import launch
    from bertkernels.kernels.row_plan import row_plan

    tensors = draw((1000, 6), torch.float32)
    want = run(*tensors, activation, "triton")
    monkeypatch.setattr(kernel, "MOST_BLOCKS", 3)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 2)
    row_plan.cache_clear()
    got = run(*tensors, activation, "triton")
    plan = row_plan(
        "bias_activation_bwd",
        kernel.configuration,
        torch.device("cpu"),
        torch.float32,
        tensors[0].shape,
        ((6,),) * 3,
        most_blocks=3,
    )
    row_plan.cache_clear()
    assert (plan.blocks, plan.span, plan.grid) == (3, 384, (2, 2))
    assert_same_bits(got[:2], want[:2])
    assert_within_budget(
        ["d_bias"], got[2:], exact(*tensors, activation)[2:], eager(*tensors, activation)[2:], "blocks"
    )


@pytest.mark.parametrize("wanted", [[True, False], [False, True], [False, False]], ids=str)
def test_only_wanted_gradients(wanted):
    x, bias, grad = draw((5, 6), torch.float32)
    want = run(x, bias, grad, "gelu", "triton")[1:]
    got = bias_activation_backward_op(grad, x, bias, "gelu", wanted, "triton")
    for gradient, expected, is_wanted in zip(got, want, wanted, strict=True):
        assert torch.equal(gradient, expected) if is_wanted else not gradient.numel()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradcheck(activation):
    x, bias, _ = draw((2, 2, 3), torch.float64)
    inputs = leaves(x, bias)
    assert torch.autograd.gradcheck(
        lambda x, b: ops.bias_activation(x, b, activation, impl="triton"), inputs, fast_mode=activation != "gelu"
    )


def test_opcheck():
    x, bias, _ = draw((3, 4, 6), torch.float32)
    for tensor, b, activation in [(x, bias, "gelu"), (sliced(x), None, None)]:
        torch.library.opcheck(bias_activation_op.overload, (*leaves(tensor, b), activation, "triton"))
        arguments = (expanded_ones(tensor), tensor, b, activation, [True, b is not None], "triton")
        torch.library.opcheck(bias_activation_backward_op.overload, arguments)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)])
def test_empty(shape):
    out, d_x, d_bias = run(*draw(shape, torch.float32), "gelu", "triton")
    assert out.shape == d_x.shape == shape
    assert d_bias.shape == shape[-1:] and not d_bias.any()
