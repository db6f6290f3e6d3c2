"""The CUDA kernels of light_conv, run on the CPU (see conftest.py), against the reference."""

import itertools

import pytest
import torch

from bertkernels.ops.light_conv import (
    _compiled_backward,
    _compiled_forward,
    light_conv_backward_reference,
    light_conv_reference,
)
from tests.cuda.buffers import draw, guarded, surroundings_untouched, with_strides

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# T, H, D, K: taps with kernels of their own (3, 9) and without (1, 4, 13), widths below, at and above a step of
# channels and not a multiple of a vector, T on both sides of a tile of 64 tokens, T < K, T = 1.
SIZES = [
    (70, 2, 64, 9),
    (130, 1, 48, 9),
    (33, 2, 80, 3),
    (65, 1, 32, 13),
    (5, 3, 32, 9),
    (1, 1, 1, 3),
    (12, 1, 7, 1),
    (20, 2, 19, 4),
    (7, 1, 3, 26),
]
SIZE_IDS = ["x".join(map(str, size)) for size in SIZES]
FORMS = ["whole", "lengths", "packed"]


@pytest.fixture(autouse=True)
def _forwards(emulated_light_conv):
    emulated_light_conv.run_backwards(False)


def problem(size, dtype, form):
    """Values, logits, output gradient, lengths, cu_seqlens. Rows of padding are NaN."""
    T, H, D, K = size
    if form == "packed":
        bounds = [0, T // 3, T // 3, max(T // 3, T - 2), T]  # one sequence is empty, one short
        tensors = [draw((T, H, width), dtype, seed) for seed, width in enumerate((D, K, D))]
        return *tensors, None, torch.tensor(bounds, dtype=torch.int32)
    tensors = [draw((3, T, H, width), dtype, seed) for seed, width in enumerate((D, K, D))]
    if form == "whole":
        return *tensors, None, None
    lengths = torch.tensor([T, T // 2, 0], dtype=torch.int32)
    for x in tensors:
        for row, length in zip(x, lengths, strict=True):
            row[length:] = float("nan")
    return *tensors, lengths, None


def run(emulated, values, logits, grad, lengths, cu_seqlens, softmax=True, causal=False):
    """out, d_values, d_logits of the CUDA kernels. Shared memory holds NaN before."""
    options = (lengths, cu_seqlens, softmax, causal)
    for poison in (True, False):
        inputs = [torch.full_like(x, float("nan")) if poison else x for x in (values, logits, grad)]
        out, d_values, d_logits = (guarded(x.shape, x.dtype) for x in (values, values, logits))
        _compiled_forward(emulated.forward, 0, out, *inputs[:2], *options)
        _compiled_backward(emulated.backward, 0, inputs[2], d_values, d_logits, *inputs[:2], *options)
    assert all(surroundings_untouched(x) for x in (out, d_values, d_logits))
    return out, d_values, d_logits


def reference(dtype, values, logits, grad, lengths, cu_seqlens, softmax=True, causal=False):
    values, logits, grad = (x.to(dtype) for x in (values, logits, grad))
    options = (lengths, cu_seqlens, softmax, causal)
    return (
        light_conv_reference(values, logits, *options),
        *light_conv_backward_reference(grad, values, logits, *options),
    )


def assert_right(got, *arguments):
    """Within twice the error of the reference in the same dtype, plus a few roundings of the largest entry."""
    dtype = got[0].dtype
    exact, same = reference(torch.float64, *arguments), reference(dtype, *arguments)
    for name, g, e, s in zip(("out", "d_values", "d_logits"), got, exact, same, strict=True):
        budget = 2 * (s.double() - e).abs().max() + 4 * torch.finfo(dtype).eps * e.abs().max()
        error = (g.double() - e).abs().max()
        assert error <= budget, f"{name} is off by {error:.3g}, budget {budget:.3g}"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=SIZE_IDS)
def test_against_reference(emulated_light_conv, size, dtype, form):
    arguments = problem(size, dtype, form)
    for softmax, causal in itertools.product([True, False], repeat=2):
        assert_right(run(emulated_light_conv, *arguments, softmax, causal), *arguments, softmax, causal)


@pytest.mark.parametrize("taps", [5, 7])
def test_other_common_taps(emulated_light_conv, taps):
    arguments = problem((66, 2, 24, taps), torch.float32, "lengths")
    assert_right(run(emulated_light_conv, *arguments), *arguments)


@pytest.mark.parametrize("taps", [9, 13])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strides(emulated_light_conv, dtype, taps):
    """Transposed, expanded, misaligned and sliced tensors, without copies."""
    B, T, H, D = 2, 40, 3, 16
    heads_first = draw((B, H, T, D), dtype).transpose(1, 2)
    expanded = draw((1, 1, 1, D), dtype).expand(B, T, H, D)
    misaligned = guarded((B, T, H, D), dtype, offset=1).copy_(heads_first)
    sliced = draw((B, T, 2 * H, D + 3), dtype)[:, :, H:, 1 : 1 + D]
    logits = draw((B, H, T, taps), dtype, 1).transpose(1, 2)
    for values, grad in [(heads_first, expanded), (expanded, misaligned), (misaligned, sliced), (sliced, heads_first)]:
        arguments = (values, logits, grad, None, None)
        assert_right(run(emulated_light_conv, *arguments), *arguments)


@pytest.mark.parametrize("strides", [(880, 40, 20), (880, 41, 16), (881, 40, 16)], ids=["head", "token", "batch"])
def test_one_stride_that_breaks_alignment(emulated_light_conv, strides):
    """Vectors are used only where every row of every tensor begins on 16 bytes."""
    arguments = problem((20, 2, 16, 9), torch.bfloat16, "whole")[:3]
    odd = [with_strides(x, strides) if x.shape[-1] == 16 else x for x in arguments]
    whole, (values, logits, grad) = run(emulated_light_conv, *arguments, None, None), arguments
    for inputs in [(odd[0], logits, grad), (values, logits, odd[2])]:
        for got, want in zip(run(emulated_light_conv, *inputs, None, None), whole, strict=True):
            assert torch.equal(got, want)
    out = with_strides(torch.full_like(values, float("nan")), strides)
    _compiled_forward(emulated_light_conv.forward, 0, out, values, logits, None, None, True, False)
    assert torch.equal(out, whole[0])


def test_result_goes_into_a_slice_of_a_wider_buffer(emulated_light_conv):
    values, logits, _, lengths, _ = problem((20, 2, 16, 9), torch.float32, "lengths")
    whole = guarded((3, 20, 4, 16), torch.float32)
    out = whole[:, :, 2:]
    _compiled_forward(emulated_light_conv.forward, 0, out, values, logits, lengths, None, True, False)
    torch.testing.assert_close(out, light_conv_reference(values, logits, lengths))
    assert whole[:, :, :2].isnan().all()


@pytest.mark.parametrize("taps", [9, 13])
def test_one_sequence_never_reaches_another(emulated_light_conv, taps):
    bounds = [0, 3, 70, 70, 71, 140]
    arguments = problem((140, 1, 16, taps), torch.float32, "whole")
    values, logits, grad = (x[0] for x in arguments[:3])
    cu_seqlens = torch.tensor(bounds, dtype=torch.int32)
    clean = run(emulated_light_conv, values, logits, grad, None, cu_seqlens)
    for x in (values, logits, grad):
        x[3:70] = float("nan")
    poisoned = run(emulated_light_conv, values, logits, grad, None, cu_seqlens)
    for before, after in zip(clean, poisoned, strict=True):
        assert torch.equal(before[:3], after[:3]) and torch.equal(before[70:], after[70:])


def test_infinite_values_beside_padding_leave_it_zero(emulated_light_conv):
    values, logits, grad, lengths, _ = problem((20, 1, 16, 9), torch.float32, "lengths")
    values[1, 9], grad[1, 9] = float("inf"), float("inf")  # the last real token of its row
    for softmax in (True, False):
        for x in run(emulated_light_conv, values, logits, grad, lengths, None, softmax):
            assert (x[1, 10:] == 0).all() and (x[2] == 0).all()


@pytest.mark.parametrize("taps", [9, 13])
def test_bounds_out_of_range_are_clamped(emulated_light_conv, taps):
    arguments = problem((70, 2, 16, taps), torch.float32, "whole")[:3]
    wild, tame = torch.tensor([2**31 - 1, -5, 71]), torch.tensor([70, 0, 70])
    assert_right(run(emulated_light_conv, *arguments, wild.int(), None), *arguments, tame.int(), None)

    packed = [x[0] for x in arguments]
    for wild, tame in [([0, 30, 2**31 - 1], [0, 30, 70]), ([-9, 30, 70], [0, 30, 70]), ([4, 30, 70], [0, 30, 70])]:
        got = run(emulated_light_conv, *packed, None, torch.tensor(wild, dtype=torch.int32))
        assert_right(got, *packed, None, torch.tensor(tame, dtype=torch.int32))


def test_tokens_that_cu_seqlens_leaves_out_come_out_zero(emulated_light_conv):
    arguments = [x[0] for x in problem((140, 1, 16, 9), torch.float32, "whole")[:3]]
    got = run(emulated_light_conv, *arguments, None, torch.tensor([0, 30, 67], dtype=torch.int32))
    assert_right([x[:67] for x in got], *[x[:67] for x in arguments], None, torch.tensor([0, 30, 67]).int())
    assert all((x[67:] == 0).all() for x in got)


def test_senseless_cu_seqlens_stay_in_bounds(emulated_light_conv):
    arguments = [x[0] for x in problem((140, 1, 16, 9), torch.float32, "whole")[:3]]
    for senseless in ([0, 90, 20, 140], [140, 0, 0], [5], [-(2**31), 2**31 - 1] * 3):
        run(emulated_light_conv, *arguments, None, torch.tensor(senseless, dtype=torch.int32))


@pytest.mark.parametrize("form", FORMS)
def test_many_short_sequences(emulated_light_conv, form):
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 9, (40,), generator=generator)
    if form == "packed":
        total = int(counts.sum())
        arguments = [draw((total, 1, width), torch.float32, seed) for seed, width in enumerate((8, 9, 8))]
        bounds = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).int()
        arguments += [None, bounds]
    else:
        arguments = [draw((40, 8, 1, width), torch.float32, seed) for seed, width in enumerate((8, 9, 8))]
        arguments += [counts.int() if form == "lengths" else None, None]
    assert_right(run(emulated_light_conv, *arguments), *arguments)


