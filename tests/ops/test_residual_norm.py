"""residual_norm on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops import philox
from bertkernels.ops.residual_norm import (
    residual_norm_backward_op,
    residual_norm_backward_reference,
    residual_norm_op,
    residual_norm_reference,
)
from tests.ops.bits import assert_same_bits, assert_threads_do_not_matter
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

TARGETS = targets("residual_norm")
COMPILED = compiled_targets("residual_norm")
SHAPES = [(2, 35, 64), (3, 600), (7, 1), (5,), (70, 130), (9, 312), (6, 1029)]
NAMES = "out", "d_x", "d_residual", "d_weight", "d_bias"


def draw(shape, dtype, device="cpu", seed=0):
    """x, residual, weight, bias and an output gradient."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [shape, shape, shape[-1:], shape[-1:], shape]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def seed_of(number, device="cpu"):
    return torch.tensor([number], dtype=torch.int64, device=device)


def run(x, residual, weight, bias, grad, impl, dropout_p=0.0, eps=1e-12, seed=3):
    """Output and gradients, with the mask that goes with the seed."""

    def function(*inputs):
        drawn = seed_of(seed, x.device) if dropout_p else None
        return residual_norm_op(*inputs, drawn, eps, dropout_p, impl)[0]

    return with_gradients(function, (x, residual, weight, bias), grad)


def exact(x, residual, weight, bias, grad, dropout_p=0.0, eps=1e-12, seed=3):
    """Output and gradients in fp64 by autograd of the reference."""

    def function(*inputs):
        return residual_norm_reference(*inputs, seed_of(seed, x.device) if dropout_p else None, eps, dropout_p)

    return with_gradients(function, (x, residual, weight, bias), grad, torch.float64)


def eager(x, residual, weight, bias, grad, dropout_p=0.0, eps=1e-12, seed=3):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    factors = kept(x.shape, dropout_p, seed, x.device).to(x.dtype) / (1 - dropout_p)

    def function(x, residual, weight, bias):
        total = residual + x * factors if dropout_p else residual + x
        return torch.nn.functional.layer_norm(total, weight.shape, weight, bias, eps)

    return with_gradients(function, (x, residual, weight, bias), grad)


def kept(shape, dropout_p, seed, device="cpu"):
    """The mask of dropout by its definition, element by element: where x is kept."""
    width = shape[-1]
    index = torch.arange(torch.Size(shape).numel(), device=device).view(shape)
    index = index // width * (-(-width // 4) * 4) + index % width
    return philox.random_bits(seed_of(seed, device), index) >= philox.threshold(dropout_p)


def check(tensors, impl, what, **options):
    assert_within_budget(
        NAMES, run(*tensors, impl, **options), exact(*tensors, **options), eager(*tensors, **options), what
    )


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dropout_p", [0.0, 0.1])
def test_against_fp64(device, impl, dtype, dropout_p):
    for shape in SHAPES:
        # Eager torch keeps 1 / √(var + eps) of fp16 in fp16, which has no 10⁶: with BERT's eps rows of one channel have
        # no measure there. What they come to with it is known exactly, see the next test.
        eps = 1e-12 if shape[-1] > 1 else 1e-8
        check(draw(shape, dtype, device), impl, f"{shape}", dropout_p=dropout_p, eps=eps)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_rows_of_one_channel_are_the_bias_and_have_no_gradient(device, impl, dtype, dropout_p):
    """Exactly: a rounding of their mean would come out times 1 / √eps = 10⁶, which is infinite in fp16."""
    x, residual, weight, bias, grad = draw((70, 1), dtype, device)
    grad = torch.where(grad < 0, -1, 2).to(dtype)  # sums of integers are exact
    out, d_x, d_residual, d_weight, d_bias = run(x, residual, weight, bias, grad, impl, dropout_p)
    assert torch.equal(out, bias.expand(x.shape))
    assert not d_x.any() and not d_residual.any() and not d_weight.any()
    assert torch.equal(d_bias, grad.sum(0))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "mean, scale, eps", [(100.0, 1.0, 1e-12), (-3.0, 1e-2, 1e-12), (0.0, 1e-6, 1e-12), (0.0, 1e-6, 1e-5)]
)
def test_means_that_cancel_and_variances_near_eps(device, impl, dtype, mean, scale, eps):
    x, residual, *others = draw((40, 200), dtype, device)
    check((x * scale, mean + residual * scale, *others), impl, f"{mean} {scale}", eps=eps)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 3, 64, 312])
