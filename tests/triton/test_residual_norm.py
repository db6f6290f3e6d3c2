"""The Triton kernels of residual_norm, interpreted: against fp64, with their mask of dropout, on awkward memory."""

import itertools
import mmap

import pytest
import torch

from bertkernels import ops
from bertkernels.ops import philox
from bertkernels.ops.residual_norm import residual_norm_backward_op, residual_norm_op
from tests.ops.bits import assert_same_bits
from tests.ops.gradients import leaves
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES
from tests.ops.test_residual_norm import check, draw, kept, run, seed_of

NAN = float("nan")
HELD = 1024  # bytes of a row that stand in registers here: fewer than else, for interpreting wide rows takes long
WIDE = 262  # more columns than that, in every dtype, and not a multiple of 4


@pytest.fixture(autouse=True)
def narrow_registers(monkeypatch):
    from bertkernels.kernels import residual_norm as kernel
    from bertkernels.kernels.row_plan import row_plan

    caches = (kernel.configuration, row_plan)
    monkeypatch.setattr(kernel, "WIDEST_HELD", HELD)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_against_fp64(dtype, dropout_p):
    for shape in [(2, 3, 64), (9, 6), (5,), (3, 75), (6, 130), (5, WIDE), (2, 1030)]:
        check(draw(shape, dtype), "triton", f"{shape}", dropout_p=dropout_p)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("mean, scale, eps", [(100.0, 1.0, 1e-12), (-3.0, 1e-2, 1e-12), (0.0, 1e-6, 1e-5)])
@pytest.mark.parametrize("width", [70, WIDE])
def test_means_that_cancel_and_variances_near_eps(dtype, mean, scale, eps, width):
    x, residual, *others = draw((7, width), dtype)
    check((x * scale, mean + residual * scale, *others), "triton", f"{mean} {scale}", eps=eps)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [3, 64, WIDE])
def test_rows_of_equal_numbers_become_the_bias(dtype, width):
    x, residual, weight, bias, _ = draw((6, width), dtype)
    equal = (tensor[:, :1].repeat(1, width) for tensor in (x, residual))
    assert torch.equal(ops.residual_norm(*equal, weight, bias, impl="triton"), bias.expand(x.shape))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_rows_of_one_channel_are_the_bias_and_have_no_gradient(dtype, dropout_p):
    x, residual, weight, bias, grad = draw((9, 1), dtype)
    grad = torch.where(grad < 0, -1, 2).to(dtype)  # sums of integers are exact
    out, *others, d_bias = run(x, residual, weight, bias, grad, "triton", dropout_p)
    assert torch.equal(out, bias.expand(x.shape)) and torch.equal(d_bias, grad.sum(0))
    assert not any(gradient.any() for gradient in others)


def test_random_sweep():
    seed, rng = seeded()
    for _ in range(10):
        shape = (rng.randint(1, 20), rng.choice([rng.randint(2, 150), rng.randint(250, 350)]))
        dtype, dropout_p, mask = rng.choice(DTYPES), rng.choice([0.0, 0.1, 0.7]), rng.randrange(2**63)
        tensors = draw(shape, dtype, seed=rng.randrange(2**31))
        what = f"seed {seed}: {shape} {dtype} {dropout_p} {mask}"
        check(tensors, "triton", what, dropout_p=dropout_p, seed=mask)


def test_every_width_has_parts_that_cover_it():
    from bertkernels.kernels.residual_norm import configuration

    for kernel, dtype in itertools.product(("residual_norm_fwd", "residual_norm_bwd"), DTYPES):
        for width in range(1, 1300):
            parts = configuration(kernel, torch.device("cpu"), dtype, width)["PARTS"]
            held = width * max(4, dtype.itemsize) <= HELD
            assert bool(parts) == held
            assert [first for first, _ in parts] == [sum(size for _, size in parts[:i]) for i in range(len(parts))]
            assert not held or parts[-1][0] < width <= sum(parts[-1])


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("width", [22, WIDE])
def test_memory_layouts_change_nothing(dropout_p, width):
    x, residual, weight, bias, grad = draw((2, 3, width), torch.float32)
    want = run(x, residual, weight, bias, grad, "triton", dropout_p)
    versions = [x, sliced(x), misaligned(x), swapped(x)]
    others = [residual, swapped(residual), sliced(residual), misaligned(residual)]
    gradients = [transposed(grad), swapped(grad), sliced(grad), misaligned(grad)]
    for version, other, gradient in zip(versions, others, gradients, strict=True):
        got = run(version, other, misaligned(weight), misaligned(bias), gradient, "triton", dropout_p)
        assert_same_bits(got, want)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_expanded_inputs_and_gradients(dropout_p):
    x, residual, weight, bias, _ = draw((2, 3, 22), torch.float32)
    row, alike, ones = bias.expand(x.shape), weight[:1].expand(22), expanded_ones(x)
    got = run(row, residual[:1, :1].expand(x.shape), alike.contiguous(), bias, ones, "triton", dropout_p)
    dense = (row.contiguous(), residual[:1, :1].repeat(2, 3, 1), alike.contiguous(), bias, ones.contiguous())
    assert_same_bits(got, run(*dense, "triton", dropout_p))


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("width", [26, WIDE])
def test_every_element_is_written(dropout_p, width):
    tensors = draw((7, width), torch.float32)
    want = run(*tensors, "triton", dropout_p)
    with poisoned_memory():
        assert_same_bits(run(*tensors, "triton", dropout_p), want)


