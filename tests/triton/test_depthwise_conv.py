"""The Triton kernels of depthwise_conv, interpreted: against fp64, on awkward memory, with bad numbers out of reach."""

import itertools
import mmap

import pytest
import torch

from bertkernels.ops import depthwise_conv
from bertkernels.ops.depthwise_conv import (
    depthwise_conv_backward_op,
    depthwise_conv_op,
    depthwise_conv_reference,
)
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES

NAN = float("nan")


@pytest.fixture(autouse=True)
def small(request, monkeypatch):
    """Makes several groups, tiles and chunks of few tokens, and interpreted programs quick; False changes nothing."""
    if not getattr(request, "param", True):
        yield
        return
    from bertkernels.kernels import depthwise_conv as kernel

    rule = kernel.configuration
    monkeypatch.setattr(kernel, "configuration", lambda *key: {**rule(*key), "GROUP": 4, "SPAN": 2})
    monkeypatch.setattr(kernel, "chunk_count", lambda tiles, wanted: min(tiles, 2))
    kernel._plan.cache_clear()
    yield
    kernel._plan.cache_clear()


def draw(*shape, taps, dtype=torch.float32, seed=0):
    """x of this shape, weight, bias and an output gradient."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (shape, (shape[-1], taps), shape[-1:], shape)
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def int32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


def run(x, weight, bias, grad, **options):
    """Output and gradients; memory holds NaN until a kernel has written it."""
    with poisoned_memory():
        return with_gradients(lambda *a: depthwise_conv(*a, impl="triton", **options), (x, weight, bias), grad)


def eager(x, weight, bias, grad, lengths=None, cu_seqlens=None, causal=False, dtype=None):
    """Sequence by sequence in plain torch operations of one dtype; zeros past a sequence's length."""
    taps = weight.shape[-1]
    left = taps - 1 if causal else (taps - 1) // 2
    if cu_seqlens is not None:
        bounds = [(0, start, end) for start, end in itertools.pairwise(cu_seqlens.tolist())]
    else:
        ends = [x.shape[1]] * len(x) if lengths is None else lengths.tolist()
        bounds = [(row, 0, end) for row, end in enumerate(ends)]

    if all(start == end for _, start, end in bounds):  # autograd has nothing to go through
        return tuple(torch.zeros_like(tensor, dtype=dtype) for tensor in (x, x, weight, bias) if tensor is not None)

    def convolution(x, weight, bias):
        rows = x if cu_seqlens is None else x[None]
        out = torch.zeros_like(rows)
        for row, start, end in bounds:
            if start == end:
                continue
            padded = torch.nn.functional.pad(rows[row, start:end], (0, 0, left, taps - 1 - left))
            sums = (padded.unfold(0, taps, 1) * weight).sum(-1)  # [tokens, C, K] → [tokens, C]
            out[row, start:end] = sums if bias is None else sums + bias
        return out.view_as(x)

    return with_gradients(convolution, (x, weight, bias), grad, dtype)


def check(x, weight, bias, grad, note="", **options):
    names = "out", "d_x", "d_weight", "d_bias"
    got, rough = run(x, weight, bias, grad, **options), eager(x, weight, bias, grad, **options)
    exact = eager(x, weight, bias, grad, **options, dtype=torch.float64)
    if x.dtype != torch.float64:
        return assert_within_budget(names, got, exact, rough, note)
    absolute = (None if tensor is None else tensor.abs() for tensor in (x, weight, bias, grad))
    assert_within_budget(names, got, exact, rough, note, roundings=3, of=eager(*absolute, **options))


@pytest.mark.parametrize(
    "shape, taps, dtype, options",
    [
        ((2, 9, 5), 9, torch.float32, {}),
        ((2, 9, 3), 9, torch.bfloat16, {"lengths": int32(9, 4)}),
        ((1, 19, 5), 9, torch.float16, {"causal": True}),
        ((14, 3), 9, torch.float64, {"cu_seqlens": int32(0, 5, 5, 6, 14)}),
        ((2, 7, 1), 1, torch.float32, {}),
        ((2, 6, 3), 2, torch.float16, {"lengths": int32(0, 5)}),
        ((1, 7, 300), 3, torch.bfloat16, {}),
        ((2, 11, 4), 16, torch.float32, {"lengths": int32(11, 2)}),
        ((1, 5, 2), 31, torch.float32, {}),
        ((9, 3), 19, torch.bfloat16, {"cu_seqlens": int32(0, 7, 9), "causal": True}),
        ((2, 1, 4), 4, torch.float32, {}),
    ],
    ids=str,
)
def test_against_fp64(shape, taps, dtype, options):
    x, weight, bias, grad = draw(*shape, taps=taps, dtype=dtype)
    check(x, weight, bias if taps % 3 else None, grad, **options)