def test_rows_of_equal_numbers_become_the_bias(device, impl, dtype, width):
    """Their variance is zero: rounding of the mean must not come out times 1 / √eps = 10⁶."""
    x, residual, weight, bias, _ = draw((50, width), dtype, device)
    equal = (tensor[:, :1].repeat(1, width) for tensor in (x, residual))
    out = ops.residual_norm(*equal, weight, bias, impl=impl)
    assert torch.equal(out, bias.expand(x.shape))


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_backward_reference_is_the_gradient_of_the_reference(dropout_p):
    x, residual, weight, bias, grad = draw((3, 5, 6), torch.float64)
    got = residual_norm_backward_reference(
        grad, x, residual, weight, seed_of(3) if dropout_p else None, 1e-12, dropout_p
    )
    for g, w in zip(got, exact(x, residual, weight, bias, grad, dropout_p)[1:], strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_gradcheck(device, impl, dropout_p):
    *inputs, _ = draw((2, 3, 5), torch.float64, device)
    seed = seed_of(1, device) if dropout_p else None

    def function(*inputs):
        return residual_norm_op(*inputs, seed, 1e-12, dropout_p, impl)[0]

    assert torch.autograd.gradcheck(function, leaves(*inputs))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_opcheck(device, impl, dropout_p):
    x, residual, weight, bias, grad = draw((3, 4, 6), torch.float32, device)
    seed = seed_of(1, device) if dropout_p else None
    for tensor in (x, sliced(x)):
        arguments = (tensor, residual, weight, bias)
        torch.library.opcheck(residual_norm_op.overload, (*leaves(*arguments), seed, 1e-12, dropout_p, impl))
        _, moments = residual_norm_op(*arguments, seed, 1e-12, dropout_p, impl)
        for upstream, wanted in ((grad, [True] * 4), (expanded_ones(grad), [False, True, False, True])):
            arguments = (upstream, tensor, residual, weight, seed, moments, dropout_p, wanted, impl)
            torch.library.opcheck(residual_norm_backward_op.overload, arguments)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_only_wanted_gradients(device, impl, dropout_p):
    *inputs, grad = draw((7, 20), torch.float32, device)
    _, *want = run(*inputs, grad, impl, dropout_p)
    seed = seed_of(3, device) if dropout_p else None
    for wanted in itertools.product([False, True], repeat=4):
        tensors = [tensor.clone().requires_grad_(w) for tensor, w in zip(inputs, wanted, strict=True)]
        out, moments = residual_norm_op(*tensors, seed, 1e-12, dropout_p, impl)
        assert out.requires_grad == any(wanted) and not moments.requires_grad
        if any(wanted):
            out.backward(grad)
        for tensor, w, gradient in zip(tensors, wanted, want, strict=True):
            assert torch.equal(tensor.grad, gradient) if w else tensor.grad is None


@pytest.mark.parametrize("device, impl", TARGETS)
def test_a_tensor_may_be_its_own_residual(device, impl):
    x, _, weight, bias, grad = draw((7, 20), torch.float32, device)
    (leaf,) = leaves(x)
    ops.residual_norm(leaf, leaf, weight, bias, impl=impl).backward(grad)
    _, d_x, d_residual, *_ = run(x, x, weight, bias, grad, impl)
    assert torch.equal(leaf.grad, d_x + d_residual)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_strided_inputs_and_gradients(device, impl, dtype, dropout_p):
    x, residual, weight, bias, grad = draw((4, 6, 70), dtype, device)
    want = run(x, residual, weight, bias, grad, impl, dropout_p)
    versions = [x, sliced(x), misaligned(x), swapped(x)]
    others = [residual, swapped(residual), sliced(residual), misaligned(residual)]
    gradients = [transposed(grad), swapped(grad), sliced(grad), misaligned(grad)]
    for version, other, gradient in zip(versions, others, gradients, strict=True):
        got = run(version, other, misaligned(weight), misaligned(bias), gradient, impl, dropout_p)
        assert_same_bits(got, want)
    row, ones = bias.expand(x.shape), expanded_ones(x)
    got = run(row, residual, weight[:1].repeat(70), bias, ones, impl, dropout_p)
    assert_same_bits(
        got, run(row.contiguous(), residual, weight[:1].repeat(70), bias, ones.contiguous(), impl, dropout_p)
    )


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_every_element_is_written(device, impl, dropout_p):
    tensors = draw((37, 130), torch.float32, device)
    want = run(*tensors, impl, dropout_p)
    with poisoned_memory():
        got = run(*tensors, impl, dropout_p)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_bitwise_reproducible(device, impl, dropout_p):
    tensors = draw((300, 1100), torch.float32, device)
    assert_threads_do_not_matter(lambda: run(*tensors, impl, dropout_p))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,), (2, 0, 3)])
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_empty(device, impl, shape, dropout_p):
    tensors = draw(shape, torch.float32, device)
    out, d_x, d_residual, d_weight, d_bias = run(*tensors, impl, dropout_p)
    assert out.shape == d_x.shape == d_residual.shape == shape
    assert d_weight.shape == d_bias.shape == shape[-1:] and not d_weight.any() and not d_bias.any()


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_not_a_number_stays_in_its_row(device, impl, dtype):
    tensors = draw((9, 50), dtype, device)
    clean = run(*tensors, impl)
    tensors[0][4, 7], tensors[1][6, 49] = float("nan"), float("inf")
    rows = torch.tensor([0, 1, 2, 3, 5, 7, 8], device=device)
    for dirty, want in zip(run(*tensors, impl)[:3], clean, strict=False):
        assert torch.equal(dirty[rows], want[rows])
        assert dirty[[4, 6]].isnan().all()


