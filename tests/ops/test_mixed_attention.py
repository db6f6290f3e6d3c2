"""mixed_attention on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.attention import attention_op
from bertkernels.ops.light_conv import light_conv_op
from bertkernels.ops.mixed_attention import (
    join_light_conv_op,
    mixed_attention_backward_op,
    mixed_attention_op,
    mixed_attention_reference,
)
from tests.ops.attention_errors import eager as eager_attention
from tests.ops.attention_errors import int32, magnitudes, offsets
from tests.ops.bits import assert_same_bits, assert_threads_do_not_matter
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

OURS = targets("mixed_attention", ("cpu", "triton"))  # those that write both halves
KERNELS = compiled_targets("mixed_attention", ("cpu", "triton"))
COMPOSED = compiled_targets("mixed_attention", ("torch", "cuda"))
NAMES = ("out", "d_query", "d_key", "d_value", "d_conv_values", "d_conv_logits")
# B, T, H, D, N, K: the published head widths, other numbers of convolution heads, T < K, T = 1, even K
SHAPES = [
    (2, 70, 2, 64, 2, 9),
    (2, 33, 4, 48, 4, 9),
    (1, 40, 2, 80, 3, 5),
    (3, 5, 2, 32, 1, 9),
    (2, 1, 1, 16, 1, 3),
    (1, 20, 3, 7, 3, 4),
]


def draw(shape, dtype, device="cpu", seed=0):
    """Query, key, value, convolution's values and logits, and an output gradient."""
    B, T, H, D, N, K = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [*[(B, T, H, D)] * 3, (B, T, N, D), (B, T, N, K), (B, T, (H + N) * D)]
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype).to(device) for size in sizes]


def run(*tensors, impl, **options):
    *inputs, grad = tensors
    return with_gradients(lambda *x: ops.mixed_attention(*x, impl=impl, **options), inputs, grad)


def run_op(*tensors, impl, key_bias=None, lengths=None, cu_seqlens=None, seed=None, dropout_p=0.0):
    """Below the public function, where the seed is given."""
    *inputs, grad = tensors
    options = (key_bias, lengths, cu_seqlens, seed, dropout_p, None, impl)
    return with_gradients(lambda *x: mixed_attention_op(*x, *options)[0], inputs, grad)


def exact(*tensors, **options):
    """Output and gradients in fp64 by autograd of the reference."""
    *inputs, grad = tensors
    return with_gradients(lambda *x: mixed_attention_reference(*x, **options), inputs, grad, torch.float64)


def halves(query, x):
    """The attention heads [B, T, H, D] and the rest of x [B, T, (H + N)·D]."""
    width = query.shape[-2] * query.shape[-1]
    return x[..., :width].unflatten(-1, query.shape[-2:]), x[..., width:]


def eager(query, key, value, conv_values, conv_logits, grad, lengths=None, **options):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""
    grads = halves(query, grad)
    attended, *d_attention = eager_attention(query, key, value, grads[0], lengths=lengths, **options)
    T, K = conv_logits.shape[1], conv_logits.shape[-1]
    left = (K - 1) // 2
    real = torch.ones(query.shape[:2], dtype=torch.bool, device=query.device)
    if lengths is not None:
        real = torch.arange(T, device=query.device) < lengths[:, None]
    real = real[..., None, None]

    def convolution(values, logits):
        padded = torch.nn.functional.pad(torch.where(real, values, 0), (0, 0, 0, 0, left, K - 1 - left))
        windows = padded.unfold(1, K, 1)  # [B, T, N, D, K]
        return torch.where(real, (windows * logits.softmax(-1)[..., None, :]).sum(-1), 0).flatten(-2)

    convolved, *d_convolution = with_gradients(convolution, (conv_values, conv_logits), grads[1])
    return torch.cat([attended.flatten(-2), convolved], -1), *d_attention, *d_convolution