@pytest.mark.parametrize("small", [False], indirect=True)
@pytest.mark.parametrize("shape, taps", [((1, 70, 3), 3), ((1, 18, 2), 17)], ids=str)
def test_as_configured(small, shape, taps):
    check(*draw(*shape, taps=taps))


def test_random_sweep():
    seed, rng = seeded()
    for _ in range(6):
        batches, tokens, channels = rng.randint(1, 2), rng.randint(1, 12), rng.randint(1, 9)
        taps, dtype = rng.choice((1, 2, 3, 4, 5, 7, 9, 17)), rng.choice(DTYPES)
        options = {"causal": rng.random() < 0.3}
        shape = (batches, tokens, channels)
        form = rng.choice(("plain", "lengths", "packed"))
        if form == "lengths":
            options["lengths"] = int32(*(rng.randint(0, tokens) for _ in range(batches)))
        elif form == "packed":
            cuts = sorted(rng.randint(0, tokens) for _ in range(batches))
            options["cu_seqlens"], shape = int32(0, *cuts, tokens), shape[1:]
        x, weight, bias, grad = draw(*shape, taps=taps, dtype=dtype, seed=rng.randrange(2**31))
        note = f"seed {seed}: {shape} K={taps} {dtype} {options}"
        check(x, weight, rng.choice((bias, None)), grad, note=note, **options)


@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_memory_layouts_change_nothing(rearrange):
    tensors = draw(2, 6, 16, taps=3)
    assert_same_bits(run(*map(rearrange, tensors)), run(*tensors))


def test_expanded_inputs_and_gradients():
    x, weight, bias, grad = draw(1, 6, 4, taps=3)
    x, grad = x.expand(2, -1, -1), grad.expand(2, -1, -1)
    for gradient in (grad, expanded_ones(x), transposed(grad)):
        assert_same_bits(run(x, weight, bias, gradient), run(x.clone(), weight, bias, gradient.contiguous()))


def test_sequence_bounds_with_gaps():
    x, weight, bias, grad = draw(2, 6, 3, taps=3)
    table = int32(4, 99, 4, 99).view(2, 2)
    expected = run(x, weight, bias, grad, lengths=int32(4, 4))
    for lengths in (table[:, 0], int32(4).expand(2)):
        assert_same_bits(run(x, weight, bias, grad, lengths=lengths), expected)
    expected = run(x[0], weight, bias, grad[0], cu_seqlens=int32(0, 4, 6))
    cu_seqlens = int32(0, 99, 4, 99, 6, 99)[::2]
    assert_same_bits(run(x[0], weight, bias, grad[0], cu_seqlens=cu_seqlens), expected)


@pytest.mark.parametrize("taps", [5, 17])
def test_only_wanted_gradients(taps):
    tensors = draw(1, 6, 2, taps=taps)
    x, weight, _, grad = tensors
    want = run(*tensors)[1:]
    for wanted in ([True, False, False], [False, True, False], [False, False, True], [True, True, False]):
        got = depthwise_conv_backward_op(grad, x, weight, None, None, False, wanted, "triton")
        assert_same_bits(got, [t if w else t.new_empty(0) for t, w in zip(want, wanted, strict=True)])


def test_padding_reaches_nothing():
    x, weight, bias, grad = draw(2, 9, 3, taps=5)
    lengths = int32(3, 0)
    past = (torch.arange(9) >= lengths[:, None])[..., None]
    clean = run(x, weight, bias, grad, lengths=lengths)
    x, grad = x.masked_fill(past, NAN), grad.masked_fill(past, NAN)
    dirty = run(x, weight, bias, grad, lengths=lengths)
    assert_same_bits(dirty, clean)
    x[0, 2] = grad[0, 2] = NAN  # a real token
    for tensor in (*dirty[:2], *run(x, weight, bias, grad, lengths=lengths)[:2]):
        assert not tensor.masked_select(past).any()