@pytest.mark.parametrize("taps", [9, 13])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_order_of_threads_changes_no_bit(emulated_light_conv, dtype, taps):
    arguments = problem((70, 2, 80, taps), dtype, "lengths")
    first = run(emulated_light_conv, *arguments)
    emulated_light_conv.run_backwards(True)
    assert all(torch.equal(a, b) for a, b in zip(first, run(emulated_light_conv, *arguments), strict=True))


def test_infinite_logits_as_in_the_reference(emulated_light_conv):
    for taps in (9, 13):
        values, logits, grad, *_ = problem((6, 1, 16, taps), torch.float32, "whole")
        logits[:, 0, 0, 1:], logits[:, 1, 0, 2] = float("-inf"), float("-inf")
        arguments = (values, logits, grad, None, None)
        assert_right(run(emulated_light_conv, *arguments), *arguments)
        logits[0, 3] = float("-inf")
        out = run(emulated_light_conv, *arguments)[0]
        assert torch.equal(out.isnan(), reference(torch.float64, *arguments)[0].isnan())


def test_a_failed_launch_is_an_error(emulated_light_conv):
    values, logits, *_ = problem((6, 1, 16, 9), torch.float32, "whole")
    out = torch.empty_like(values)
    call = (emulated_light_conv.forward, 0, out, values, logits, None, None, True, False)
    emulated_light_conv.fail_next_launch()
    with pytest.raises(RuntimeError, match="light_conv: CUDA launch failed: invalid configuration argument"):
        _compiled_forward(*call)
    _compiled_forward(*call)
    with pytest.raises(RuntimeError, match="too many to launch"):
        wide = torch.zeros(1, 1, 25, 1)
        _compiled_forward(emulated_light_conv.forward, 0, wide.clone(), wide, wide, None, None, True, False)
