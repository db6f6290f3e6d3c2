"""depthwise_conv on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.depthwise_conv import (
    depthwise_conv_backward_op,
    depthwise_conv_backward_reference,
    depthwise_conv_op,
    depthwise_conv_reference,
)
from tests.ops.bits import assert_same_bits, assert_threads_do_not_matter
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

TARGETS = targets("depthwise_conv")
COMPILED = compiled_targets("depthwise_conv")
# B, T, C, K: whole strips of channels and parts, T < K, T = 1, K = 1, even K, more taps than a tile has tokens
SHAPES = [
    (2, 140, 128, 9),
    (3, 5, 65, 9),
    (2, 1, 16, 3),
    (2, 12, 7, 1),
    (1, 20, 1, 4),
    (1, 150, 70, 77),
]


def draw(shape, dtype, device="cpu", seed=0):
    """x, weight, bias and an output gradient."""
    B, T, C, K = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(B, T, C), (C, K), (C,), (B, T, C)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def run(x, weight, bias, grad, impl, **options):
    return with_gradients(lambda *a: ops.depthwise_conv(*a, impl=impl, **options), (x, weight, bias), grad)


def exact(x, weight, bias, grad, lengths=None, cu_seqlens=None, causal=False):
    """Output and gradients in fp64 by autograd of the reference."""

    def reference(x, weight, bias):
        return depthwise_conv_reference(x, weight, bias, lengths, cu_seqlens, causal)

    return with_gradients(reference, (x, weight, bias), grad, torch.float64)


def eager(x, weight, bias, grad, lengths=None, causal=False):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    T, K = x.shape[1], weight.shape[1]
    left = K - 1 if causal else (K - 1) // 2
    real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    if lengths is not None:
        real = torch.arange(T, device=x.device) < lengths[:, None]

    def convolution(x, weight, bias):
        masked = torch.where(real[..., None], x, 0)
        windows = torch.nn.functional.pad(masked, (0, 0, left, K - 1 - left)).unfold(1, K, 1)  # [B, T, C, K]
        out = (windows * weight).sum(-1)
        return torch.where(real[..., None], out if bias is None else out + bias, 0)

    return with_gradients(convolution, (x, weight, bias), grad)


def check(tensors, impl, what, **options):
    names = "out", "d_x", "d_weight", "d_bias"
    got, want, same_dtype = run(*tensors, impl, **options), exact(*tensors, **options), eager(*tensors, **options)
    if got[0].dtype == torch.float64:
        terms = exact(*(None if tensor is None else tensor.abs() for tensor in tensors), **options)
        assert_within_budget(names, got, want, same_dtype, what, roundings=3, of=terms)
    else:
        assert_within_budget(names, got, want, same_dtype, what)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_against_fp64(device, impl, dtype, causal, padded):
    for shape, with_bias in itertools.product(SHAPES, [True, False]):
        x, weight, bias, grad = draw(shape, dtype, device)
        tensors = x, weight, bias if with_bias else None, grad
        lengths = [shape[1] - 3 * b for b in range(shape[0])]
        lengths = torch.tensor(lengths, dtype=torch.int32, device=device).clamp(min=0) if padded else None
        check(tensors, impl, f"{shape}", lengths=lengths, causal=causal)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_equals_conv1d(device, impl):
    """The formula itself, against torch's convolution with its own bounds and layout."""
    x, weight, bias, _ = draw((2, 30, 12, 7), torch.float64, device)
    want = torch.nn.functional.conv1d(x.mT, weight[:, None], bias, padding=3, groups=12).mT
    torch.testing.assert_close(ops.depthwise_conv(x, weight, bias, impl=impl), want)
    want = torch.nn.functional.conv1d(x.mT, weight[:, None], bias, padding=6, groups=12).mT[:, :30]
    torch.testing.assert_close(ops.depthwise_conv(x, weight, bias, causal=True, impl=impl), want)