@pytest.mark.parametrize("taps", [5, 17])  # 17: in rounds of 6, the last of which holds a tap too many
def test_neighbouring_sequences_reach_nothing(taps):
    x, weight, bias, grad = draw(9, 4, taps=taps)
    cu_seqlens = int32(0, 4, 5, 9)
    clean = run(x, weight, bias, grad, cu_seqlens=cu_seqlens)
    x[4:5] = grad[4:5] = NAN
    dirty = run(x, weight, bias, grad, cu_seqlens=cu_seqlens)
    for a, b in zip(clean[:2], dirty[:2], strict=True):
        assert torch.equal(a[:4], b[:4]) and torch.equal(a[5:], b[5:])
        assert b[4:5].isnan().all()


@pytest.mark.parametrize("taps", [4, 17])
def test_tokens_out_of_reach_stay_out_of_reach(taps):
    """A NaN reaches exactly the tokens whose window holds it, also where rounds end with a tap too many."""
    x, weight, bias, grad = draw(1, 20, 2, taps=taps)
    left, right = (taps - 1) // 2, taps // 2
    x[0, 10] = grad[0, 10] = NAN
    out, d_x, *_ = run(x, weight, bias, grad)
    for tensor, before, after in ((out, right, left), (d_x, left, right)):
        reached = torch.zeros(20, dtype=torch.bool)
        reached[10 - before : 10 + after + 1] = True
        assert torch.equal(tensor.isnan().any(-1).flatten(), reached)


def test_packed_is_the_loop_over_sequences():
    x, weight, bias, grad = draw(19, 4, taps=5)
    counts = (7, 1, 0, 11)
    cu_seqlens = int32(0, *itertools.accumulate(counts))
    packed = run(x, weight, bias, grad, cu_seqlens=cu_seqlens)
    alone = [
        run(x[None, start:end], weight, bias, grad[None, start:end])
        for start, end in itertools.pairwise(cu_seqlens.tolist())
    ]
    for got, parts in zip(packed[:2], zip(*alone, strict=True), strict=False):
        assert torch.equal(got, torch.cat([part[0] for part in parts]))
    for i in (2, 3):
        torch.testing.assert_close(packed[i], sum(parts[i] for parts in alone), rtol=1e-5, atol=1e-5)


def test_runs_are_bitwise_alike():
    tensors = draw(2, 9, 5, taps=5)
    assert_same_bits(run(*tensors), run(*tensors))


@pytest.mark.parametrize(
    "options, taps",
    [({}, 3), ({"causal": True}, 2), ({"lengths": int32(2)}, 3), ({"cu_seqlens": int32(0, 1, 3)}, 17)],
    ids=str,
)
def test_gradcheck(options, taps):
    shape = (3, 2) if "cu_seqlens" in options else (1, 3, 2)
    x, weight, bias, _ = draw(*shape, taps=taps, dtype=torch.float64)
    inputs = leaves(x, weight, bias)
    assert torch.autograd.gradcheck(lambda *a: depthwise_conv(*a, impl="triton", **options), inputs, fast_mode=taps > 3)


@pytest.mark.parametrize("form", ["padded", "packed"])
def test_opcheck(form):
    shape, sequence = ((2, 3, 4), (int32(3, 1), None)) if form == "padded" else ((5, 4), (None, int32(0, 2, 5)))
    x, weight, bias, grad = draw(*shape, taps=3)
    torch.library.opcheck(depthwise_conv_op.overload, (*leaves(x, weight, bias), *sequence, False, "triton"))
    for gradient, wanted in ((grad, [True, True, True]), (expanded_ones(x), [False, True, False])):
        torch.library.opcheck(
            depthwise_conv_backward_op.overload, (gradient, x, weight, *sequence, True, wanted, "triton")
        )


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 5, 4), (0, 4), (2, 5, 0)], ids=str)
def test_empty(shape):
    tensors = draw(*shape, taps=3)
    out, d_x, d_weight, d_bias = run(*tensors, **({"cu_seqlens": int32(0, 0)} if len(shape) == 2 else {}))
    assert out.shape == d_x.shape == shape
    assert d_weight.shape == tensors[1].shape and not d_weight.any()
    assert d_bias.shape == tensors[2].shape and not d_bias.any()


