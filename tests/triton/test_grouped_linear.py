"""The Triton kernels of grouped_linear, interpreted: against fp64, in all kinds of tiles, on awkward memory."""

import itertools
import mmap

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.bias_activation import ACTIVATIONS
from bertkernels.ops.grouped_linear import grouped_linear_backward_op, grouped_linear_op
from tests.ops.bits import assert_same_bits
from tests.ops.gradients import leaves
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES
from tests.ops.test_grouped_linear import check, draw, exact, run


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", [None, "gelu"])
def test_against_fp64(dtype, activation):
    for shape in [((2, 17), 2, 24, 40), ((33,), 3, 5, 7), ((2, 3), 1, 70, 30), ((1,), 2, 1, 1), ((), 4, 3, 2)]:
        x, weight, bias, grad = draw(shape, dtype)
        for b in (bias, None):
            check(x, weight, b, grad, activation, "triton", f"{shape}")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation):
    for dtype in (torch.float32, torch.bfloat16):
        check(*draw(((9,), 2, 6, 10), dtype), activation, "triton", f"{dtype}")


@pytest.mark.parametrize(
    "dtype, shape",
    [
        (torch.bfloat16, ((5,), 1, 312, 40)),  # several rounds of the sum, the last of them short
        (torch.float16, ((5,), 2, 16, 312)),  # several tiles of columns in uneven parts
        (torch.bfloat16, ((5,), 1, 32, 256)),  # several whole tiles
        (torch.bfloat16, ((5,), 1, 200, 176)),  # three parts
        (torch.float32, ((150,), 2, 20, 70)),  # several tiles of rows
        (torch.float64, ((40,), 1, 90, 33)),
    ],
    ids=str,
)
def test_tiles_and_parts(dtype, shape):
    x, weight, bias, grad = draw(shape, dtype)
    check(x, weight, bias, grad, "gelu", "triton", f"{shape}")
    check(x, weight.mT.contiguous().mT, bias, grad, None, "triton", f"{shape} by column")


def test_every_width_has_parts_that_cover_it():
    from bertkernels.kernels.grouped_linear import configuration

    for kernel, dtype in itertools.product(("grouped_linear_fwd", "grouped_linear_bwd_weight"), DTYPES):
        for width in range(1, 1100):
            first, second = (7, width) if kernel == "grouped_linear_fwd" else (width, width)
            chosen = configuration(kernel, torch.device("cpu"), dtype, first, second)
            parts, programs = chosen["PARTS"], -(-width // chosen["WIDTH"])
            assert [first for first, _ in parts] == [sum(size for _, size in parts[:i]) for i in range(len(parts))]
            assert sum(size for _, size in parts) == chosen["WIDTH"] <= 192
            assert all(size & (size - 1) == 0 and size >= 16 for size in (*(size for _, size in parts), chosen["TILE"]))
            idle = programs * chosen["WIDTH"] - width  # columns; products take 16 at a time
            assert 0 <= idle < 16 * programs, (width, chosen)


def test_random_sweep():
    seed, rng = seeded()
    for _ in range(10):
        shape = ((rng.randint(1, 40),), rng.randint(1, 4), rng.randint(1, 50), rng.randint(1, 50))
        dtype, activation = rng.choice(DTYPES), rng.choice(list(ACTIVATIONS))
        x, weight, bias, grad = draw(shape, dtype, seed=rng.randrange(2**31))
        what = f"seed {seed}: {shape} {dtype} {activation}"
        check(x, weight, rng.choice([bias, None]), grad, activation, "triton", what)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [((100,), 2, 10, 24), ((90,), 1, 24, 10)], ids=str)
def test_blocks_of_rows_add_up_in_order(dtype, shape, monkeypatch):
    """Many small blocks, on a grid of two sides with programs to spare."""
    from bertkernels.kernels import grouped_linear as kernel
    from bertkernels.kernels import launch

    x, weight, bias, grad = draw(shape, dtype)
    whole = run(x, weight, bias, grad, None, "triton")
    monkeypatch.setattr(kernel, "LEAST_SPAN", 8)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 2)
    kernel._weight_plan.cache_clear()
    try:
        check(x, weight, bias, grad, None, "triton", "blocks")
        got = run(x, weight, bias, grad, None, "triton")
        assert_same_bits(got, run(x, weight, bias, grad, None, "triton"))
        assert_same_bits((got[0], got[1], got[3]), (whole[0], whole[1], whole[3]))
        assert kernel._weight_plan.cache_info().currsize == 1
        plan = kernel._weight_plan(x.device, dtype, len(x), (shape[1], 10, 24), (tuple(x.stride()[:1]),) * 2, (0, 24))
        assert plan.blocks > 1 and plan.grid[1] > 1
    finally:
        kernel._weight_plan.cache_clear()


def weights(weight):
    """The same numbers in other orders of memory."""
    yield weight.mT.contiguous().mT
    yield weight.transpose(0, 1).contiguous().transpose(0, 1)
    yield weight.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # neither rows nor columns are contiguous
    yield sliced(weight)
    yield misaligned(weight)


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_memory_layouts_change_nothing(activation):
    x, weight, bias, grad = draw(((2, 9), 2, 12, 20), torch.float32)
    want = run(x, weight, bias, grad, activation, "triton")
    for version in weights(weight):
        assert_same_bits(run(x, version, misaligned(bias), grad, activation, "triton"), want)
    for version, gradient in [
        (sliced(x), transposed(grad)),
        (misaligned(x), swapped(grad)),
        (swapped(x), sliced(grad)),
    ]:
        assert_same_bits(run(version, weight, bias, gradient, activation, "triton"), want)
    row, alike, ones = x[0, 0].expand(x.shape), weight[:1].expand(2, -1, -1), expanded_ones(grad)
    got = run(row, alike, bias, ones, activation, "triton")
    want = run(row.contiguous(), alike.contiguous(), bias, ones.contiguous(), activation, "triton")
    assert_same_bits(got, want)


