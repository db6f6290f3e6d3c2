"""The Triton kernels of span_conv, interpreted: against fp64, on awkward memory, on bad numbers outside sequences."""

import mmap

import pytest
import torch

from bertkernels.ops.span_conv import span_conv_logits_backward_op, span_conv_logits_op, span_conv_op
from tests.ops.bits import assert_same_bits
from tests.ops.gradients import leaves
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES
from tests.ops.test_span_conv import call, check, draw, int32, run, tokens_of

NAN = float("nan")
PER_TOKEN = 4  # results: the output and the gradients of x, query and values


def run_triton(*tensors, **options):
    return run(*tensors, impl="triton", **options)


@pytest.mark.parametrize(
    "shape, dtype, lengths, fused",
    [
        ((1, 9, 48, 2, 48, 9, 9), torch.bfloat16, None, True),  # published width of a head
        ((2, 37, 24, 6, 64, 9, 9), torch.bfloat16, [37, 22], True),  # base: groups of 2 tokens
        ((2, 5, 16, 3, 16, 9, 9), torch.float32, [5, 2], True),  # H·K = 27, in two parts
        ((1, 70, 8, 1, 8, 3, 3), torch.float16, None, True),  # several programs
        ((2, 3, 33, 2, 9, 12, 4), torch.float32, [3, 0], True),  # more taps than are convolved in the same launch
        ((1, 4, 5, 5, 3, 1, 1), torch.float64, None, True),
        ((1, 4, 20, 2, 70, 2, 2), torch.float64, None, False),  # H·D in several passes
        ((2, 1, 16, 9, 2, 3, 5), torch.bfloat16, None, False),
    ],
    ids=str,
)
def test_against_fp64(shape, dtype, lengths, fused):
    check(draw(shape, dtype, fused=fused), "triton", f"{shape}", lengths=None if lengths is None else int32(lengths))


def test_random_sweep():
    seed, rng = seeded()
    for _ in range(4):
        shape = (rng.randint(1, 2), rng.randint(1, 9), rng.randint(1, 40), rng.randint(1, 3), rng.randint(1, 24))
        shape = (*shape, rng.randint(1, 10), rng.randint(1, 7))
        dtype, fused = rng.choice(DTYPES), rng.random() < 0.6
        tensors = draw(shape, dtype, seed=rng.randrange(2**31), fused=fused)
        lengths = rng.choice([None, int32([rng.randint(0, shape[1]) for _ in range(shape[0])])])
        check(tensors, "triton", f"seed {seed}: {shape} {dtype} fused {fused} lengths {lengths}", lengths=lengths)


def test_without_biases():
    tensors = draw((1, 5, 12, 2, 8, 3, 3), torch.float32)
    tensors[5] = tensors[7] = None
    check(tensors, "triton", "no biases")


def test_tokens_in_several_chunks(monkeypatch):
    """Shares of the weights' gradients are added up over as many tiles and chunks as a large batch has."""
    from bertkernels.kernels import span_conv as kernel

    monkeypatch.setattr(kernel, "chunk_count", lambda tiles, wanted: 3)
    kernel._backward_plan.cache_clear()
    check(draw((2, 75, 4, 1, 8, 3, 3), torch.float32), "triton", "three chunks", lengths=int32([75, 31]))
    kernel._backward_plan.cache_clear()


@pytest.mark.parametrize("wanted", [[False] * 3, [True, False, False], [False, True, True]], ids=str)
def test_sums_that_are_not_wanted_are_not_worked_out(wanted, monkeypatch):
    """No shares are made where none of the three gradients is, that of pointwise_bias, kernel_weight or kernel_bias."""
    from bertkernels.kernels import span_conv as kernel

    x, query, _, *weights, _ = draw((2, 5, 12, 1, 8, 3, 3), torch.float32)
    logits, product = span_conv_logits_op(x, query, *weights, None, None, True, "triton")
    saved = (logits, x, query, *weights[:-1], product, None, None)
    all_wanted = span_conv_logits_backward_op(*saved, [True] * 7, "triton")
    launched = []
    original = kernel.span_conv_bwd_kernel

    class Watched:
        def __getitem__(self, grid):
            return lambda *args, **options: (launched.append(args), original[grid](*args, **options))

    monkeypatch.setattr(kernel, "span_conv_bwd_kernel", Watched())
    pointwise, weight, bias = wanted
    flags = [True, True, False, False, pointwise, weight, bias]
    got = span_conv_logits_backward_op(*saved, flags, "triton")
    assert (launched[0][2] is not None) == any(wanted)
    for gradient, expected, is_wanted in zip(got, all_wanted, flags, strict=True):
        assert torch.equal(gradient, expected) if is_wanted else not gradient.numel()


