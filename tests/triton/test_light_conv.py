"""The Triton kernels of light_conv, interpreted: against fp64, on awkward memory, on bad numbers outside sequences."""

import mmap
import os
import random

import pytest
import torch

from bertkernels.ops import light_conv
from bertkernels.ops.light_conv import forward_into, light_conv_backward_op, light_conv_op

NAN = float("nan")


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Memory that an op allocates holds NaN until a kernel has written it."""
    new_empty = torch.Tensor.new_empty

    def poisoned(self, *args, **kwargs):
        fresh = new_empty(self, *args, **kwargs)
        return fresh.fill_(NAN) if fresh.is_floating_point() and fresh.device.type == "cpu" else fresh

    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned)


def eager(values, logits, softmax=True, causal=False):
    """One sequence [T, H, D], every operation in the inputs' dtype."""
    tokens, taps = values.shape[0], logits.shape[-1]
    left = taps - 1 if causal else (taps - 1) // 2
    weights = logits.softmax(-1) if softmax else logits
    padded = torch.nn.functional.pad(values, (0, 0, 0, 0, left, taps - 1 - left))
    return sum(weights[..., k, None] * padded[k : k + tokens] for k in range(taps))


def sequences(x, lengths, cu_seqlens):
    """Views of x: the real tokens of each sequence."""
    if cu_seqlens is not None:
        bounds = cu_seqlens.tolist()
        return [x[start:end] for start, end in zip(bounds, bounds[1:], strict=False)]
    lengths = [x.shape[1]] * len(x) if lengths is None else lengths.tolist()
    return [row[:length] for row, length in zip(x, lengths, strict=True)]


def eager_with_gradients(values, logits, grad, dtype, lengths, cu_seqlens, **options):
    """Output and gradients, sequence by sequence; zeros past a sequence's length."""
    values, logits = (x.detach().to(dtype).requires_grad_() for x in (values, logits))
    out = torch.zeros_like(values)
    parts = [sequences(x, lengths, cu_seqlens) for x in (values, logits, grad.to(dtype), out.detach())]
    for value, logit, upstream, result in zip(*parts, strict=True):
        if len(value):
            convolved = eager(value, logit, **options)
            result.copy_(convolved.detach())
            convolved.backward(upstream)
    return out.detach(), *(torch.zeros_like(x) if x.grad is None else x.grad for x in (values, logits))


def triton_with_gradients(values, logits, grad, **options):
    values, logits = values.detach().requires_grad_(), logits.detach().requires_grad_()
    out = light_conv(values, logits, impl="triton", **options)
    return out.detach(), *torch.autograd.grad(out, (values, logits), grad)


def check(values, logits, grad, note="", lengths=None, cu_seqlens=None, **options):
    """Errors at most twice those of the same dtype's eager operations, and one last digit of the largest number."""
    sequence = {"lengths": lengths, "cu_seqlens": cu_seqlens}
    got = triton_with_gradients(values, logits, grad, **sequence, **options)
    exact = eager_with_gradients(values, logits, grad, torch.float64, **sequence, **options)
    rough = eager_with_gradients(values, logits, grad, values.dtype, **sequence, **options)
    digits = 16 if values.dtype == torch.float64 else 1  # eager fp64 is the yardstick itself: it leaves no error
    for name, mine, true, theirs in zip(("out", "d_values", "d_logits"), got, exact, rough, strict=True):
        floor = digits * torch.finfo(values.dtype).eps * float(true.abs().max())
        budget = 2 * float((theirs.double() - true).abs().max()) + floor
        error = float((mine.double() - true).abs().max())
        assert error <= budget, f"{name}: error {error:.2e}, budget {budget:.2e} {note}"


