"""light_conv on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.light_conv import (
    light_conv_backward_op,
    light_conv_backward_reference,
    light_conv_op,
    light_conv_reference,
)
from tests.ops.bits import assert_same_bits, assert_threads_do_not_matter
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

TARGETS = targets("light_conv")
COMPILED = compiled_targets("light_conv")
# B, T, H, D, K: the published head widths, odd ones, T < K, T = 1, K = 1, even K, more taps than a tile has tokens
SHAPES = [
    (2, 70, 3, 64, 9),
    (2, 33, 4, 48, 9),
    (1, 40, 2, 80, 5),
    (3, 5, 2, 32, 9),
    (2, 1, 1, 16, 3),
    (2, 12, 1, 7, 1),
    (1, 20, 5, 3, 4),
    (1, 100, 1, 17, 77),
]


def draw(shape, dtype, device="cpu", seed=0):
    """Values, logits and an output gradient."""
    B, T, H, D, K = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(B, T, H, D), (B, T, H, K), (B, T, H, D)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def run(values, logits, grad, impl, **options):
    return with_gradients(lambda v, w: ops.light_conv(v, w, impl=impl, **options), (values, logits), grad)


def exact(values, logits, grad, lengths=None, cu_seqlens=None, softmax=True, causal=False):
    """Output and gradients in fp64 by autograd of the reference."""

    def reference(values, logits):
        return light_conv_reference(values, logits, lengths, cu_seqlens, softmax, causal)

    return with_gradients(reference, (values, logits), grad, torch.float64)


def eager(values, logits, grad, lengths=None, softmax=True, causal=False):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    K, T = logits.shape[-1], values.shape[1]
    left = K - 1 if causal else (K - 1) // 2
    real = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    if lengths is not None:
        real = torch.arange(T, device=values.device) < lengths[:, None]

    def convolution(values, logits):
        weights = logits.softmax(-1) if softmax else logits
        masked = torch.where(real[..., None, None], values, 0)
        padded = torch.nn.functional.pad(masked, (0, 0, 0, 0, left, K - 1 - left))
        windows = padded.unfold(1, K, 1)  # [B, T, H, D, K]
        return torch.where(real[..., None, None], (windows * weights[..., None, :]).sum(-1), 0)

    return with_gradients(convolution, (values, logits), grad)


def check(tensors, impl, what, **options):
    got, want, same_dtype = run(*tensors, impl, **options), exact(*tensors, **options), eager(*tensors, **options)
    assert_within_budget(("out", "d_values", "d_logits"), got, want, same_dtype, what)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("softmax, causal", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("padded", [False, True])
def test_against_fp64(device, impl, dtype, softmax, causal, padded):
    for shape in SHAPES:
        tensors = draw(shape, dtype, device)
        lengths = None
        if padded:
            lengths = (
                torch.tensor([shape[1] - 3 * b for b in range(shape[0])], dtype=torch.int32).clamp(min=0).to(device)
            )
        check(tensors, impl, f"{shape}", lengths=lengths, softmax=softmax, causal=causal)


def test_backward_reference_is_the_gradient_of_the_reference():
    values, logits, grad = draw((2, 11, 2, 5, 4), torch.float64)
    lengths = torch.tensor([11, 6], dtype=torch.int32)
    for softmax, causal in itertools.product([True, False], repeat=2):
        got = light_conv_backward_reference(grad, values, logits, lengths, None, softmax, causal)
        want = exact(values, logits, grad, lengths, None, softmax, causal)[1:]
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("softmax, causal", [(True, True), (True, False), (False, True), (False, False)])
def test_gradcheck(device, impl, softmax, causal):
    values, logits, _ = draw((2, 6, 2, 3, 3), torch.float64, device)
    lengths = torch.tensor([6, 4], dtype=torch.int32, device=device)
    for lens in (None, lengths):
        assert torch.autograd.gradcheck(
            lambda v, w, lens=lens: ops.light_conv(v, w, softmax=softmax, causal=causal, lengths=lens, impl=impl),
            (values.requires_grad_(), logits.requires_grad_()),
        )


@pytest.mark.parametrize("device, impl", TARGETS)
def test_opcheck(device, impl):
    values, logits, _ = draw((2, 9, 2, 8, 5), torch.float32, device)
    lengths = torch.tensor([9, 4], dtype=torch.int32, device=device)
    cu_seqlens = torch.tensor([0, 4, 9], dtype=torch.int32, device=device)
    for v, w, lens, cu in [
        (values, logits, None, None),
        (values, logits, lengths, None),
        (values[0], logits[0], None, cu_seqlens),
        (sliced(values), logits, None, None),
    ]:
        torch.library.opcheck(light_conv_op.overload, (*leaves(v, w), lens, cu, True, False, impl))
        torch.library.opcheck(light_conv_backward_op.overload, (expanded_ones(v), v, w, lens, cu, True, False, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_packed_is_the_loop_over_sequences(device, impl):
    counts = [5, 0, 1, 40, 17]
    values, logits, grad = (x[0] for x in draw((1, sum(counts), 2, 16, 9), torch.float32, device))
    cu_seqlens = torch.tensor([0, *itertools.accumulate(counts)], dtype=torch.int32, device=device)
    got = run(values, logits, grad, impl, cu_seqlens=cu_seqlens)
    pieces = [
        run(*(x[start:stop][None] for x in (values, logits, grad)), impl)
        for start, stop in itertools.pairwise(cu_seqlens.tolist())
    ]
    for g, parts in zip(got, zip(*pieces, strict=True), strict=True):
        torch.testing.assert_close(g, torch.cat([part[0] for part in parts]), rtol=0, atol=0)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_garbage_in_padding_reaches_nothing(device, impl, dtype):
    values, logits, grad = draw((3, 20, 2, 16, 5), dtype, device)
    lengths = torch.tensor([20, 7, 0], dtype=torch.int32, device=device)
    padding = (torch.arange(20, device=device) >= lengths[:, None])[..., None, None]
    clean = run(*(x.masked_fill(padding, 0) for x in (values, logits, grad)), impl, lengths=lengths)
    for garbage in (float("nan"), float("inf")):
        dirty = run(*(x.masked_fill(padding, garbage) for x in (values, logits, grad)), impl, lengths=lengths)
        assert_same_bits(dirty, clean)
        for d in dirty:
            assert not d.masked_select(padding.expand_as(d)).any(), "padding must come out as zeros"


def heads_outside(x):
    return swapped(x, 1)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strided_inputs(device, impl, dtype):
    tensors = draw((2, 18, 3, 16, 9), dtype, device)
    want = run(*tensors, impl)
    for rearranged in (swapped, heads_outside, sliced, misaligned):
        assert_same_bits(run(*map(rearranged, tensors), impl), want)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_expanded_inputs_and_gradients(device, impl):
    values, logits, grad = draw((1, 18, 1, 16, 9), torch.float32, device)
    expanded = [x.expand(2, -1, 3, -1) for x in (values, logits, grad)]
    assert_same_bits(run(*expanded, impl), run(*(x.contiguous() for x in expanded), impl))
    values, logits, _ = draw((2, 18, 3, 16, 9), torch.float32, device)
    ones = expanded_ones(values)
    assert_same_bits(run(values, logits, ones, impl), run(values, logits, ones.contiguous(), impl))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written(device, impl):
    tensors = draw((2, 35, 2, 20, 5), torch.float32, device)
    lengths = torch.tensor([35, 0], dtype=torch.int32, device=device)
    want = run(*tensors, impl, lengths=lengths)
    with poisoned_memory():
        got = run(*tensors, impl, lengths=lengths)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_bitwise_reproducible(device, impl):
    tensors = draw((4, 130, 3, 48, 9), torch.float32, device)
    assert_threads_do_not_matter(lambda: run(*tensors, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("B, T, D", [(0, 4, 3), (2, 0, 3), (2, 4, 0)])
def test_empty(device, impl, B, T, D):
    values = torch.zeros(B, T, 2, D, device=device)
    logits = torch.randn(B, T, 2, 3, device=device)
    out, d_values, d_logits = run(values, logits, torch.zeros_like(values), impl)
    assert out.shape == values.shape and d_values.shape == values.shape
    assert d_logits.shape == logits.shape and not d_logits.any()


@pytest.mark.parametrize("device, impl", TARGETS)
def test_extreme_logits(device, impl):
    values, logits, _ = draw((1, 12, 1, 8, 5), torch.float32, device)
    for scaled in (
        logits * 1e4,
        logits * 0 + 300.0,
        logits.index_fill(-1, torch.tensor([1], device=device), -torch.inf),
    ):
        got = ops.light_conv(values, scaled, impl=impl)
        torch.testing.assert_close(got, light_conv_reference(values, scaled))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    values, logits, grad = draw((2, 9, 2, 8, 5), torch.float32, device)
    assert_casts_under_autocast(lambda v, w: ops.light_conv(v, w, impl=impl), (values, logits.bfloat16()), grad)


def test_autocast_leaves_fp64_alone():
    values, logits, _ = draw((2, 9, 2, 8, 5), torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.light_conv(values, logits).dtype == torch.float64
        with pytest.raises(TypeError, match="one dtype"):
            ops.light_conv(values, logits.float())


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    sizes = [(4, 9), (3, 17), (7, 4)]
    cases = [draw((B, T, 2, 8, 5), torch.float32, device)[:2] for B, T in sizes]
    assert_compiles_whole_without_recompiling(lambda v, w: ops.light_conv(v, w, impl=impl), cases)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(40):
        shape = (rng.randint(1, 4), rng.randint(1, 90), rng.randint(1, 5), rng.randint(1, 130), rng.randint(1, 33))
        dtype = rng.choice(DTYPES)
        tensors = draw(shape, dtype, device, seed=rng.randrange(2**31))
        lengths = [rng.randint(0, shape[1]) for _ in range(shape[0])]
        lengths = rng.choice([None, torch.tensor(lengths, dtype=torch.int32, device=device)])
        options = dict(lengths=lengths, softmax=rng.random() < 0.7, causal=rng.random() < 0.3)
        check(tensors, impl, f"seed {seed}: {shape} {dtype} {options}", **options)


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):\n"
        "  v, w = torch.randn(2, 37, 3, 45, dtype=dtype), torch.randn(2, 37, 3, 9, dtype=dtype)\n"
        "  v[0, 0, 0, :8] *= 1e-6\n"
        "  out = [ops.light_conv(v.requires_grad_(), w.requires_grad_(), impl=i) for i in ('cpu', 'reference')]\n"
        "  grads = [torch.autograd.grad(o, (v, w), torch.ones_like(o)) for o in out]\n"
        "  for a, b in zip((out[0], *grads[0]), (out[1], *grads[1])): torch.testing.assert_close(a, b)\n"
    )
    run_with_instruction_set("light_conv", isa, code)


def _bad_calls():
    values, logits = torch.zeros(2, 5, 3, 4), torch.zeros(2, 5, 3, 7)
    int32 = torch.int32
    yield "rank", (values[0, 0], logits[0, 0]), {}, "values must be"
    yield "logits rank", (values, logits[0]), {}, "logits must be"
    yield "heads", (values, logits[:, :, :2]), {}, "logits must be"
    yield "tokens", (values, logits[:, :4]), {}, "logits must be"
    yield "no taps", (values, logits[..., :0]), {}, "at least one tap"
    yield "integers", (values.long(), logits), {}, "values must be float"
    yield "dtypes", (values, logits.double()), {}, "one dtype"
    yield "devices", (values, logits.to("meta")), {}, "one device"
    yield "not a tensor", (values.tolist(), logits), {}, "values must be a tensor"
    yield (
        "last dimension",
        (values.transpose(2, 3).contiguous().transpose(2, 3), logits),
        {},
        "last dimension of values",
    )
    yield (
        "both forms",
        (values, logits),
        dict(lengths=torch.ones(2, dtype=int32), cu_seqlens=torch.zeros(2, dtype=int32)),
        "not both",
    )
    yield "lengths dtype", (values, logits), dict(lengths=torch.ones(2)), "lengths must be a one-dimensional int32"
    yield "lengths count", (values, logits), dict(lengths=torch.ones(3, dtype=int32)), r"lengths must be \[B\]"
    yield "lengths past T", (values, logits), dict(lengths=torch.tensor([5, 6], dtype=int32)), "lengths must lie in"
    yield "lengths negative", (values, logits), dict(lengths=torch.tensor([5, -1], dtype=int32)), "lengths must lie in"
    yield "packed rank", (values, logits), dict(cu_seqlens=torch.tensor([0, 5], dtype=int32)), "with cu_seqlens"
    yield "padded rank", (values[0], logits[0]), {}, "without cu_seqlens"
    for name, numbers in dict(short=[0, 4], late=[1, 5], decreasing=[0, 4, 3, 5], negative=[0, -1, 5]).items():
        yield (
            f"cu_seqlens {name}",
            (values[0], logits[0]),
            dict(cu_seqlens=torch.tensor(numbers, dtype=int32)),
            "cu_seqlens must",
        )
    yield "cu_seqlens empty", (values[0], logits[0]), dict(cu_seqlens=torch.zeros(0, dtype=int32)), "cu_seqlens must"


@pytest.mark.parametrize("impl", implementations_on_cpu("light_conv"))
@pytest.mark.parametrize("arguments, options, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.light_conv(*arguments, impl=impl, **options)


def test_lengths_on_another_device_are_refused():
    values, logits = torch.zeros(2, 5, 3, 4), torch.zeros(2, 5, 3, 7)
    with pytest.raises(ValueError, match="lengths is on meta"):
        ops.light_conv(values, logits, lengths=torch.ones(2, dtype=torch.int32, device="meta"))