@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_memory_layouts_change_nothing(rearrange):
    tensors = draw((2, 6, 16, 2, 16, 3, 3), torch.float32)
    plain = run_triton(*tensors)
    rearranged = run_triton(*map(rearrange, tensors))
    assert_same_bits(rearranged[:PER_TOKEN], plain[:PER_TOKEN])
    for got, want in zip(rearranged[PER_TOKEN:], plain[PER_TOKEN:], strict=True):
        torch.testing.assert_close(got, want)  # torch's products may add up in another order


def test_expanded_inputs_and_gradients():
    tensors = draw((1, 6, 12, 2, 8, 3, 3), torch.float32)
    tensors = tokens_of(tensors, lambda t: t.expand(2, *t.shape[1:]))
    tensors[-1] = expanded_ones(tensors[-1])
    check(tensors, "triton", "expanded")


def test_padding_reaches_nothing_and_all_is_written():
    tensors = draw((2, 7, 12, 1, 8, 5, 5), torch.float32)
    lengths = int32([3, 0])
    padding = torch.arange(7) >= lengths[:, None]

    def filled(garbage):
        return tokens_of(tensors, lambda t: t.masked_fill(padding.view(2, 7, *[1] * (t.dim() - 2)), garbage))

    clean = run_triton(*filled(0.0), lengths=lengths)
    poisoned = filled(NAN)
    with poisoned_memory():
        assert_same_bits(run_triton(*poisoned, lengths=lengths), clean)
    poisoned[0][0, 2] = NAN  # a real token
    for result in (*clean[:PER_TOKEN], *run_triton(*poisoned, lengths=lengths)[:PER_TOKEN]):
        assert not result[padding].any()


def test_packed_sequences():
    """As each sequence alone, whatever stands in the others."""
    tensors = tokens_of(draw((1, 19, 12, 1, 8, 9, 5), torch.float32), lambda t: t[0])
    cu_seqlens = int32([0, 7, 8, 8, 19])
    packed = run_triton(*tensors, cu_seqlens=cu_seqlens)[:PER_TOKEN]
    for start, end in ((0, 7), (7, 8), (8, 19)):
        alone = run_triton(*tokens_of(tensors, lambda t, start=start, end=end: t[None, start:end]))[:PER_TOKEN]
        assert_same_bits([x[start:end] for x in packed], [x[0] for x in alone])
    for x in (*tensors[:3], tensors[-1]):
        x[7:8] = NAN
    dirty = run_triton(*tensors, cu_seqlens=cu_seqlens)[:PER_TOKEN]
    for a, b in zip(packed, dirty, strict=True):
        assert_same_bits([b[:7], b[8:]], [a[:7], a[8:]])
        assert b[7:8].isnan().all()


def test_runs_are_bitwise_alike():
    tensors = draw((2, 6, 12, 1, 16, 9, 9), torch.float32)
    assert_same_bits(run_triton(*tensors), run_triton(*tensors))


@pytest.mark.parametrize("fused", [True, False])
def test_gradcheck(fused):
    *inputs, _ = draw((1, 3, 2, 1, 2, 2, 2), torch.float64, fused=fused)
    given = [t for t in inputs if t is not None]

    def function(*given):
        left = iter(given)
        return call(*(t if t is None else next(left) for t in inputs), impl="triton")

    assert torch.autograd.gradcheck(function, leaves(*given), fast_mode=True)