def check(got, tensors, what, **options):
    """The attention half is held to the sums of its terms' absolute values, the other one to its largest entries."""
    query, key, value, *_, grad = tensors
    want, same_dtype = exact(*tensors, **options), eager(*tensors, **options)
    bounds = magnitudes(query, key, value, halves(query, grad)[0], **options)
    parts = [[halves(query, x[0]) for x in (got, want, same_dtype)], [x[1:4] for x in (got, want, same_dtype)]]
    attention = [(half[0], *gradients) for half, gradients in zip(*parts, strict=True)]
    assert_within_budget(NAMES, *attention, what, of=bounds)
    convolution = [(halves(query, x[0])[1], *x[4:]) for x in (got, want, same_dtype)]
    assert_within_budget((NAMES[0], *NAMES[4:]), *convolution, what)


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_against_fp64(device, impl, dtype, padded, biased):
    for shape in SHAPES:
        B, T = shape[:2]
        tensors = draw(shape, dtype, device)
        lengths = int32([max(1, T - 9 * b) for b in range(B)], device) if padded else None
        key_bias = torch.randn(B, T, device=device).to(dtype) if biased else None
        mask = key_bias[:, None, None] if biased else None
        got = run(*tensors, impl=impl, attention_mask=mask, lengths=lengths, scale=0.3)
        check(got, tensors, f"{shape}", key_bias=key_bias, lengths=lengths, scale=0.3)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("impl", implementations_on_cpu("mixed_attention", ("cpu",)))
def test_is_attention_beside_light_conv(impl, dropout_p):
    """Bit for bit, whatever the sequences."""
    query, key, value, conv_values, conv_logits, grad = tensors = draw((3, 90, 3, 24, 2, 7), torch.float32)
    seed = torch.tensor([17]) if dropout_p else None
    key_bias, lengths, cu_seqlens = torch.randn(3, 90), int32([90, 0, 31]), offsets([41, 0, 1, 228])
    packed = [x.flatten(0, 1) for x in tensors]
    for inputs, *options in [
        (tensors, None, None, None),
        (tensors, key_bias, lengths, None),
        (packed, None, None, cu_seqlens),
    ]:
        query, key, value, conv_values, conv_logits, grad = inputs
        attention_options = (*options, seed, dropout_p, None, impl)
        grads = halves(query, grad)
        attended, *d_attention = with_gradients(
            lambda *x, o=attention_options: attention_op(*x, *o)[0], (query, key, value), grads[0]
        )
        convolved, *d_convolution = with_gradients(
            lambda *x, o=options: light_conv_op(*x, *o[1:], True, False, impl),
            (conv_values, conv_logits),
            grads[1].unflatten(-1, conv_values.shape[-2:]),
        )
        want = torch.cat([attended.flatten(-2), convolved.flatten(-2)], -1), *d_attention, *d_convolution
        got = with_gradients(lambda *x, o=attention_options: mixed_attention_op(*x, *o)[0], inputs[:-1], grad)
        assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPOSED)
def test_with_torchs_attention(device, impl):
    tensors = draw((3, 40, 2, 16, 2, 5), torch.float32, device)
    lengths = int32([40, 7, 19], device)
    mask = torch.randn(3, 1, 1, 40, device=device)
    for options, want in [
        ({}, exact(*tensors)),
        (dict(lengths=lengths), exact(*tensors, lengths=lengths)),
        (dict(attention_mask=mask), exact(*tensors, key_bias=mask[:, 0, 0])),
    ]:
        got = run(*tensors, impl=impl, **options)
        torch.testing.assert_close(got, tuple(x.float() for x in want), rtol=1e-4, atol=1e-4)
    packed, cu_seqlens = [x.flatten(0, 1) for x in tensors], offsets([40, 0, 7, 73], device)
    got, want = run(*packed, impl=impl, cu_seqlens=cu_seqlens, max_seqlen=73), exact(*packed, cu_seqlens=cu_seqlens)
    torch.testing.assert_close(got, tuple(x.float() for x in want), rtol=1e-4, atol=1e-4)