@pytest.mark.parametrize("width", [26, WIDE])
def test_nothing_beside_the_results_is_written(width):
    """Rows of results that lie in wider rows, which no part may overrun."""
    from bertkernels.kernels import residual_norm as kernel

    x, residual, weight, bias, grad = draw((7, width), torch.float32)
    want = run(x, residual, weight, bias, grad, "triton", 0.3)
    dropout = (seed_of(3), philox.threshold(0.3), 1 / 0.7)
    rows = [torch.full((9, width + 20), 7.0) for _ in range(3)]  # out, d_x, d_residual
    vectors = [torch.full((width + 20,), 7.0) for _ in range(2)]  # d_weight, d_bias
    moments = torch.full((9, 2), 7.0)
    inside = [*(tensor[1:-1, 5:-15] for tensor in rows), *(vector[5:-15] for vector in vectors)]
    kernel.forward(inside[0], moments[1:-1], x, residual, weight, bias, *dropout, 1e-12)
    kernel.backward(*inside[1:], grad, x, residual, weight, *dropout, moments[1:-1])
    assert_same_bits(inside, want)
    for tensor in (*inside, moments[1:-1]):
        tensor.fill_(7.0)
    assert all((tensor == 7).all() for tensor in (*rows, *vectors, moments))


@pytest.mark.parametrize("width", [6, WIDE])
def test_blocks_of_rows_add_up_in_order(width, monkeypatch):
    """Few large blocks, the last of them short, and a grid of two sides with programs to spare."""
    from bertkernels.kernels import launch
    from bertkernels.kernels import residual_norm as kernel
    from bertkernels.kernels.row_plan import row_plan

    tensors = draw((37, width), torch.float32)
    want = run(*tensors, "triton", 0.3)
    monkeypatch.setattr(kernel, "MOST_BLOCKS", 3)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 2)
    row_plan.cache_clear()
    got = run(*tensors, "triton", 0.3)
    plan = row_plan(
        "residual_norm_bwd",
        kernel.configuration,
        torch.device("cpu"),
        torch.float32,
        (37, width),
        ((width,),) * 5,
        most_blocks=3,
        whole_rows=True,
    )
    assert (plan.blocks, plan.span, plan.grid) == (3, 16, (2, 2))
    assert_same_bits(got[:3], want[:3])
    check(tensors, "triton", "blocks", dropout_p=0.3)
    assert_same_bits(run(*tensors, "triton", 0.3), got)


def test_runs_are_bitwise_alike():
    for width in (70, WIDE):
        tensors = draw((9, width), torch.bfloat16)
        assert_same_bits(run(*tensors, "triton", 0.1), run(*tensors, "triton", 0.1))


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("width", [20, WIDE])
def test_only_wanted_gradients(dropout_p, width):
    x, residual, weight, bias, grad = draw((5, width), torch.float32)
    seed = seed_of(3) if dropout_p else None
    _, moments = residual_norm_op(x, residual, weight, bias, seed, 1e-12, dropout_p, "triton")
    _, *want = run(x, residual, weight, bias, grad, "triton", dropout_p)
    for wanted in ([False] * 4, *([i == j for i in range(4)] for j in range(4)), [True, False, True, False]):
        arguments = (grad, x, residual, weight, seed, moments, dropout_p, wanted, "triton")
        got = residual_norm_backward_op(*arguments)
        made = (wanted[0], wanted[1], *wanted[2:]) if dropout_p else (False, wanted[0] or wanted[1], *wanted[2:])
        for gradient, expected, is_made in zip(got, want, made, strict=True):
            assert torch.equal(gradient, expected) if is_made else not gradient.numel()