@pytest.mark.parametrize("version", range(5))
def test_the_weights_gradient_has_its_layout(version):
    x, weight, bias, grad = draw(((7,), 2, 12, 20), torch.float32)
    weight = list(weights(weight))[version]
    *_, d_weight, _ = grouped_linear_backward_op(
        grad, x, weight, bias, x.new_empty(0), None, [False, True, False], "triton"
    )
    dense = torch.empty_like(weight)
    assert d_weight.stride() == dense.stride()


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_every_element_is_written(activation):
    tensors = draw(((37,), 2, 12, 20), torch.float32)
    want = run(*tensors, activation, "triton")
    with poisoned_memory():
        assert_same_bits(run(*tensors, activation, "triton"), want)


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_nothing_beside_the_results_is_written(activation):
    """Rows of results that lie in wider rows, which no tile may overrun."""
    from bertkernels.kernels import grouped_linear as kernel

    x, weight, bias, grad = draw(((7,), 2, 12, 20), torch.float32)
    want = run(x, weight, bias, grad, activation, "triton")
    out, d_x = torch.full((9, 50), 7.0), torch.full((9, 30), 7.0)
    kernel.forward(out[1:-1, 5:-5], None, x, weight, bias, activation)
    kernel.backward(d_x[1:-1, 3:-3], None, None, grad, x, weight, bias, None, activation)
    for wide, inside, expected in ((out, out[1:-1, 5:-5], want[0]), (d_x, d_x[1:-1, 3:-3], want[1])):
        assert torch.equal(inside, expected)
        inside.fill_(7.0)
        assert (wide == 7).all()


def test_not_a_number_stays_in_its_row_and_group():
    x, weight, bias, grad = draw(((9,), 2, 5, 7), torch.float32)
    clean = run(x, weight, bias, grad, "gelu", "triton")
    x[4, 2] = float("nan")
    out, d_x, d_weight, _ = run(x, weight, bias, grad, "gelu", "triton")
    assert out[4, :7].isnan().all() and d_x[4, :5].isnan().all() and d_weight[0].isnan().all()
    out[4, :7], d_x[4, :5], d_weight[0] = clean[0][4, :7], clean[1][4, :5], clean[2][0]
    assert_same_bits((out, d_x, d_weight), clean[:3])


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_the_product_is_kept_only_for_gradients(activation):
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32)
    want = run(x, weight, bias, grad, activation, "triton")
    inputs = leaves(x, weight, bias)
    for keep in (True, False):  # the backward pass makes the product anew where it was not kept
        out, product = grouped_linear_op(*inputs, activation, keep, "triton")
        assert product.numel() == (out.numel() if keep and activation else 0)
        assert_same_bits((out.detach(), *torch.autograd.grad(out, inputs, grad)), want)


def test_only_wanted_gradients():
    x, weight, bias, grad = draw(((5,), 2, 3, 4), torch.float32)
    for activation in (None, "gelu"):
        _, *want = run(x, weight, bias, grad, activation, "triton")
        for wanted in itertools.product([False, True], repeat=3):
            arguments = (grad, x, weight, bias, x.new_empty(0), activation, list(wanted), "triton")
            for got, expected, w in zip(grouped_linear_backward_op(*arguments), want, wanted, strict=True):
                assert torch.equal(got, expected) if w else not got.numel()


@pytest.mark.parametrize("activation", [None, "gelu", "tanh"])
def test_gradcheck(activation):
    x, weight, bias, _ = draw(((3,), 2, 2, 3), torch.float64)
    assert torch.autograd.gradcheck(
        lambda *a: ops.grouped_linear(*a, activation=activation, impl="triton"),
        leaves(x, weight, bias),
        fast_mode=activation != "gelu",
    )


def test_opcheck():
    x, weight, bias, grad = draw(((2, 5), 2, 3, 4), torch.float32)
    for tensor, b, activation, keep in [(x, bias, "gelu", True), (sliced(x), None, None, False)]:
        torch.library.opcheck(grouped_linear_op.overload, (*leaves(tensor, weight, b), activation, keep, "triton"))
        _, product = grouped_linear_op(tensor, weight, b, activation, keep, "triton")
        arguments = (expanded_ones(grad), tensor, weight, b, product, activation, [True, keep, b is not None], "triton")
        torch.library.opcheck(grouped_linear_backward_op.overload, arguments)


@pytest.mark.parametrize("shape", [((0, 4), 2, 3, 4), ((3,), 2, 0, 4), ((3,), 2, 4, 0)])
@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_empty(shape, activation):
    tensors = draw(shape, torch.float32)
    for got, want in zip(run(*tensors, activation, "triton"), exact(*tensors, activation), strict=True):
        torch.testing.assert_close(got, want.float())


def test_addresses_beyond_32_bits():
    """The second row lies 2³¹ elements after the first, in memory that is reserved but never touched."""
    stride = 2**31 + 16
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux; named since Python 3.13
    try:
        memory = mmap.mmap(-1, 2 * (stride + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"no 4 GB of address space: {error}")
    x, weight, bias, grad = draw(((2,), 2, 3, 4), torch.float16)
    want = run(x, weight, bias, grad, None, "triton")
    far_x, far_grad = (
        torch.frombuffer(memory, dtype=torch.float16, offset=64 * i).as_strided(like.shape, (stride, 1))
        for i, like in enumerate((x, grad))
    )
    far_x.copy_(x)
    far_grad.copy_(grad)
    assert_same_bits(run(far_x, weight, bias, far_grad, None, "triton"), want)