def test_masks_of_pairs_are_for_torchs_attention():
    tensors = draw((2, 12, 3, 8, 3, 5), torch.float32)
    mask = torch.randn(2, 1, 12, 12)
    got = ops.mixed_attention(*tensors[:5], attention_mask=mask)
    assert torch.equal(got, ops.mixed_attention(*tensors[:5], attention_mask=mask, impl="torch"))
    assert not torch.equal(got, ops.mixed_attention(*tensors[:5]))
    with pytest.raises(RuntimeError, match="takes only masks"):
        ops.mixed_attention(*tensors[:5], attention_mask=mask, impl="cpu")


@pytest.mark.parametrize("device, impl", OURS)
def test_gradcheck(device, impl):
    tensors = leaves(*draw((2, 7, 2, 3, 1, 4), torch.float64, device)[:5])
    seed, lengths = torch.tensor([99], device=device), int32([7, 4], device)
    for options in [(None, None, None, None, 0.0), (None, lengths, None, seed, 0.4)]:
        assert torch.autograd.gradcheck(lambda *x, o=options: mixed_attention_op(*x, *o, None, impl)[0], tensors)


@pytest.mark.parametrize("device, impl", OURS)
def test_opcheck(device, impl):
    tensors = draw((2, 9, 2, 8, 2, 5), torch.float32, device)[:5]
    seed, key_bias = torch.tensor([3], device=device), torch.randn(2, 9, device=device)
    lengths, cu_seqlens = int32([9, 4], device), offsets([4, 5], device)
    for inputs, *options in [
        (tensors, key_bias, lengths, None, seed, 0.25, 0.5),
        ([x[0] for x in tensors], None, None, cu_seqlens, None, 0.0, None),
        ([sliced(x) for x in tensors], None, None, None, None, 0.0, None),
    ]:
        torch.library.opcheck(mixed_attention_op.overload, (*leaves(*inputs), *options, impl))
        out, lse = mixed_attention_op(*inputs, *options, impl)
        arguments = (expanded_ones(out), *inputs, out, lse, *options, impl)
        torch.library.opcheck(mixed_attention_backward_op.overload, arguments)


@pytest.mark.parametrize("impl", implementations_on_cpu("light_conv", ("cpu",)))
def test_join(impl):
    _, _, _, conv_values, conv_logits, grad = draw((2, 9, 2, 8, 2, 5), torch.float32)
    attended, lengths = torch.randn(2, 9, 16), int32([9, 4])
    torch.library.opcheck(
        join_light_conv_op.overload, (*leaves(attended, conv_values, conv_logits), lengths, None, impl)
    )
    out, d_attended, *d_convolution = with_gradients(
        lambda *x: join_light_conv_op(*x, lengths, None, impl), (attended, conv_values, conv_logits), grad
    )
    want = with_gradients(
        lambda *x: light_conv_op(*x, lengths, None, True, False, impl).flatten(-2),
        (conv_values, conv_logits),
        grad[..., 16:],
    )
    assert_same_bits((out[..., :16], d_attended), (attended, grad[..., :16]))
    assert_same_bits((out[..., 16:], *d_convolution), want)


@pytest.mark.parametrize("device, impl", OURS)
def test_packed_is_the_loop_over_sequences(device, impl):
    counts = [5, 0, 1, 140, 17]
    tensors = [x[0] for x in draw((1, sum(counts), 2, 16, 2, 9), torch.float32, device)]
    cu_seqlens = offsets(counts, device)
    got = run(*tensors, impl=impl, cu_seqlens=cu_seqlens)
    for start, stop in itertools.pairwise(cu_seqlens.tolist()):
        alone = [x[None, start:stop] for x in tensors]
        if start < stop:
            check([x[None, start:stop] for x in got], alone, f"tokens {start}..{stop}")