def test_opcheck():
    x, query, values, *weights, _ = draw((1, 3, 4, 1, 4, 2, 3), torch.float32)
    lengths = int32([2])
    utils = ("test_schema", "test_autograd_registration", "test_faketensor")  # the last is slow interpreted: tests/ops
    options = (lengths, None, True, "triton")
    torch.library.opcheck(span_conv_op.overload, (*leaves(x, query, values, *weights), *options), test_utils=utils)
    torch.library.opcheck(span_conv_logits_op.overload, (*leaves(x, query, *weights), *options), test_utils=utils)
    logits, product = span_conv_logits_op(x, query, *weights, *options)
    saved = (x, query, *weights[:-1], product, lengths, None)
    for wanted in ([True] * 7, [False, True] * 3 + [False]):
        arguments = (expanded_ones(logits), *saved, wanted, "triton")
        torch.library.opcheck(span_conv_logits_backward_op.overload, arguments, test_utils=utils)


def test_sequences_out_of_range_stay_in_bounds():
    """On a GPU nobody reads them first: the kernels clamp. Nothing is read or written beside the tensors."""
    from bertkernels.kernels import span_conv as kernel

    def guarded(x, guard):
        memory = x.new_full((x.numel() + 200,), guard)
        inside = memory[100:-100].view(x.shape)
        inside.copy_(x)
        return inside, memory

    x, query, values, *weights, _ = draw((2, 5, 12, 1, 4, 3, 3), torch.float32)
    far = [-(2**31), 2**31 - 1] * 2
    padded = (int32([-3, 99]), int32(far[:2]))
    for bad in (*padded, int32([2, 3, 99]), int32([-7, 99, -1, 4]), int32(far)):
        packed = len(bad) > 2
        tokens = [t.flatten(0, 1) if packed else t for t in (x, query, values)]
        inputs = [guarded(t, NAN)[0] for t in (*tokens, *weights)]
        logits = tokens[1].new_zeros((*tokens[1].shape[:-1], 3))
        results = [guarded(t, 7.0) for t in (tokens[2], logits, tokens[1].flatten(-2))]
        sequences = (None, bad) if packed else (bad, None)
        kernel.forward(*(inside for inside, _ in results), *inputs, *sequences)
        shares = [guarded(torch.zeros_like(t), 7.0) for t in (tokens[1], tokens[1], weights[3], weights[2], weights[4])]
        inside = [inside for inside, _ in shares]
        kernel.backward(*inside, results[1][0], results[2][0], inputs[1], inputs[6], sequences[0])
        for inside, memory in (*results, *shares):
            assert inside.isfinite().all()
            assert (memory[:100] == 7).all() and (memory[-100:] == 7).all()


def test_grids_of_two_sides_change_nothing(monkeypatch):
    """As many programs as one side of a grid cannot hold; the last row of the grid has some too many."""
    from bertkernels.kernels import launch
    from bertkernels.kernels import span_conv as kernel

    tensors = draw((2, 80, 4, 1, 8, 3, 3), torch.float32)
    expected = run_triton(*tensors)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 2)
    kernel._forward_plan.cache_clear()
    kernel._backward_plan.cache_clear()
    assert_same_bits(run_triton(*tensors), expected)
    kernel._forward_plan.cache_clear()
    kernel._backward_plan.cache_clear()


def test_addresses_beyond_32_bits():
    """The second row of tokens lies 2³¹ elements after the first, in memory that is reserved but never touched."""
    stride = 2**31 + 16
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux; named since Python 3.13
    try:
        memory = mmap.mmap(-1, 2 * (stride + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"no 4 GB of address space: {error}")
    tensors = draw((2, 3, 8, 1, 8, 3, 3), torch.float16)
    expected = run_triton(*tensors)
    for i in range(3):
        shape = tensors[i].shape
        far = torch.frombuffer(memory, dtype=torch.float16).as_strided(shape, (stride, *[8] * (len(shape) - 2), 1))
        far.copy_(tensors[i])
        got = run_triton(*tensors[:i], far, *tensors[i + 1 :])
        assert_same_bits(got[:PER_TOKEN], expected[:PER_TOKEN])
