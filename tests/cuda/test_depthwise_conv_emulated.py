"""The CUDA kernels of depthwise_conv, run on the CPU (see conftest.py), against the reference."""

import itertools

import pytest
import torch

from bertkernels.ops.depthwise_conv import (
    _compiled_backward,
    _compiled_forward,
    _sums,
    depthwise_conv_backward_reference,
    depthwise_conv_reference,
)
from tests.cuda.buffers import draw, guarded, surroundings_untouched, with_strides
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget

NAN = float("nan")
NAMES = "out", "d_x", "d_weight", "d_bias"
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# T, C, K: taps with kernels of their own (3 … 15) and without, channels below, at and above a step of 128 bytes and not
# a multiple of a word, T on both sides of a tile of 64 tokens, T < K, T = 1.
SIZES = [
    (70, 64, 9),
    (130, 48, 9),
    (33, 80, 3),
    (65, 32, 13),
    (5, 32, 15),
    (1, 1, 3),
    (12, 7, 1),
    (67, 19, 4),
    (7, 3, 26),
]
SIZE_IDS = ["x".join(map(str, size)) for size in SIZES]
FORMS = ["whole", "lengths", "packed"]


@pytest.fixture(autouse=True)
def _forwards(emulated_depthwise_conv):
    emulated_depthwise_conv.run_backwards(False)