@pytest.mark.parametrize("device, impl", [*OURS, *COMPOSED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_garbage_in_padding_reaches_nothing(device, impl, dtype):
    tensors = draw((3, 20, 2, 16, 2, 5), dtype, device)
    lengths = int32([20, 7, 0], device)
    padding = torch.arange(20, device=device) >= lengths[:, None]  # [B, T]

    def filled(value):
        return [x.masked_fill(padding[(...,) + (None,) * (x.dim() - 2)], value) for x in tensors]

    clean = run(*filled(0), impl=impl, lengths=lengths)
    for garbage in (float("nan"), float("inf")):
        dirty = run(*filled(garbage), impl=impl, lengths=lengths)
        assert_same_bits(dirty, clean)
        for d in dirty:
            assert not d[padding].any(), "padding must come out as zeros"


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strided_inputs(device, impl, dtype):
    *inputs, grad = draw((2, 18, 3, 16, 3, 9), dtype, device)
    want = run(*inputs, grad, impl=impl)
    for rearranged in (swapped, lambda x: swapped(x, 1), sliced, misaligned):
        assert_same_bits(run(*map(rearranged, inputs), rearranged(grad), impl=impl), want)
    assert_same_bits(run(*inputs, transposed(grad), impl=impl), want)
    ones = expanded_ones(grad)
    assert_same_bits(run(*inputs, ones, impl=impl), run(*inputs, ones.contiguous(), impl=impl))
    expanded = [x[:1, :, :1].expand(2, -1, 3, -1) for x in inputs]
    dense = [x.contiguous() for x in expanded]
    assert_same_bits(run(*expanded, grad, impl=impl), run(*dense, grad, impl=impl))


@pytest.mark.parametrize("device, impl", KERNELS)
def test_every_element_is_written(device, impl):
    tensors = draw((3, 75, 2, 20, 2, 5), torch.float32, device)
    options = dict(lengths=int32([75, 0, 31], device), seed=torch.tensor([5], device=device), dropout_p=0.1)
    want = run_op(*tensors, impl=impl, **options)
    with poisoned_memory():
        got = run_op(*tensors, impl=impl, **options)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", KERNELS)
def test_bitwise_reproducible(device, impl):
    tensors = draw((4, 130, 3, 48, 3, 9), torch.float32, device)
    seed = torch.tensor([7], device=device)
    assert_threads_do_not_matter(lambda: run_op(*tensors, impl=impl, seed=seed, dropout_p=0.1))


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_against_fp64(device, impl, dtype):
    for shape in SHAPES:
        tensors = draw(shape, dtype, device)
        lengths = int32([max(1, shape[1] - 9 * b) for b in range(shape[0])], device)
        options = dict(lengths=lengths, seed=torch.tensor([2**62 + 12345], device=device), dropout_p=0.3)
        check(run_op(*tensors, impl=impl, **options), tensors, f"{shape}", **options)


@pytest.mark.parametrize("device, impl", [*OURS, *COMPOSED])
def test_dropout_is_drawn_from_torchs_generator(device, impl):
    tensors = draw((2, 40, 2, 8, 2, 5), torch.float32, device)
    torch.manual_seed(4)
    first, second = (run(*tensors, impl=impl, dropout_p=0.2) for _ in range(2))
    torch.manual_seed(4)
    assert_same_bits(run(*tensors, impl=impl, dropout_p=0.2), first)
    attended, convolved = ([halves(tensors[0], x[0])[i] for x in (first, second)] for i in range(2))
    assert not torch.equal(*attended)
    assert torch.equal(*convolved), "there is no dropout on the convolution"


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("B, T, H, N, D", [(0, 4, 2, 2, 3), (2, 0, 2, 2, 3), (2, 4, 2, 2, 0), (2, 4, 2, 0, 3)])
def test_empty(device, impl, B, T, H, N, D):
    tensors = draw((B, T, H, D, N, 3), torch.float32, device)
    got = run(*tensors, impl=impl, scale=1.0)
    for result, like in zip(got, (tensors[5], *tensors[:5]), strict=True):
        assert result.shape == like.shape
    if D == 0:
        assert not got[-1].any(), "logits of empty values have no gradient"


@pytest.mark.parametrize("device, impl", OURS)
def test_autocast(device, impl):
    query, key, value, conv_values, conv_logits, grad = draw((2, 9, 2, 8, 2, 5), torch.float32, device)
    inputs = (query, key.bfloat16(), value, conv_values, conv_logits.bfloat16())
    assert_casts_under_autocast(lambda *x: ops.mixed_attention(*x, impl=impl), inputs, grad)


def test_autocast_leaves_fp64_alone():
    *inputs, conv_logits, _ = draw((2, 9, 2, 8, 2, 5), torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.mixed_attention(*inputs, conv_logits).dtype == torch.float64
        with pytest.raises(TypeError, match="one dtype"):
            ops.mixed_attention(*inputs, conv_logits.float())


@pytest.mark.parametrize("device, impl", [*OURS, *COMPOSED])
def test_compiles_whole_without_recompiling(device, impl):
    cases = [draw((B, T, 2, 8, 2, 5), torch.float32, device)[:5] for B, T in [(4, 9), (3, 17), (7, 6)]]
    assert_compiles_whole_without_recompiling(lambda *x: ops.mixed_attention(*x, impl=impl), cases)


def test_the_choice_compiles_too():
    cases = [draw((B, T, 2, 8, 2, 5), torch.float32)[:5] for B, T in [(4, 9), (3, 17), (7, 6)]]
    assert_compiles_whole_without_recompiling(ops.mixed_attention, cases)


@pytest.mark.parametrize("device, impl", KERNELS)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(15):
        shape = [rng.randint(1, most) for most in (4, 150, 4, 100, 4, 20)]
        B, T = shape[:2]
        dtype = rng.choice(DTYPES)
        tensors = draw(shape, dtype, device, seed=rng.randrange(2**31))
        options = dict(
            lengths=rng.choice([None, int32([rng.randint(1, T) for _ in range(B)], device)]),
            key_bias=rng.choice([None, torch.randn(B, T, device=device).to(dtype)]),
            seed=rng.choice([None, torch.tensor([rng.randrange(2**63)], device=device)]),
        )
        options["dropout_p"] = 0.0 if options["seed"] is None else 0.2
        what = f"BERTKERNELS_SEED={seed}: {shape} {dtype} {options}"
        check(run_op(*tensors, impl=impl, **options), tensors, what, **options)


def _bad_calls():
    *x, _ = draw((2, 5, 3, 4, 3, 7), torch.float32)
    query, key, value, conv_values, conv_logits = x
    yield "query rank", (query[0], key, value, conv_values, conv_logits), {}, "without cu_seqlens query"
    yield "key", (query, key[:, :4], value, conv_values, conv_logits), {}, "key must be query's shape"
    yield "tokens", (query, key, value, conv_values[:, :4], conv_logits[:, :4]), {}, "conv_values must have query's"
    yield "logits", (query, key, value, conv_values, conv_logits[:, :, :2]), {}, "logits must be"
    yield "dtypes", (query, key, value, conv_values.double(), conv_logits.double()), {}, "conv_values is torch.float64"
    yield "devices", (query, key, value, conv_values.to("meta"), conv_logits.to("meta")), {}, "one device"
    yield "dropout", x, dict(dropout_p=-0.1), "dropout_p must be"
    yield "mask", x, dict(attention_mask=torch.zeros(6)), "attention_mask must broadcast"
    yield "lengths", x, dict(lengths=int32([5, 6])), "lengths must lie in"
    yield "cu_seqlens", [t[0] for t in x], dict(cu_seqlens=int32([0, 4])), "cu_seqlens must"


@pytest.mark.parametrize("impl", implementations_on_cpu("mixed_attention", ("cpu", "torch")))
@pytest.mark.parametrize("arguments, options, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.mixed_attention(*arguments, impl=impl, **options)