def tensors(*shape, taps, dtype=torch.float32, seed=0):
    """values, logits and grad for values of this shape."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (shape, (*shape[:-1], taps), shape)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def int32(*numbers):
    return torch.tensor(numbers, dtype=torch.int32)


@pytest.mark.parametrize(
    "shape, taps, dtype, options",
    [
        ((2, 9, 3, 48), 9, torch.float32, {}),
        ((2, 9, 1, 48), 9, torch.bfloat16, {"lengths": int32(9, 4)}),
        ((1, 37, 1, 64), 9, torch.bfloat16, {}),
        ((1, 35, 1, 64), 9, torch.float16, {"causal": True}),
        ((14, 1, 64), 9, torch.float64, {"cu_seqlens": int32(0, 5, 5, 6, 14)}),
        ((23, 3, 8), 3, torch.float32, {"cu_seqlens": int32(0, 0, 9, 10, 22, 23, 23)}),
        ((2, 7, 1, 1), 1, torch.float32, {}),
        ((2, 6, 3, 1), 2, torch.float16, {"lengths": int32(0, 5)}),
        ((1, 8, 1, 80), 5, torch.float32, {"softmax": False}),
        ((1, 6, 1, 128), 2, torch.bfloat16, {}),
        ((1, 5, 3, 32), 3, torch.float16, {"causal": True, "lengths": int32(4)}),
        ((2, 11, 1, 8), 16, torch.float32, {"lengths": int32(11, 2)}),
        ((1, 5, 1, 5), 31, torch.float32, {}),
        ((9, 1, 3), 31, torch.bfloat16, {"cu_seqlens": int32(0, 7, 9), "softmax": False}),
        ((2, 1, 3, 20), 9, torch.float32, {}),
        ((1, 3, 1, 37), 5, torch.float64, {"lengths": int32(2)}),
    ],
    ids=str,
)
def test_against_fp64(shape, taps, dtype, options):
    check(*tensors(*shape, taps=taps, dtype=dtype), **options)


def test_random_sweep():
    seed = int(os.environ.get("BERTKERNELS_SEED", random.SystemRandom().randrange(2**31)))
    print(f"BERTKERNELS_SEED={seed}")
    draw = random.Random(seed)
    for case in range(8):
        batches, tokens, heads = draw.randint(1, 3), draw.randint(1, 12), draw.choice((1, 2, 3))
        width, taps = draw.randint(1, 24), draw.choice((1, 2, 3, 4, 5, 7, 9, 10, 13))
        dtype = draw.choice((torch.float64, torch.float32, torch.bfloat16, torch.float16))
        options = {"softmax": draw.random() < 0.7, "causal": draw.random() < 0.3}
        shape = (batches, tokens, heads, width)
        form = draw.choice(("plain", "lengths", "packed"))
        if form == "lengths":
            options["lengths"] = int32(*(draw.randint(0, tokens) for _ in range(batches)))
        elif form == "packed":
            cuts = sorted(draw.randint(0, tokens) for _ in range(batches))
            options["cu_seqlens"], shape = int32(0, *cuts, tokens), shape[1:]
        note = f"(case {case} of BERTKERNELS_SEED={seed}: {shape} K={taps} {dtype} {options})"
        check(*tensors(*shape, taps=taps, dtype=dtype, seed=draw.randrange(2**31)), note=note, **options)


def transposed(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def sliced(x):
    wide = x.new_full((x.shape[0], x.shape[1] + 1, x.shape[2] + 2, x.shape[3] + 8), 7.0)
    wide[:, 1:, 1:-1, 8:] = x
    return wide[:, 1:, 1:-1, 8:]


def misaligned(x):
    flat = x.new_full((x.numel() + 1,), 7.0)
    flat[1:] = x.flatten()
    return flat[1:].view(x.shape)


@pytest.mark.parametrize("rearrange", [transposed, sliced, misaligned])
def test_memory_layouts_change_nothing(rearrange):
    values, logits, grad = tensors(2, 6, 3, 16, taps=3)
    plain = triton_with_gradients(values, logits, grad)
    rearranged = triton_with_gradients(rearrange(values), rearrange(logits), rearrange(grad))
    assert all(torch.equal(a, b) for a, b in zip(plain, rearranged, strict=True))


def test_expanded_inputs_and_gradients():
    values, logits, _ = tensors(1, 6, 1, 16, taps=3)
    values, logits = values.expand(2, 6, 3, 16), logits.expand(2, 6, 3, 3)
    check(values, logits, torch.ones(()).expand(2, 6, 3, 16))


def test_sequence_bounds_with_gaps():
    values, logits, grad = tensors(2, 6, 1, 8, taps=3)
    table = int32(4, 99, 4, 99).view(2, 2)
    expected = triton_with_gradients(values, logits, grad, lengths=int32(4, 4))
    for lengths in (table[:, 0], int32(4).expand(2)):
        got = triton_with_gradients(values, logits, grad, lengths=lengths)
        assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))
    expected = triton_with_gradients(values[0], logits[0], grad[0], cu_seqlens=int32(0, 4, 6))
    cu_seqlens = int32(0, 99, 4, 99, 6, 99)[::2]
    got = triton_with_gradients(values[0], logits[0], grad[0], cu_seqlens=cu_seqlens)
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_writes_into_a_slice_and_nowhere_else():
    values, logits, _ = tensors(2, 5, 3, 16, taps=3)
    buffer = torch.full((2, 5, 4, 20), 7.0)
    with torch.no_grad():
        forward_into(buffer[:, :, 1:, 4:], values, logits, int32(5, 3), None, True, False, "triton")
    assert torch.equal(buffer[:, :, 1:, 4:], light_conv(values, logits, lengths=int32(5, 3), impl="triton"))
    assert (buffer[:, :, 0] == 7).all() and (buffer[..., :4] == 7).all()


def test_padding_reaches_nothing():
    values, logits, grad = tensors(2, 7, 1, 8, taps=5)
    lengths = int32(3, 0)
    past = (torch.arange(7) >= lengths[:, None])[:, :, None, None]
    clean = triton_with_gradients(values, logits, grad, lengths=lengths)
    poisoned = [x.masked_fill(past, NAN) for x in (values, logits, grad)]
    dirty = triton_with_gradients(*poisoned, lengths=lengths)
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
    poisoned[0][0, 2] = poisoned[2][0, 2] = NAN  # a real token
    for x in (*dirty, *triton_with_gradients(*poisoned, lengths=lengths)):
        assert not x[past.expand_as(x)].any()


@pytest.mark.parametrize("taps", [5, 11])  # 11: in rounds of 6, the last of which holds a tap too many
def test_neighbouring_sequences_reach_nothing(taps):
    values, logits, grad = tensors(13, 1, 4, taps=taps)
    cu_seqlens = int32(0, 4, 5, 13)
    clean = triton_with_gradients(values, logits, grad, cu_seqlens=cu_seqlens)
    for x in (values, logits, grad):
        x[4:5] = NAN
    dirty = triton_with_gradients(values, logits, grad, cu_seqlens=cu_seqlens)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a[:4], b[:4]) and torch.equal(a[5:], b[5:])
        assert b[4:5].isnan().all()


@pytest.mark.parametrize("taps", [3, 11])
def test_tokens_out_of_reach_stay_out_of_reach(taps):
    """A NaN reaches exactly the tokens whose window holds it, also where rounds end with a tap too many."""
    values, logits, grad = tensors(1, 20, 1, 4, taps=taps)
    left = (taps - 1) // 2
    values[0, 9] = NAN
    out, _, d_logits = triton_with_gradients(values, logits, grad)
    reached = torch.zeros(20, dtype=torch.bool)
    reached[9 - (taps - 1 - left) : 9 + left + 1] = True
    assert torch.equal(out.isnan().any(-1).flatten(), reached)
    assert torch.equal(d_logits.isnan().any(-1).flatten(), reached)
    values, logits, grad = tensors(1, 20, 1, 4, taps=taps)
    grad[0, 9] = NAN
    d_values = triton_with_gradients(values, logits, grad)[1]
    assert torch.equal(d_values.isnan().any(-1).flatten(), reached.roll(taps - 1 - 2 * left))


def test_packed_equals_single_sequences():
    values, logits, grad = tensors(19, 1, 16, taps=9)
    cu_seqlens = int32(0, 7, 8, 8, 19)
    packed = triton_with_gradients(values, logits, grad, cu_seqlens=cu_seqlens)
    for start, end in ((0, 7), (7, 8), (8, 19)):
        alone = triton_with_gradients(*(x[None, start:end] for x in (values, logits, grad)))
        assert all(torch.equal(a[start:end], b[0]) for a, b in zip(packed, alone, strict=True))


def test_runs_are_bitwise_alike():
    arguments = tensors(2, 6, 1, 16, taps=9)
    first, second = (triton_with_gradients(*arguments) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    "options, taps",
    [
        ({}, 3),
        ({"softmax": False, "causal": True}, 2),
        ({"lengths": int32(2)}, 3),
        ({"cu_seqlens": int32(0, 1, 3)}, 10),
    ],
    ids=str,
)
def test_gradcheck(options, taps):
    shape = (3, 1, 2) if "cu_seqlens" in options else (1, 3, 1, 2)
    values, logits, _ = tensors(*shape, taps=taps, dtype=torch.float64)
    inputs = (values.requires_grad_(), logits.requires_grad_())
    assert torch.autograd.gradcheck(lambda *x: light_conv(*x, impl="triton", **options), inputs, fast_mode=taps > 3)


@pytest.mark.parametrize("form", ["padded", "packed"])
def test_opcheck(form, monkeypatch):
    monkeypatch.undo()  # opcheck compares memory of its own
    shape, sequence = ((2, 3, 1, 4), (int32(3, 1), None)) if form == "padded" else ((5, 1, 4), (None, int32(0, 2, 5)))
    values, logits, grad = tensors(*shape, taps=3)
    leaves = (values.requires_grad_(), logits.requires_grad_())
    torch.library.opcheck(light_conv_op.overload, (*leaves, *sequence, True, False, "triton"))
    detached = (values.detach(), logits.detach())
    torch.library.opcheck(light_conv_backward_op.overload, (grad, *detached, *sequence, True, False, "triton"))
    expanded = torch.ones(()).expand(shape)
    torch.library.opcheck(light_conv_backward_op.overload, (expanded, *detached, *sequence, True, False, "triton"))


@pytest.mark.parametrize("shape", [(2, 0, 3, 4), (0, 5, 3, 4), (0, 3, 4), (2, 5, 3, 0)], ids=str)
def test_empty(shape):
    values, logits, grad = tensors(*shape, taps=3)
    options = {"cu_seqlens": int32(0, 0)} if len(shape) == 3 else {}
    out, d_values, d_logits = triton_with_gradients(values, logits, grad, **options)
    assert out.shape == d_values.shape == values.shape
    assert d_logits.shape == logits.shape and not d_logits.any()


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
    from bertkernels.kernels import light_conv as kernel

    shape = (2, 5, 1, 4) if "lengths" in bad else (10, 1, 4)

    def guarded(x, guard):
        memory = x.new_full((x.numel() + 200,), guard)
        inside = memory[100:-100].view(x.shape)
        inside.copy_(x)
        return inside, memory

    values, logits, grad = tensors(*shape, taps=3)
    inputs = [guarded(x, NAN)[0] for x in (values, logits)]
    results = [guarded(torch.zeros_like(x), 7.0) for x in (values, values, logits)]
    (out, _), (d_values, _), (d_logits, _) = results
    sequence = (bad.get("lengths"), bad.get("cu_seqlens"))
    kernel.forward(out, *inputs, *sequence, True, False)
    kernel.backward(guarded(grad, NAN)[0], d_values, d_logits, *inputs, *sequence, True, False)
    for inside, memory in results:
        assert inside.isfinite().all()
        assert (memory[:100] == 7).all() and (memory[-100:] == 7).all()
    if meant:
        expected = triton_with_gradients(values, logits, grad, **meant)
        assert all(torch.equal(a, inside) for a, (inside, _) in zip(expected, results, strict=True))


@pytest.mark.parametrize("taps, options", [(3, {}), (10, {}), (3, {"cu_seqlens": int32(0, 40, 41, 300)})], ids=str)
def test_grids_of_two_sides_change_nothing(taps, options, monkeypatch):
    """As many programs as one side of a grid cannot hold; the last row of the grid has some too many."""
    from bertkernels.kernels import launch
    from bertkernels.kernels import light_conv as kernel

    shape = (300, 1, 4) if options else (2, 150, 1, 4)
    arguments = tensors(*shape, taps=taps)
    expected = triton_with_gradients(*arguments, **options)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 2)
    kernel._plan.cache_clear()
    plan = kernel._plan(
        "light_conv_fwd", *kernel._shape(*arguments[:2], options.get("cu_seqlens")), False, (arguments[0].stride(),), ()
    )
    assert plan.grid == (2, 2)  # for three programs
    got = triton_with_gradients(*arguments, **options)
    kernel._plan.cache_clear()
    assert all(torch.equal(a, b) for a, b in zip(expected, got, strict=True))


def test_addresses_beyond_32_bits():
    """The second row of tokens lies 2³¹ elements after the first, in memory that is reserved but never touched."""
    stride = 2**31 + 16
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux; named since Python 3.13
    try:
        memory = mmap.mmap(-1, 2 * (stride + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"no 4 GB of address space: {error}")
    values, logits, grad = tensors(2, 3, 1, 8, taps=3, dtype=torch.float16)
    expected = triton_with_gradients(values, logits, grad)
    far = torch.frombuffer(memory, dtype=torch.float16).as_strided((2, 3, 1, 8), (stride, 8, 8, 1))
    far.copy_(values)
    assert all(torch.equal(a, b) for a, b in zip(expected, triton_with_gradients(far, logits, grad), strict=True))
