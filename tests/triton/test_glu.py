"""The Triton kernels of glu, interpreted: against fp64, on awkward memory, in blocks of rows."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.glu import glu_backward_op, glu_op
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES
from tests.ops.test_glu import check, draw, eager, exact, run


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_against_fp64(dtype):
    for shape in [(2, 3, 64), (3, 300), (7, 1), (5,), (19, 26)]:
        left, gate, left_bias, gate_bias, grad = draw(shape, dtype)
        for biases in itertools.product((left_bias, None), (gate_bias, None)):
            check((left, gate, *biases, grad), "triton", f"{shape}")


def test_random_sweep():
    seed, rng = seeded()
    for _ in range(12):
        shape = (rng.randint(1, 40), rng.randint(1, 150))
        dtype = rng.choice(DTYPES)
        left, gate, left_bias, gate_bias, grad = draw(shape, dtype, seed=rng.randrange(2**31))
        biases = rng.choice([left_bias, None]), rng.choice([gate_bias, None])
        check((left, gate, *biases, grad), "triton", f"seed {seed}: {shape} {dtype}")


def test_accuracy_over_a_dense_grid():
    """fp32 to a few units in the last place, also of what is small: σ and 1 - σ do not cancel."""
    gate = torch.linspace(-80, 80, 16_000).view(125, 128)
    left, ones = torch.full_like(gate, 1.5), torch.ones_like(gate)
    out = ops.glu(left, gate, impl="triton")
    d_left, d_gate, _, _ = glu_backward_op(ones, out, gate, None, [True, True, False, False], "triton")
    share, rest = torch.sigmoid(gate.double()), torch.sigmoid(-gate.double())
    for got, want in ((out, 1.5 * share), (d_left, share), (d_gate, 1.5 * share * rest)):
        assert ((got - want) / want).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_not_a_number_and_infinity(dtype):
    inf, nan = float("inf"), float("nan")
    left = torch.tensor([nan, 1.0, 2.0, 2.0, inf, 3.0], dtype=dtype)
    gate = torch.tensor([0.0, nan, inf, -inf, 0.0, -3e4], dtype=dtype)
    out = ops.glu(left, gate, impl="triton")
    assert out[:2].isnan().all() and out[2:].tolist() == [2.0, 0.0, inf, 0.0]
    d_left, d_gate, _, _ = glu_backward_op(torch.ones_like(out), out, gate, None, [True, True, False, False], "triton")
    assert d_left[2:4].tolist() == [1.0, 0.0] and d_gate[2:4].tolist() == [0.0, 0.0]


def test_memory_layouts_change_nothing():
    left, gate, left_bias, gate_bias, grad = draw((2, 6, 20), torch.float32)
    biases = left_bias, gate_bias
    want = run(left, gate, *biases, grad, "triton")
    for first, second, gradient in itertools.permutations((sliced, misaligned, swapped)):
        got = run(first(left), second(gate), *map(misaligned, biases), gradient(grad), "triton")
        assert_same_bits(got, want)
    assert_same_bits(run(left, gate, *biases, transposed(grad), "triton"), want)
    halves = torch.cat([left, gate], -1)
    assert_same_bits(run(halves[..., :20], halves[..., 20:], *biases, grad, "triton"), want)
    row = left_bias.expand(left.shape)
    got = run(row, row, *biases, expanded_ones(left), "triton")
    assert_same_bits(got, run(row.contiguous(), row.contiguous(), *biases, torch.ones_like(left), "triton"))


def test_every_element_is_written():
    tensors = draw((37, 26), torch.float32)
    want = run(*tensors, "triton")
    with poisoned_memory():
        assert_same_bits(run(*tensors, "triton"), want)


def test_blocks_of_rows_add_up_in_order(monkeypatch):
    """Few large blocks, the last of them short, and a grid of two sides with programs to spare."""
    from bertkernels.kernels import glu as kernel
    from bertkernels.kernels import launch
    from bertkernels.kernels.row_plan import row_plan

    tensors = draw((1000, 6), torch.float32)
    want = run(*tensors, "triton")
    monkeypatch.setattr(kernel, "MOST_BLOCKS", 3)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 2)
    row_plan.cache_clear()
    got = run(*tensors, "triton")
    plan = row_plan(
        "glu_bwd",
        kernel.configuration,
        torch.device("cpu"),
        torch.float32,
        tensors[0].shape,
        ((6,),) * 5,
        most_blocks=3,
    )
    row_plan.cache_clear()
    assert (plan.blocks, plan.span, plan.grid) == (3, 384, (2, 2))
    assert_same_bits(got[:3], want[:3])
    names = "d_left_bias", "d_gate_bias"
    assert_within_budget(names, got[3:], exact(*tensors)[3:], eager(*tensors)[3:], "blocks")


def test_only_wanted_gradients():
    *inputs, grad = draw((5, 6), torch.float32)
    out, *want = run(*inputs, grad, "triton")
    for wanted in itertools.product([False, True], repeat=4):
        got = glu_backward_op(grad, out, inputs[1], inputs[3], list(wanted), "triton")
        for gradient, expected, is_wanted in zip(got, want, wanted, strict=True):
            assert torch.equal(gradient, expected) if is_wanted else not gradient.numel()


def test_gradcheck():
    inputs = leaves(*draw((2, 2, 3), torch.float64)[:4])
    assert torch.autograd.gradcheck(lambda *a: ops.glu(*a, impl="triton"), inputs)


def test_opcheck():
    left, gate, left_bias, gate_bias, _ = draw((3, 4, 6), torch.float32)
    for inputs in [(left, gate, left_bias, gate_bias), (sliced(left), gate, None, None)]:
        torch.library.opcheck(glu_op.overload, (*leaves(*inputs), "triton"))
        arguments = (expanded_ones(left), glu_op(*inputs, "triton"), gate, inputs[3], [True] * 4, "triton")
        torch.library.opcheck(glu_backward_op.overload, arguments)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)])
def test_empty(shape):
    out, d_left, d_gate, *d_biases = run(*draw(shape, torch.float32), "triton")
    assert out.shape == d_left.shape == d_gate.shape == shape
    assert all(d_bias.shape == shape[-1:] and not d_bias.any() for d_bias in d_biases)