# -- dropout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 6, 64, 301])
def test_the_mask_is_that_of_its_definition(device, impl, dtype, width):
    """d_x is d_residual where x is kept, times 1 / (1 - p); what was dropped, be it no number, reaches nothing."""
    shape, dropout_p = (23, width), 0.5  # a factor of 2 rounds nothing
    for seed in (0, 3, 2**63 - 1, -(2**62) - 12345):
        x, *others = draw(shape, dtype, device)
        mask = kept(shape, dropout_p, seed, device)
        out, d_x, d_residual, *_ = run(x, *others, impl, dropout_p, seed=seed)
        assert torch.equal(d_x, torch.where(mask, 2 * d_residual, 0))
        dirty = torch.where(mask, x, float("nan"))
        assert_same_bits(run(dirty, *others, impl, dropout_p, seed=seed)[:2], (out, d_x))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_dropout_comes_from_the_generator(device, impl):
    x, residual, weight, bias, _ = draw((9, 50), torch.float32, device)

    def function():
        return ops.residual_norm(x, residual, weight, bias, dropout_p=0.2, impl=impl)

    torch.manual_seed(5)
    first, second = function(), function()
    torch.manual_seed(5)
    assert torch.equal(function(), first)
    assert not torch.equal(first, second)


def test_as_many_are_dropped_as_asked_for():
    """Within five standard deviations, over all elements and over each of the four words of a block."""
    mask = kept((1000, 1024), 0.1, 7)
    for part in (mask, *(mask[:, i::4] for i in range(4))):
        deviation = (0.1 * 0.9 / part.numel()) ** 0.5
        assert abs(1 - part.double().mean() - 0.1) < 5 * deviation
    again = kept((1000, 1024), 0.1, 8)
    both = (~mask & ~again).double().mean()  # of two seeds, as if independent
    assert abs(both - 0.01) < 5 * (0.01 * 0.99 / mask.numel()) ** 0.5


def test_random_bits_are_philox():
    """The published known answer for the counter and key of zeros (Random123, kat_vectors: philox4x32, 10 rounds)."""
    bits = philox.random_bits(seed_of(0), torch.arange(4))
    assert [f"{word:08x}" for word in bits.tolist()] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]