@pytest.mark.parametrize(
    "bad, meant",
    [
        ({"lengths": int32(-3, 99)}, {"lengths": int32(0, 5)}),
        ({"lengths": int32(2**31 - 1, -(2**31))}, {"lengths": int32(5, 0)}),
        ({"cu_seqlens": int32(2, 3, 99)}, {"cu_seqlens": int32(0, 3, 10)}),
        ({"cu_seqlens": int32(-7, 99, -1, 4)}, None),
        ({"cu_seqlens": int32(*[-(2**31), 2**31 - 1] * 2)}, None),
    ],
    ids=str,
)
def test_sequences_out_of_range_stay_in_bounds(bad, meant):
    """On a GPU nobody reads them first: the kernels clamp. Nothing is read or written beside the tensors."""
    from bertkernels.kernels import depthwise_conv as kernel

    def guarded(x, guard):
        memory = x.new_full((x.numel() + 200,), guard)
        inside = memory[100:-100].view(x.shape)
        inside.copy_(x)
        return inside, memory

    x, weight, bias, grad = draw(*((2, 5, 4) if "lengths" in bad else (10, 4)), taps=3)
    inputs = [guarded(tensor, NAN)[0] for tensor in (x, weight, bias)]
    results = [guarded(torch.zeros_like(tensor), 7.0) for tensor in (x, x, weight, bias)]
    out, *gradients = (inside for inside, _ in results)
    sequence = (bad.get("lengths"), bad.get("cu_seqlens"))
    kernel.forward(out, *inputs, *sequence, False)
    kernel.backward(guarded(grad, NAN)[0], *gradients, *inputs[:2], *sequence, False)
    for inside, memory in results:
        assert inside.isfinite().all()
        assert (memory[:100] == 7).all() and (memory[-100:] == 7).all()
    if meant:
        assert_same_bits([out, *gradients], run(x, weight, bias, grad, **meant))


@pytest.mark.parametrize("taps, options", [(3, {}), (17, {}), (3, {"cu_seqlens": int32(0, 4, 5, 18)})], ids=str)
def test_grids_of_two_sides_change_nothing(taps, options, monkeypatch):
    """As many programs as one side of a grid cannot hold; the last row of the grid has some too many."""
    from bertkernels.kernels import depthwise_conv as kernel
    from bertkernels.kernels import launch

    monkeypatch.setattr(kernel, "chunk_count", lambda tiles, wanted: 3)
    tensors = draw(*((18, 2) if options else (1, 9, 2)), taps=taps)
    expected = run(*tensors, **options)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 2)
    kernel._plan.cache_clear()
    x, weight = tensors[:2]
    shape = kernel._shape(x, weight, options.get("cu_seqlens"))
    assert kernel._plan("depthwise_conv_fwd", *shape, 1, (x.stride(), x.stride())).grid == (2, 2)  # for three programs
    assert_same_bits(run(*tensors, **options), expected)


def test_addresses_beyond_32_bits():
    """The second row of tokens lies 2³¹ elements after the first, in memory that is reserved but never touched."""
    stride = 2**31 + 16
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux; named since Python 3.13
    try:
        memory = mmap.mmap(-1, 2 * (stride + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"no 4 GB of address space: {error}")
    x, weight, bias, grad = draw(2, 3, 8, taps=3, dtype=torch.float16)
    far = torch.frombuffer(memory, dtype=torch.float16).as_strided((2, 3, 8), (stride, 8, 1))
    far.copy_(x)
    assert_same_bits(run(far, weight, bias, grad), run(x, weight, bias, grad))


def test_reference_agrees_with_the_yardstick():
    """`eager` is what the budgets here are measured by: it must compute the same thing as the specification."""
    x, weight, bias, grad = draw(12, 3, taps=4, dtype=torch.float64)
    cu_seqlens = int32(0, 5, 12)
    torch.testing.assert_close(
        eager(x, weight, bias, grad, cu_seqlens=cu_seqlens)[0],
        depthwise_conv_reference(x, weight, bias, None, cu_seqlens),
    )