def test_backward_reference_is_the_gradient_of_the_reference():
    x, weight, bias, grad = draw((2, 11, 5, 4), torch.float64)
    lengths = torch.tensor([11, 6], dtype=torch.int32)
    for causal in (False, True):
        got = depthwise_conv_backward_reference(grad, x, weight, lengths, None, causal)
        want = exact(x, weight, bias, grad, lengths, None, causal)[1:]
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("causal", [False, True])
def test_gradcheck(device, impl, causal):
    x, weight, bias, _ = draw((2, 6, 3, 4), torch.float64, device)
    lengths = torch.tensor([6, 4], dtype=torch.int32, device=device)
    cu_seqlens = torch.tensor([0, 5, 6], dtype=torch.int32, device=device)
    for tensor, options in [
        (x, {}),
        (x, dict(lengths=lengths)),
        (x[0], dict(cu_seqlens=cu_seqlens)),
    ]:
        inputs = [t.clone().requires_grad_() for t in (tensor, weight, bias)]
        assert torch.autograd.gradcheck(
            lambda *a, options=options: ops.depthwise_conv(*a, causal=causal, impl=impl, **options), inputs
        )


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    x, weight, bias, _ = draw((2, 9, 8, 5), torch.float32, device)
    lengths = torch.tensor([9, 4], dtype=torch.int32, device=device)
    cu_seqlens = torch.tensor([0, 4, 9], dtype=torch.int32, device=device)
    for i, (tensor, b, lens, cu) in enumerate(
        [(x, bias, lengths, None), (x[0], None, None, cu_seqlens), (sliced(x), bias, None, None)]
    ):
        torch.library.opcheck(depthwise_conv_op.overload, (*leaves(tensor, weight, b), lens, cu, False, impl))
        wanted = [i != 0, i != 1, b is not None]
        arguments = (expanded_ones(tensor), tensor, weight, lens, cu, True, wanted, impl)
        torch.library.opcheck(depthwise_conv_backward_op.overload, arguments)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    x, weight, bias, grad = draw((2, 9, 70, 5), torch.float32, device)
    _, *want = run(x, weight, bias, grad, impl)
    for wanted in itertools.product([False, True], repeat=3):
        inputs = [t.clone().requires_grad_(w) for t, w in zip((x, weight, bias), wanted, strict=True)]
        out = ops.depthwise_conv(*inputs, impl=impl)
        assert out.requires_grad == any(wanted)
        if any(wanted):
            out.backward(grad)
        for tensor, w, gradient in zip(inputs, wanted, want, strict=True):
            assert torch.equal(tensor.grad, gradient) if w else tensor.grad is None