def problem(size, dtype, form, batches=3):
    """x, weight, bias, output gradient, lengths, cu_seqlens. Rows of padding are NaN."""
    T, C, K = size
    weight, bias = draw((C, K), dtype, 2), draw((C,), dtype, 3)
    if form == "packed":
        bounds = [0, T // 3, T // 3, max(T // 3, T - 2), T]  # one sequence is empty, one short
        x, grad = (draw((T, C), dtype, seed) for seed in (0, 1))
        return x, weight, bias, grad, None, torch.tensor(bounds, dtype=torch.int32)
    x, grad = (draw((batches, T, C), dtype, seed) for seed in (0, 1))
    if form == "whole":
        return x, weight, bias, grad, None, None
    lengths = torch.tensor([T, T // 2, 0], dtype=torch.int32)
    for tensor in (x, grad):
        for row, length in zip(tensor, lengths, strict=True):
            row[length:] = NAN
    return x, weight, bias, grad, lengths, None


def run(emulated, x, weight, bias, grad, lengths, cu_seqlens, causal=False, wanted=(True, True, True)):
    """out, d_x, d_weight, d_bias of the CUDA kernels. Shared memory and memory for sums hold NaN before."""
    options = (lengths, cu_seqlens, causal)
    for poison in (True, False):
        taken = [torch.full_like(t, NAN) if poison and t is not None else t for t in (x, weight, bias, grad)]
        out = guarded(x.shape, x.dtype)
        _compiled_forward(emulated.forward, (0,), out, *taken[:3], *options)
        shapes = (x.shape, weight.shape, weight.shape[:1])
        gradients = [guarded(shape if want else (0,), x.dtype) for shape, want in zip(shapes, wanted, strict=True)]
        sums = _sums(lambda shape: emulated.count("sums", shape), *gradients[1:], *taken[:2], *options)
        fenced = guarded(sums.shape, sums.dtype)
        where = (fenced.data_ptr(), 0)
        _compiled_backward(emulated.backward, where, taken[3], *gradients, *taken[:2], *options)
    assert all(surroundings_untouched(t) for t in (out, *gradients, fenced))
    return out, *gradients


def reference(dtype, x, weight, bias, grad, *options):
    x, weight, grad = (t.to(dtype) for t in (x, weight, grad))
    bias = None if bias is None else bias.to(dtype)
    out = depthwise_conv_reference(x, weight, bias, *options)
    return out, *depthwise_conv_backward_reference(grad, x, weight, *options)


def assert_right(got, *arguments):
    """Within the budget of tests/ops/test_depthwise_conv.py, with the reference in the same dtype for eager torch."""
    x, _, _, _, *options = arguments
    exact, same = reference(torch.float64, *arguments), reference(x.dtype, *arguments)
    if x.dtype != torch.float64:
        return assert_within_budget(NAMES, got, exact, same, f"{list(x.shape)}")
    inputs = (None if t is None else t.abs() for t in arguments[:4])
    terms = reference(torch.float64, *inputs, *options)
    assert_within_budget(NAMES, got, exact, same, f"{list(x.shape)}", roundings=3, of=terms)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
def test_against_reference(emulated_depthwise_conv, size, dtype, form):
    x, weight, bias, *rest = problem(size, dtype, form)
    for with_bias, causal in [(True, False), (False, True)]:
        arguments = (x, weight, bias if with_bias else None, *rest, causal)
        assert_right(run(emulated_depthwise_conv, *arguments), *arguments)


@pytest.mark.parametrize("taps", [5, 7, 11])
def test_other_common_taps(emulated_depthwise_conv, taps):
    for causal in (False, True):
        arguments = (*problem((66, 24, taps), torch.float32, "lengths"), causal)
        assert_right(run(emulated_depthwise_conv, *arguments), *arguments)


@pytest.mark.parametrize("taps", [9, 20])
def test_groups_of_many_tiles(emulated_depthwise_conv, taps):
    """So many rows that a group has two tiles or more, which the blocks double-buffer."""
    for form, batches in [("whole", 900), ("packed", 1)]:
        T, C = (1, 3) if form == "whole" else (900, 3)
        arguments = problem((T, C, taps), torch.float32, form, batches)
        if form == "packed":
            arguments = (*arguments[:5], torch.arange(901, dtype=torch.int32))
        shape = (*((900, 1) if form == "whole" else (900, 900)), C, taps, 0, int(form == "packed"), False, 0)
        assert emulated_depthwise_conv.count("sums", shape) < 800 * (taps + 1) * C
        assert_right(run(emulated_depthwise_conv, *arguments), *arguments)


@pytest.mark.parametrize("batches, tokens", [(32, 512), (128, 128), (1, 1), (3, 1000), (4096, 512)])
@pytest.mark.parametrize("channels", [64, 256, 384, 768])
def test_groups_fill_a_gpu_once_or_are_many(emulated_depthwise_conv, channels, batches, tokens):
    """In bf16 and with 9 taps, which are blocks of 64 channels, four a multiprocessor."""
    sums = emulated_depthwise_conv.count("sums", (batches, tokens, channels, 9, 0, 0, False, 2))
    groups, tiles, steps = sums / (10 * channels), batches * -(-tokens // 64), channels // 64
    assert groups == tiles or (groups < tiles and groups % 2 == 1)
    assert groups * steps <= 4 * 132 or tiles / groups > 15
    assert groups * steps > 2 * 132 or groups == tiles


def test_long_rows(emulated_depthwise_conv):
    """Tiles of one group that lie far apart in a row, and rows that end in the middle of padding."""
    x, weight, bias, grad, *_ = problem((4000, 2, 9), torch.float32, "whole", batches=10)
    lengths = torch.tensor([4000, 0, 1, 63, 64, 65, 3999, 2000, 2048, 3000], dtype=torch.int32)
    padding = torch.arange(4000)[:, None] >= lengths[:, None, None]
    arguments = (x.masked_fill(padding, NAN), weight, bias, grad.masked_fill(padding, NAN), lengths, None)
    assert_right(run(emulated_depthwise_conv, *arguments), *arguments)


@pytest.mark.parametrize("taps", [9, 4])
def test_only_wanted_gradients(emulated_depthwise_conv, taps):
    arguments = problem((70, 40, taps), torch.bfloat16, "lengths")
    whole = run(emulated_depthwise_conv, *arguments)[1:]
    for wanted in itertools.product([False, True], repeat=3):
        got = run(emulated_depthwise_conv, *arguments, wanted=wanted)[1:]
        assert_same_bits(got, [t if want else t.new_empty(0) for t, want in zip(whole, wanted, strict=True)])


@pytest.mark.parametrize("taps", [9, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strides(emulated_depthwise_conv, dtype, taps):
    """Swapped, expanded, misaligned and sliced tensors, without copies."""
    B, T, C = 2, 40, 48
    plain = draw((B, T, C), dtype)
    swapped = draw((T, B, C), dtype).transpose(0, 1).copy_(plain)
    expanded = draw((1, 1, C), dtype).expand(B, T, C)
    misaligned = guarded((B, T, C), dtype, offset=1).copy_(plain)
    sliced = draw((B, 2 * T, C + 3), dtype)[:, T:, 1 : 1 + C].copy_(plain)
    weight, bias = draw((C, taps + 2), dtype, 1)[:, 1:-1], guarded((C,), dtype, offset=1).fill_(0.5)
    want = run(emulated_depthwise_conv, plain, weight, bias, plain, None, None)
    for x, grad in [(swapped, misaligned), (misaligned, sliced), (sliced, swapped)]:
        assert_same_bits(run(emulated_depthwise_conv, x, weight, bias, grad, None, None), want)
    for x, grad in [(expanded, plain), (plain, expanded)]:
        got = run(emulated_depthwise_conv, x, weight, bias, grad, None, None)
        assert_same_bits(got, run(emulated_depthwise_conv, x.clone(), weight, bias, grad.clone(), None, None))


@pytest.mark.parametrize("strides", [(880, 20), (880, 41), (881, 40)], ids=["rows", "token", "batch"])
def test_one_stride_that_breaks_alignment(emulated_depthwise_conv, strides):
    """Vectors are used only where every row of every tensor begins on 16 bytes."""
    x, weight, bias, grad, *_ = problem((20, 16, 9), torch.bfloat16, "whole")
    whole = run(emulated_depthwise_conv, x, weight, bias, grad, None, None)
    for inputs in [(with_strides(x, strides), weight, bias, grad), (x, weight, bias, with_strides(grad, strides))]:
        assert_same_bits(run(emulated_depthwise_conv, *inputs, None, None), whole)
    out = with_strides(torch.full_like(x, NAN), strides)
    _compiled_forward(emulated_depthwise_conv.forward, (0,), out, x, weight, bias, None, None, False)
    assert torch.equal(out, whole[0])


@pytest.mark.parametrize("taps", [9, 20])
def test_one_sequence_never_reaches_another(emulated_depthwise_conv, taps):
    x, weight, bias, grad, *_ = problem((140, 16, taps), torch.float32, "whole")
    cu_seqlens = torch.tensor([0, 3, 70, 70, 71, 140], dtype=torch.int32)
    x, grad = x[0], grad[0]
    clean = run(emulated_depthwise_conv, x, weight, bias, grad, None, cu_seqlens)
    x[3:70] = grad[3:70] = NAN
    poisoned = run(emulated_depthwise_conv, x, weight, bias, grad, None, cu_seqlens)
    for before, after in zip(clean[:2], poisoned[:2], strict=True):
        assert torch.equal(before[:3], after[:3]) and torch.equal(before[70:], after[70:])


@pytest.mark.parametrize("taps", [3, 20])
def test_tokens_out_of_reach_stay_out_of_reach(emulated_depthwise_conv, taps):
    """A NaN reaches exactly the tokens whose window holds it, also where the last chunk has fewer taps."""
    x, weight, bias, grad, *_ = problem((90, 4, taps), torch.float32, "whole", batches=1)
    left, right = (taps - 1) // 2, taps // 2
    x[0, 40] = grad[0, 40] = NAN
    out, d_x, *_ = run(emulated_depthwise_conv, x, weight, bias, grad, None, None)
    for tensor, before, after in ((out, right, left), (d_x, left, right)):
        reached = torch.zeros(90, dtype=torch.bool)
        reached[40 - before : 40 + after + 1] = True
        assert torch.equal(tensor.isnan().any(-1).flatten(), reached)


@pytest.mark.parametrize("taps", [9, 20])
def test_infinite_values_beside_padding_leave_it_zero(emulated_depthwise_conv, taps):
    x, weight, bias, grad, lengths, _ = problem((20, 16, taps), torch.float32, "lengths")
    x[1, 9] = grad[1, 9] = float("inf")  # the last real token of its row
    for tensor in run(emulated_depthwise_conv, x, weight, bias, grad, lengths, None)[:2]:
        assert (tensor[1, 10:] == 0).all() and (tensor[2] == 0).all()


@pytest.mark.parametrize("taps", [9, 20])
def test_bounds_out_of_range_are_clamped(emulated_depthwise_conv, taps):
    arguments = problem((70, 16, taps), torch.float32, "whole")[:4]
    wild, tame = torch.tensor([2**31 - 1, -5, 71]), torch.tensor([70, 0, 70])
    assert_right(run(emulated_depthwise_conv, *arguments, wild.int(), None), *arguments, tame.int(), None)

    x, weight, bias, grad = arguments
    packed = (x[0], weight, bias, grad[0])
    for wild, tame in [([0, 30, 2**31 - 1], [0, 30, 70]), ([-9, 30, 70], [0, 30, 70]), ([4, 30, 70], [0, 30, 70])]:
        got = run(emulated_depthwise_conv, *packed, None, torch.tensor(wild, dtype=torch.int32))
        assert_right(got, *packed, None, torch.tensor(tame, dtype=torch.int32))


def test_senseless_cu_seqlens_stay_in_bounds(emulated_depthwise_conv):
    x, weight, bias, grad, *_ = problem((140, 16, 9), torch.float32, "whole", batches=1)
    for senseless in ([0, 90, 20, 140], [140, 0, 0], [5], [-(2**31), 2**31 - 1] * 3):
        run(emulated_depthwise_conv, x[0], weight, bias, grad[0], None, torch.tensor(senseless, dtype=torch.int32))


@pytest.mark.parametrize("taps", [9, 20])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_order_of_threads_changes_no_bit(emulated_depthwise_conv, dtype, taps):
    arguments = problem((200, 80, taps), dtype, "lengths")
    first = run(emulated_depthwise_conv, *arguments)
    emulated_depthwise_conv.run_backwards(True)
    assert_same_bits(run(emulated_depthwise_conv, *arguments), first)


def test_a_failed_launch_is_an_error(emulated_depthwise_conv):
    x, weight, bias, *_ = problem((6, 16, 9), torch.float32, "whole")
    out = torch.empty_like(x)
    call = (emulated_depthwise_conv.forward, (0,), out, x, weight, bias, None, None, False)
    emulated_depthwise_conv.fail_next_launch()
    with pytest.raises(RuntimeError, match="depthwise_conv: CUDA launch failed: invalid configuration argument"):
        _compiled_forward(*call)
    _compiled_forward(*call)
    assert torch.equal(out, run(emulated_depthwise_conv, x, weight, bias, x, None, None)[0])