@pytest.mark.parametrize("width", [50, WIDE])
def test_not_a_number_stays_in_its_row(width):
    tensors = draw((9, width), torch.float32)
    clean = run(*tensors, "triton")
    tensors[0][4, 7], tensors[1][6, 49] = NAN, float("inf")
    rows = torch.tensor([0, 1, 2, 3, 5, 7, 8])
    for dirty, want in zip(run(*tensors, "triton")[:3], clean, strict=False):
        assert torch.equal(dirty[rows], want[rows])
        assert dirty[[4, 6]].isnan().all()


# -- dropout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 6, 64, WIDE])
def test_the_mask_is_that_of_its_definition(dtype, width):
    """d_x is d_residual where x is kept, times 1 / (1 - p); what was dropped, be it no number, reaches nothing."""
    shape, dropout_p = (7, width), 0.5  # a factor of 2 rounds nothing but subnormal numbers
    smallest = torch.finfo(dtype).tiny * torch.finfo(dtype).eps
    for seed in (0, 2**63 - 1, -(2**62) - 12345):
        x, *others = draw(shape, dtype)
        mask = kept(shape, dropout_p, seed)
        out, d_x, d_residual, *_ = run(x, *others, "triton", dropout_p, seed=seed)
        assert (d_x - torch.where(mask, 2 * d_residual, 0)).abs().max() <= smallest and not d_x[~mask].any()
        dirty = torch.where(mask, x, NAN)
        assert_same_bits(run(dirty, *others, "triton", dropout_p, seed=seed)[:2], (out, d_x))


@pytest.mark.parametrize("dropout_p", [0.1, 0.9, 1 - 2**-40])
def test_the_mask_is_that_of_the_cpu(dropout_p):
    """Bit for bit, read off where x has no gradient."""
    possible, reason = ops.can_run("residual_norm", "cpu", "cpu")
    if not possible:
        pytest.skip(reason)
    for width in (3, 70, WIDE):
        _, residual, weight, bias, grad = draw((5, width), torch.float32)
        x = torch.full_like(residual, 3.0)
        for seed in (1, 2**40 + 5, -9):
            masks = []
            for impl in ("cpu", "triton"):
                _, d_x, d_residual, *_ = run(x, residual, weight, bias, grad, impl, dropout_p, seed=seed)
                assert d_residual.all()
                masks.append(d_x != 0)
            assert torch.equal(*masks)
            assert torch.equal(masks[0], kept(x.shape, dropout_p, seed))


# -- torch's own checks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_gradcheck(dropout_p):
    *inputs, _ = draw((2, 5), torch.float64)
    seed = seed_of(1) if dropout_p else None
    assert torch.autograd.gradcheck(
        lambda *a: residual_norm_op(*a, seed, 1e-12, dropout_p, "triton")[0], leaves(*inputs)
    )


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_opcheck(dropout_p):
    x, residual, weight, bias, grad = draw((3, 4, 6), torch.float32)
    seed = seed_of(1) if dropout_p else None
    arguments = (sliced(x), residual, weight, bias)
    torch.library.opcheck(residual_norm_op.overload, (*leaves(*arguments), seed, 1e-12, dropout_p, "triton"))
    _, moments = residual_norm_op(*arguments, seed, 1e-12, dropout_p, "triton")
    for upstream, wanted in ((grad, [True] * 4), (expanded_ones(grad), [False, True, False, True])):
        arguments = (upstream, x, residual, weight, seed, moments, dropout_p, wanted, "triton")
        torch.library.opcheck(residual_norm_backward_op.overload, arguments)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,), (2, 0, 3)])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_empty(shape, dropout_p):
    out, d_x, d_residual, d_weight, d_bias = run(*draw(shape, torch.float32), "triton", dropout_p)
    assert out.shape == d_x.shape == d_residual.shape == shape
    assert d_weight.shape == d_bias.shape == shape[-1:] and not d_weight.any() and not d_bias.any()


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_addresses_beyond_32_bits():
    """The second row lies 2³¹ elements after the first, in memory that is reserved but never touched."""
    stride = 2**31 + 16
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux; named since Python 3.13
    try:
        memory = mmap.mmap(-1, 2 * (stride + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"no 4 GB of address space: {error}")
    tensors = draw((2, 8), torch.float16)
    want = run(*tensors, "triton", 0.3)
    for i in (0, 1, 4):  # x, residual, the output's gradient
        far = torch.frombuffer(memory, dtype=torch.float16).as_strided((2, 8), (stride, 1))
        far.copy_(tensors[i])
        assert_same_bits(run(*tensors[:i], far, *tensors[i + 1 :], "triton", 0.3), want)