@pytest.mark.parametrize("device, impl", TARGETS)
def test_packed_is_the_loop_over_sequences(device, impl):
    counts = [5, 0, 1, 80, 17]
    x, weight, bias, grad = draw((1, sum(counts), 70, 9), torch.float32, device)
    cu_seqlens = torch.tensor([0, *itertools.accumulate(counts)], dtype=torch.int32, device=device)
    got = run(x[0], weight, bias, grad[0], impl, cu_seqlens=cu_seqlens)
    pieces = [
        run(x[:, start:stop], weight, bias, grad[:, start:stop], impl)
        for start, stop in itertools.pairwise(cu_seqlens.tolist())
    ]
    for g, parts in zip(got[:2], zip(*pieces, strict=True), strict=False):
        assert torch.equal(g, torch.cat([part[0] for part in parts]))
    for i in (2, 3):
        torch.testing.assert_close(got[i], sum(piece[i] for piece in pieces), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_garbage_in_padding_reaches_nothing(device, impl, dtype):
    x, weight, bias, grad = draw((3, 20, 18, 5), dtype, device)
    lengths = torch.tensor([20, 7, 0], dtype=torch.int32, device=device)
    padding = (torch.arange(20, device=device) >= lengths[:, None])[..., None]
    clean = run(x.masked_fill(padding, 0), weight, bias, grad.masked_fill(padding, 0), impl, lengths=lengths)
    for garbage in (float("nan"), float("inf")):
        dirty = (x.masked_fill(padding, garbage), weight, bias, grad.masked_fill(padding, garbage))
        dirty = run(*dirty, impl, lengths=lengths)
        assert_same_bits(dirty, clean)
        for d in dirty[:2]:
            assert not d.masked_select(padding).any(), "padding must come out as zeros"


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strided_inputs_and_gradients(device, impl, dtype):
    tensors = draw((2, 18, 70, 9), dtype, device)
    want = run(*tensors, impl)
    for rearranged in (swapped, sliced, misaligned):
        assert_same_bits(run(*map(rearranged, tensors), impl), want)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_expanded_inputs_and_gradients(device, impl):
    x, weight, bias, grad = draw((1, 18, 16, 9), torch.float32, device)
    x, grad = x.expand(2, -1, -1), grad.expand(2, -1, -1)
    for gradient in (grad, expanded_ones(x), transposed(grad)):
        got = run(x, weight, bias, gradient, impl)
        assert_same_bits(got, run(x.contiguous(), weight, bias, gradient.contiguous(), impl))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written(device, impl):
    tensors = draw((2, 70, 70, 5), torch.float32, device)
    lengths = torch.tensor([70, 0], dtype=torch.int32, device=device)
    want = run(*tensors, impl, lengths=lengths)
    with poisoned_memory():
        got = run(*tensors, impl, lengths=lengths)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_bitwise_reproducible(device, impl):
    tensors = draw((4, 260, 100, 9), torch.float32, device)
    assert_threads_do_not_matter(lambda: run(*tensors, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("B, T, C", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty(device, impl, B, T, C):
    x, weight, bias, grad = draw((B, T, C, 3), torch.float32, device)
    out, d_x, d_weight, d_bias = run(x, weight, bias, grad, impl)
    assert out.shape == d_x.shape == x.shape
    assert d_weight.shape == weight.shape and not d_weight.any()
    assert d_bias.shape == bias.shape and not d_bias.any()


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    x, weight, bias, grad = draw((2, 9, 8, 5), torch.float32, device)
    inputs = x, weight.bfloat16(), bias
    assert_casts_under_autocast(lambda *a: ops.depthwise_conv(*a, impl=impl), inputs, grad)
    with torch.autocast(device, torch.bfloat16), pytest.raises(TypeError, match="weight is torch.bfloat16"):
        ops.depthwise_conv(x.double(), weight, impl=impl)  # autocast leaves fp64 alone


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    sizes = [(4, 9), (3, 17), (7, 4)]
    cases = [draw((B, T, 8, 5), torch.float32, device)[:3] for B, T in sizes]
    assert_compiles_whole_without_recompiling(lambda *a: ops.depthwise_conv(*a, impl=impl), cases)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(40):
        shape = (rng.randint(1, 4), rng.randint(1, 150), rng.randint(1, 150), rng.randint(1, 33))
        dtype = rng.choice(DTYPES)
        x, weight, bias, grad = draw(shape, dtype, device, seed=rng.randrange(2**31))
        tensors = x, weight, rng.choice([bias, None]), grad
        lengths = torch.tensor([rng.randint(0, shape[1]) for _ in range(shape[0])], dtype=torch.int32, device=device)
        options = dict(lengths=rng.choice([None, lengths]), causal=rng.random() < 0.3)
        check(tensors, impl, f"seed {seed}: {shape} {dtype} {options}", **options)


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):\n"
        "  inputs = [torch.randn(*s).to(dtype).requires_grad_() for s in ((2, 75, 77), (77, 9), (77,))]\n"
        "  inputs[0].data[0, 0] *= 1e-6\n"
        "  out = [ops.depthwise_conv(*inputs, impl=i) for i in ('cpu', 'reference')]\n"
        "  grads = [torch.autograd.grad(o, inputs, torch.ones_like(o)) for o in out]\n"
        "  for a, b in zip((out[0], *grads[0]), (out[1], *grads[1])): torch.testing.assert_close(a, b, rtol=None if"
        " dtype != torch.float32 else 1e-5, atol=None if dtype != torch.float32 else 1e-4)\n"
    )
    run_with_instruction_set("depthwise_conv", isa, code)


def _bad_calls():
    x, weight, bias = torch.zeros(2, 5, 4), torch.zeros(4, 7), torch.zeros(4)
    int32 = torch.int32
    yield "rank", (x[0, 0], weight), {}, "x must be"
    yield "weight rank", (x, weight[:, None]), {}, r"weight must be \[C, K\]"
    yield "weight channels", (x, weight[:3]), {}, r"weight must be \[C, K\] = \[4, 7\], got \[3, 7\]"
    yield "no taps", (x, weight[:, :0]), {}, "at least one tap"
    yield "bias rank", (x, weight, bias[None]), {}, r"bias must be \[C\]"
    yield "bias size", (x, weight, bias[:3]), {}, r"bias must be \[C\]"
    yield "integers", (x.long(), weight), {}, "x must be float"
    yield "weight dtype", (x, weight.double()), {}, "weight is torch.float64, x is torch.float32; both must have one"
    yield "bias dtype", (x, weight, bias.double()), {}, "bias is torch.float64"
    yield "devices", (x, weight.to("meta")), {}, "weight is on meta"
    yield "not a tensor", (x, weight.tolist()), {}, "weight must be a tensor"
    yield "x strides", (x.mT.contiguous().mT, weight), {}, "last dimension of x must be contiguous"
    yield "weight strides", (x, weight.mT.contiguous().mT), {}, "last dimension of weight must be contiguous"
    yield "bias strides", (x, weight, torch.zeros(8)[::2]), {}, "last dimension of bias must be contiguous"
    both = dict(lengths=torch.ones(2, dtype=int32), cu_seqlens=torch.zeros(2, dtype=int32))
    yield "both forms", (x, weight), both, "not both"
    yield "lengths dtype", (x, weight), dict(lengths=torch.ones(2)), "lengths must be a one-dimensional int32"
    yield "lengths count", (x, weight), dict(lengths=torch.ones(3, dtype=int32)), r"lengths must be \[B\]"
    yield "lengths past T", (x, weight), dict(lengths=torch.tensor([5, 6], dtype=int32)), "lengths must lie in"
    yield "lengths negative", (x, weight), dict(lengths=torch.tensor([5, -1], dtype=int32)), "lengths must lie in"
    yield "packed rank", (x, weight), dict(cu_seqlens=torch.tensor([0, 5], dtype=int32)), "with cu_seqlens"
    yield "padded rank", (x[0], weight), {}, "without cu_seqlens"
    for name, numbers in dict(short=[0, 4], late=[1, 5], decreasing=[0, 4, 3, 5]).items():
        options = dict(cu_seqlens=torch.tensor(numbers, dtype=int32))
        yield f"cu_seqlens {name}", (x[0], weight), options, "cu_seqlens must"


@pytest.mark.parametrize("impl", implementations_on_cpu("depthwise_conv"))
@pytest.mark.parametrize("arguments, options, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.depthwise_conv(*arguments, impl=impl, **options)


def test_an_implementation_that_cannot_run_is_an_error():
    x, weight = torch.zeros(2, 5, 4), torch.zeros(4, 7)
    with pytest.raises(RuntimeError, match="depthwise_conv: implementation 'cuda' was asked for but cannot run"):
        ops.depthwise_conv(x, weight, impl="cuda")