# -- modes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    x, residual, weight, bias, grad = draw((4, 9), torch.float32, device)
    inputs = x.bfloat16(), residual, weight, bias
    assert_casts_under_autocast(lambda *a: ops.residual_norm(*a, impl=impl), inputs, grad)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_backward_under_autocast_keeps_the_moments(device, impl):
    """They are fp32 beside bf16 inputs; rounded to bf16 they would lose a mean far from zero."""
    x, residual, weight, bias, grad = draw((4, 90), torch.bfloat16, device)
    want = run(x, residual + 64, weight, bias, grad, impl)
    with torch.autocast(device, torch.bfloat16):
        got = run(x, residual + 64, weight, bias, grad, impl)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    cases = [draw((B, T, 8), torch.float32, device)[:4] for B, T in [(4, 9), (3, 17), (7, 5)]]
    assert_compiles_whole_without_recompiling(lambda *a: ops.residual_norm(*a, impl=impl), cases)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_with_dropout(device, impl):
    """One graph, in which each call draws a mask of its own and the backward pass the same."""
    tensors = draw((40, 50), torch.float32, device)[:4]

    @torch.compile(fullgraph=True, dynamic=True, backend="aot_eager")
    def function(*inputs):
        return ops.residual_norm(*inputs, dropout_p=0.5, impl=impl)

    torch._dynamo.reset()
    results = []
    for _ in range(2):
        inputs = leaves(*tensors)
        out = function(*inputs)
        d_x, d_residual = torch.autograd.grad(out.square().sum(), inputs[:2])
        mask = d_x != 0
        assert 0.4 < mask.double().mean() < 0.6 and torch.equal(d_x, torch.where(mask, 2 * d_residual, 0))
        results.append(mask)
    assert not torch.equal(*results)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(60):
        shape = (rng.randint(1, 90), rng.randint(2, 700))
        dtype, dropout_p, mask = rng.choice(DTYPES), rng.choice([0.0, 0.1, 0.7]), rng.randrange(2**63)
        tensors = draw(shape, dtype, device, seed=rng.randrange(2**31))
        what = f"seed {seed}: {shape} {dtype} {dropout_p} {mask}"
        check(tensors, impl, what, dropout_p=dropout_p, seed=mask)


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "from bertkernels.ops.residual_norm import residual_norm_op\n"
        "seed = torch.tensor([12345])\n"
        "for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):\n"
        "  for width in (5, 64, 77, 300):\n"
        "    for p in (0.0, 0.5):\n"
        "      sizes = ((37, width), (37, width), (width,), (width,))\n"
        "      inputs = [torch.randn(*s).to(dtype).requires_grad_() for s in sizes]\n"
        "      out = [residual_norm_op(*inputs, seed if p else None, 1e-12, p, i)[0] for i in ('cpu', 'reference')]\n"
        "      grads = [torch.autograd.grad(o, inputs, torch.ones_like(o)) for o in out]\n"
        "      for a, b in zip((out[0], *grads[0]), (out[1], *grads[1])):\n"
        "        torch.testing.assert_close(a, b, **(dict(rtol=2e-6, atol=2e-5) if dtype == torch.float32 else {}))\n"
    )
    run_with_instruction_set("residual_norm", isa, code)


def _bad_calls():
    x, weight = torch.zeros(2, 5, 4), torch.zeros(4)
    yield "not a tensor", (x.tolist(), x, weight, weight), {}, "x must be a tensor"
    yield "no dimension", (x[0, 0, 0], x, weight, weight), {}, "x must be"
    yield "integers", (x.long(), x, weight, weight), {}, "x must be float"
    yield "x strides", (x.mT.contiguous().mT, x, weight, weight), {}, "last dimension of x must be contiguous"
    yield "residual rank", (x, x[0], weight, weight), {}, "residual must be"
    yield "residual shape", (x, x[:1], weight, weight), {}, r"residual must be x's shape = \[2, 5, 4\], got \[1, 5, 4\]"
    yield "residual dtype", (x, x.double(), weight, weight), {}, "residual is torch.float64"
    yield "weight None", (x, x, None, weight), {}, "weight must be a tensor"
    yield "weight rank", (x, x, weight[None], weight), {}, r"weight must be \[4\]"
    yield "weight size", (x, x, weight[:3], weight), {}, r"weight must be one value a channel = \[4\], got \[3\]"
    yield "bias size", (x, x, weight, weight[:3]), {}, "bias must be one value a channel"
    yield "bias device", (x, x, weight, weight.to("meta")), {}, "bias is on meta"
    yield "eps", (x, x, weight, weight), {"eps": -1e-5}, "eps must not be negative, got -1e-05"
    yield "eps NaN", (x, x, weight, weight), {"eps": float("nan")}, "eps must not be negative"
    yield "dropout_p", (x, x, weight, weight), {"dropout_p": 1.0}, "dropout_p must be from 0 to below 1, got 1.0"


@pytest.mark.parametrize("impl", implementations_on_cpu("residual_norm"))
@pytest.mark.parametrize("arguments, options, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.residual_norm(*arguments, impl=impl, **options)
