"""span_conv on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools
from functools import partial

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.span_conv import (
    span_conv_logits_backward_op,
    span_conv_logits_op,
    span_conv_logits_reference,
    span_conv_op,
    span_conv_reference,
)
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

KERNELS = ("cpu", "torch", "triton")
TARGETS = targets("span_conv", KERNELS)
COMPILED = compiled_targets("span_conv", KERNELS)
NAMES = (
    "x",
    "query",
    "values",
    "depthwise_weight",
    "pointwise_weight",
    "pointwise_bias",
    "kernel_weight",
    "kernel_bias",
)
# B, T, C, H, D, K, S: the published widths, odd ones, T < S, T = 1, S = 1, K = 1, even K and S, many taps
SHAPES = [
    (2, 21, 48, 3, 16, 9, 9),
    (1, 40, 384, 4, 48, 9, 9),
    (1, 33, 256, 2, 64, 9, 9),
    (3, 5, 33, 2, 32, 3, 8),
    (2, 1, 16, 2, 8, 5, 1),
    (1, 30, 7, 5, 3, 12, 2),
    (2, 12, 20, 1, 7, 1, 5),
]


def draw(shape, dtype, device="cpu", seed=0, fused=True):
    """The eight inputs, values None for the logits alone, then an output gradient. Logits come out around one."""
    B, T, C, H, D, K, S = shape
    generator = torch.Generator().manual_seed(seed)
    sizes = [(B, T, C), (B, T, H, D), (B, T, H, D), (C, S), (H * D, C), (H * D,), (H * K, H * D), (H * K,)]
    sizes.append((B, T, H, D if fused else K))
    scales = [1, 1, 1, S**-0.5, C**-0.5, 0.5, (H * D) ** -0.5, 0.5, 1]
    tensors = [
        (torch.randn(size, generator=generator, dtype=torch.float64) * scale).to(dtype).to(device)
        for size, scale in zip(sizes, scales, strict=True)
    ]
    if not fused:
        tensors[2] = None
    return tensors


def tokens_of(tensors, change):
    """The inputs and the gradient that have tokens, changed."""
    x, query, values, *weights, grad = tensors
    return [change(x), change(query), values if values is None else change(values), *weights, change(grad)]


def call(x, query, values, *weights, **options):
    if values is None:
        return ops.span_conv_logits(x, query, *weights, **options)
    return ops.span_conv(x, query, values, *weights, **options)


def run(*tensors, impl, **options):
    """Output and gradients."""
    *inputs, grad = tensors
    return with_gradients(lambda *x: call(*x, impl=impl, **options), inputs, grad)


def exact(*tensors, lengths=None, cu_seqlens=None):
    """In fp64 by autograd of the reference."""

    def reference(x, query, values, *weights):
        if values is None:
            return span_conv_logits_reference(x, query, *weights, lengths, cu_seqlens)
        return span_conv_reference(x, query, values, *weights, lengths, cu_seqlens)

    *inputs, grad = tensors
    return with_gradients(reference, inputs, grad, torch.float64)


def windows(x, taps):
    """[B, T, …] → [B, T, …, K], zeros outside."""
    left = (taps - 1) // 2
    around = (0, 0) * (x.dim() - 2) + (left, taps - 1 - left)
    return torch.nn.functional.pad(x, around).unfold(1, taps, 1)


def eager(*tensors, lengths=None):
    """What plain torch operations of the same dtype give: the measure of an acceptable error."""

    def layers(x, query, values, depthwise, pointwise, pointwise_bias, kernel, kernel_bias):
        real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if lengths is not None:
            real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
        spans = (windows(torch.where(real[..., None], x, 0), depthwise.shape[1]) * depthwise).sum(-1)  # [B, T, C]
        keys = torch.nn.functional.linear(spans, pointwise, pointwise_bias) * query.flatten(-2)
        logits = torch.nn.functional.linear(keys, kernel, kernel_bias).unflatten(-1, (query.shape[-2], -1))
        if values is None:
            return torch.where(real[..., None, None], logits, 0)
        taken = windows(torch.where(real[..., None, None], values, 0), logits.shape[-1])  # [B, T, H, D, K]
        return torch.where(real[..., None, None], (taken * logits.softmax(-1)[..., None, :]).sum(-1), 0)

    *inputs, grad = tensors
    return with_gradients(layers, inputs, grad)


def terms(*tensors, lengths=None, cu_seqlens=None):
    """Sums of the absolute values of the terms that the results are sums of, in fp64.

    Logits are linear in each input. What they are off by, the softmax makes of its weights and their slopes alike.
    """
    sequences = {"lengths": lengths, "cu_seqlens": cu_seqlens}
    x, query, values, *weights, grad = (t if t is None else t.double() for t in tensors)
    absolute = [t if t is None else t.abs() for t in (x, query, None, *weights)]
    logits = span_conv_logits_reference(x, query, *weights, lengths, cu_seqlens)
    if values is None:
        return exact(*absolute, grad.abs(), **sequences)
    spread = exact(*absolute, torch.zeros_like(logits), **sequences)[0]  # [B, T, H, K]
    out, d_values, slopes = with_gradients(
        lambda v, w: ops.light_conv(v, w, softmax=False, impl="reference", **sequences),
        (values.abs(), logits.softmax(-1)),
        grad.abs(),
    )
    p, off = logits.softmax(-1), 1 + spread.max()
    slopes = p * (slopes + (p * slopes).sum(-1, keepdim=True))
    _, d_x, d_query, *d_weights = exact(*absolute, slopes, **sequences)
    return [off * t for t in (out, d_x, d_query, d_values, *d_weights)]


def kernel_bias_terms(*tensors, lengths=None, cu_seqlens=None):
    """Sums of the absolute values of the logits' gradients over tokens, in fp64: the kernel bias' gradient is theirs.

    Those of a head add up to nothing over its taps, so no entry of the sum tells how much was added up.
    """
    sequences = {"lengths": lengths, "cu_seqlens": cu_seqlens}
    x, query, values, *weights, slopes = (t if t is None else t.double() for t in tensors)
    if values is not None:
        logits = span_conv_logits_reference(x, query, *weights, lengths, cu_seqlens)
        convolved = partial(ops.light_conv, values, softmax=True, impl="reference", **sequences)
        slopes = with_gradients(convolved, (logits,), slopes)[-1]
    return exact(x, query, None, *weights, slopes.abs(), **sequences)[-1]


def check(tensors, impl, what, **options):
    got, want, same_dtype = run(*tensors, impl=impl, **options), exact(*tensors, **options), eager(*tensors, **options)
    names = ["out", *(f"d_{name}" for name, tensor in zip(NAMES, tensors, strict=False) if tensor is not None)]
    budget, of = {}, want
    if tensors[0].dtype == torch.float64:
        budget, of = {"roundings": 3}, terms(*tensors, **options)
    elif tensors[0].dtype == torch.float32 and tensors[-2] is not None:
        of = [*want[:-1], kernel_bias_terms(*tensors, **options)]
    assert_within_budget(names, got, want, same_dtype, what, of=of, **budget)


def int32(numbers, device="cpu"):
    return torch.tensor(numbers, dtype=torch.int32, device=device)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("padded", [False, True])
def test_against_fp64(device, impl, dtype, fused, padded):
    for shape in SHAPES:
        tensors = draw(shape, dtype, device, fused=fused)
        lengths = int32([max(0, shape[1] - 3 * b) for b in range(shape[0])], device) if padded else None
        check(tensors, impl, f"{shape}", lengths=lengths)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("without", ["pointwise_bias", "kernel_bias"])
def test_without_a_bias(device, impl, without):
    tensors = draw((2, 9, 20, 2, 8, 5, 3), torch.float32, device)
    tensors[NAMES.index(without)] = None
    check(tensors, impl, without)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("padded", [False, True])
def test_gradcheck(device, impl, fused, padded):
    *inputs, _ = draw((2, 5, 3, 2, 2, 3, 3), torch.float64, device, fused=fused)
    lengths = int32([5, 3], device) if padded else None
    given = [t for t in inputs if t is not None]

    def function(*given):
        left = iter(given)
        return call(*(t if t is None else next(left) for t in inputs), impl=impl, lengths=lengths)

    assert torch.autograd.gradcheck(function, leaves(*given))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("form", ["plain", "lengths", "packed"])
def test_opcheck(device, impl, form):
    x, query, values, *weights, grad = draw((2, 7, 12, 2, 8, 3, 5), torch.float32, device)
    lengths = int32([7, 4], device) if form == "lengths" else None
    cu_seqlens = int32([0, 4, 7], device) if form == "packed" else None
    if form == "packed":
        x, query, values, grad = x[0], query[0], values[0], grad[0]
    x = sliced(x)
    for keep in (True, False):
        options = (lengths, cu_seqlens, keep, impl)
        torch.library.opcheck(span_conv_op.overload, (*leaves(x, query, values, *weights), *options))
        torch.library.opcheck(span_conv_logits_op.overload, (*leaves(x, query, *weights), *options))
        if form != "plain":
            break
    logits, product = span_conv_logits_op(x, query, *weights, lengths, cu_seqlens, True, impl)
    for wanted in ([True] * 7, [False, True] * 3 + [False]):
        saved = (x, query, *weights[:-1], product, lengths, cu_seqlens)
        torch.library.opcheck(span_conv_logits_backward_op.overload, (expanded_ones(logits), *saved, wanted, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_is_the_light_convolution_of_its_logits(device, impl):
    *inputs, _ = draw((2, 21, 48, 3, 16, 9, 9), torch.float32, device)
    x, query, values, *weights = inputs
    for taps in (9, 5, 1):  # rows of fewer taps
        weights[3], weights[4] = weights[3][: 3 * taps], weights[4][: 3 * taps]
        logits = ops.span_conv_logits(x, query, *weights, impl=impl)
        want = ops.light_conv(values, logits, impl="reference")
        torch.testing.assert_close(ops.span_conv(x, query, values, *weights, impl=impl), want)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("fused", [True, False])
def test_the_product_is_kept_only_for_gradients(device, impl, fused):
    tensors = draw((2, 9, 20, 2, 8, 5, 3), torch.float32, device, fused=fused)
    lengths = int32([9, 5], device)
    *inputs, grad = tensors
    want = run(*tensors, impl=impl, lengths=lengths)
    op = span_conv_op if fused else span_conv_logits_op
    for keep in (True, False):  # the backward pass makes the product anew where it was not kept
        given = [t for t in leaves(*inputs) if fused or t is not inputs[2]]
        out, *_, product = op(*(t for t in given if fused or t is not None), lengths, None, keep, impl)
        assert product.numel() == (2 * 9 * 16 if keep else 0) and not product.requires_grad
        got = torch.autograd.grad(out, [t for t in given if t is not None], grad)
        for g, w in zip((out, *got), want, strict=True):
            torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    *inputs, grad = draw((2, 9, 20, 2, 8, 5, 3), torch.float32, device)
    out, *want = run(*inputs, grad, impl=impl)
    cases = [[i == j for i in range(8)] for j in range(8)] + [[i != j for i in range(8)] for j in range(8)]
    for wanted in cases:
        given = [t.clone().requires_grad_(w) for t, w in zip(inputs, wanted, strict=True)]
        call(*given, impl=impl).backward(grad)
        for tensor, w, gradient in zip(given, wanted, want, strict=True):
            if w:
                torch.testing.assert_close(tensor.grad, gradient)
            else:
                assert tensor.grad is None
    with torch.no_grad():
        torch.testing.assert_close(call(*inputs, impl=impl), out)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("fused", [True, False])
def test_packed_is_the_loop_over_sequences(device, impl, fused):
    counts = [5, 0, 1, 40, 17]
    tensors = tokens_of(draw((1, sum(counts), 24, 2, 16, 9, 9), torch.float32, device, fused=fused), lambda t: t[0])
    cu_seqlens = int32([0, *itertools.accumulate(counts)], device)
    got = run(*tensors, impl=impl, cu_seqlens=cu_seqlens)
    pieces = [
        run(*tokens_of(tensors, lambda t, start=start, stop=stop: t[None, start:stop]), impl=impl)
        for start, stop in itertools.pairwise(cu_seqlens.tolist())
    ]
    per_token = 4 if fused else 3
    for i, (g, parts) in enumerate(zip(got, zip(*pieces, strict=True), strict=True)):
        want = torch.cat([part[0] for part in parts]) if i < per_token else sum(parts)
        torch.testing.assert_close(g, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fused", [True, False])
def test_garbage_in_padding_reaches_nothing(device, impl, dtype, fused):
    tensors = draw((3, 20, 24, 2, 16, 5, 7), dtype, device, fused=fused)
    lengths = int32([20, 7, 0], device)
    padding = torch.arange(20, device=device) >= lengths[:, None]

    def filled(garbage):
        return tokens_of(tensors, lambda t: t.masked_fill(padding.view(3, 20, *[1] * (t.dim() - 2)), garbage))

    clean = run(*filled(0.0), impl=impl, lengths=lengths)
    for garbage in (float("nan"), float("inf")):
        dirty = run(*filled(garbage), impl=impl, lengths=lengths)
        assert_same_bits(dirty, clean)
        for result in dirty[: 4 if fused else 3]:
            assert not result[padding].any(), "padding must come out as zeros"
    poisoned = filled(float("nan"))
    poisoned[0][1, 6] = float("nan")  # a real token, the last one's neighbours are padding
    for result in run(*poisoned, impl=impl, lengths=lengths)[: 4 if fused else 3]:
        assert not result[padding].any(), "padding must come out as zeros"


@pytest.mark.parametrize("device, impl", TARGETS)
def test_neighbouring_sequences_reach_nothing(device, impl):
    tensors = tokens_of(draw((1, 13, 12, 2, 8, 5, 5), torch.float32, device), lambda t: t[0])
    cu_seqlens = int32([0, 4, 5, 13], device)
    clean = run(*tensors, impl=impl, cu_seqlens=cu_seqlens)[:4]
    dirty = run(*tokens_of(tensors, lambda t: t.index_fill(0, torch.tensor([4], device=device), float("nan"))),
                impl=impl, cu_seqlens=cu_seqlens)[:4]  # fmt: skip
    for a, b in zip(clean, dirty, strict=True):
        assert_same_bits([b[:4], b[5:]], [a[:4], a[5:]])
        assert b[4:5].isnan().all()


@pytest.mark.parametrize("device, impl", TARGETS)
def test_tokens_out_of_reach_stay_out_of_reach(device, impl):
    """A NaN reaches exactly the tokens whose windows hold it."""
    tensors = draw((1, 40, 12, 2, 8, 3, 5), torch.float32, device)
    tensors[0][0, 19] = float("nan")
    out, d_x, d_query, d_values, *_ = run(*tensors, impl=impl)
    reached = torch.zeros(40, dtype=torch.bool, device=device)
    reached[17:22] = True
    assert torch.equal(out[0].isnan().any(-1).any(-1), reached)  # through the span
    assert torch.equal(d_query[0].isnan().any(-1).any(-1), reached)
    wider = torch.zeros_like(reached)
    wider[16:23] = True
    assert torch.equal(d_values[0].isnan().any(-1).any(-1), wider)  # through the span, then the taps
    tensors = draw((1, 40, 12, 2, 8, 3, 5), torch.float32, device)
    tensors[2][0, 19] = float("nan")
    out, d_x, *_ = run(*tensors, impl=impl)
    reached[:] = False
    reached[18:21] = True
    assert torch.equal(out[0].isnan().any(-1).any(-1), reached)
    assert torch.equal(d_x[0].isnan().any(-1), wider)


def heads_outside(x):
    return swapped(x, 1)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fused", [True, False])
def test_strided_inputs(device, impl, dtype, fused):
    tensors = draw((2, 18, 24, 3, 16, 9, 9), dtype, device, fused=fused)
    want = run(*tensors, impl=impl)
    for rearranged in (swapped, heads_outside, sliced, misaligned):
        got = run(*(t if t is None else rearranged(t) for t in tensors), impl=impl)
        for g, w in zip(got, want, strict=True):  # a product may add up in another order
            torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4) if dtype == torch.float32 else None
            assert (g.double() - w.double()).abs().max() <= 4 * torch.finfo(dtype).eps * w.abs().max() + 1e-6
    *inputs, grad = tensors
    for g, w in zip(run(*inputs, transposed(grad), impl=impl), want, strict=True):
        assert (g.double() - w.double()).abs().max() <= 4 * torch.finfo(dtype).eps * w.abs().max()


@pytest.mark.parametrize("device, impl", TARGETS)
def test_expanded_inputs_and_gradients(device, impl):
    tensors = draw((1, 18, 24, 2, 16, 9, 9), torch.float32, device)
    expanded = tokens_of(tensors, lambda t: t.expand(2, *t.shape[1:]))
    want = run(*tokens_of(expanded, torch.Tensor.contiguous), impl=impl)
    for g, w in zip(run(*expanded, impl=impl), want, strict=True):
        torch.testing.assert_close(g, w)
    tensors[-1] = expanded_ones(tensors[-1])
    want = run(*tensors[:-1], tensors[-1].contiguous(), impl=impl)
    for g, w in zip(run(*tensors, impl=impl), want, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written(device, impl):
    tensors = draw((2, 35, 20, 2, 20, 5, 3), torch.float32, device)
    lengths = int32([35, 0], device)
    want = run(*tensors, impl=impl, lengths=lengths)
    with poisoned_memory():
        got = run(*tensors, impl=impl, lengths=lengths)
    assert_same_bits(got, want)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_bitwise_reproducible(device, impl):
    tensors = draw((4, 130, 48, 3, 48, 9, 9), torch.float32, device)
    want = run(*tensors, impl=impl)
    for _ in range(2):
        assert_same_bits(run(*tensors, impl=impl), want)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("B, T, C, D", [(0, 4, 3, 2), (2, 0, 3, 2), (2, 4, 0, 2), (2, 4, 3, 0)])
def test_empty(device, impl, B, T, C, D):
    for fused in (True, False):
        tensors = draw((B, T, 3, 2, 2, 3, 5), torch.float32, device, fused=fused)
        x, query, values, depthwise, pointwise, bias, kernel, kernel_bias, grad = tensors
        tensors = [x[..., :C], query[..., :D], values if values is None else values[..., :D], depthwise[:C]]
        tensors += [pointwise[: 2 * D, :C], bias[: 2 * D], kernel[:, : 2 * D], kernel_bias]
        tensors.append(grad[..., :D] if fused else grad)
        for g, w in zip(run(*tensors, impl=impl), exact(*tensors), strict=True):
            torch.testing.assert_close(g, w.float())


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    *inputs, grad = draw((2, 9, 20, 2, 8, 5, 3), torch.float32, device)
    inputs[1] = inputs[1].bfloat16()
    assert_casts_under_autocast(lambda *x: call(*x, impl=impl), inputs, grad)


def test_autocast_leaves_fp64_alone():
    *inputs, _ = draw((2, 9, 20, 2, 8, 5, 3), torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert call(*inputs).dtype == torch.float64
        with pytest.raises(TypeError, match="one dtype"):
            call(inputs[0].float(), *inputs[1:])


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("fused", [True, False])
def test_compiles_whole_without_recompiling(device, impl, fused):
    sizes = [(4, 9), (3, 17), (7, 6)]
    cases = [draw((B, T, 20, 2, 8, 5, 3), torch.float32, device, fused=fused)[:-1] for B, T in sizes]
    if fused:
        assert_compiles_whole_without_recompiling(lambda *x: ops.span_conv(*x, impl=impl), cases)
    else:
        cases = [[t for t in case if t is not None] for case in cases]
        assert_compiles_whole_without_recompiling(lambda *x: ops.span_conv_logits(*x, impl=impl), cases)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(30):
        shape = (rng.randint(1, 4), rng.randint(1, 60), rng.randint(1, 150), rng.randint(1, 5), rng.randint(1, 80))
        shape = (*shape, rng.randint(1, 14), rng.randint(1, 12))
        dtype, fused = rng.choice(DTYPES), rng.random() < 0.6
        tensors = draw(shape, dtype, device, seed=rng.randrange(2**31), fused=fused)
        lengths = rng.choice([None, int32([rng.randint(0, shape[1]) for _ in range(shape[0])], device)])
        check(tensors, impl, f"seed {seed}: {shape} {dtype} fused {fused} lengths {lengths}", lengths=lengths)


def _bad_calls():
    good = dict(zip(NAMES, draw((2, 5, 6, 3, 4, 7, 9), torch.float32), strict=False))
    x, query, values = good["x"], good["query"], good["values"]
    for name in ("x", "query", "values", "kernel_weight"):
        yield f"{name} not a tensor", {**good, name: good[name].tolist()}, f"{name} must be a tensor"
        yield f"{name} integers", {**good, name: good[name].long()}, f"{name} must be float"
        yield f"{name} dtype", {**good, name: good[name].double()}, f"{name} is .* one dtype"
        yield f"{name} rank", {**good, name: good[name][0]}, f"{name}|without cu_seqlens"
        strided = good[name].mT.contiguous().mT
        yield f"{name} last dimension", {**good, name: strided}, f"last dimension of {name} must be contiguous"
    yield "query tokens", {**good, "query": query[:, :4]}, "query must be x's tokens"
    yield "no heads", {**good, "query": query[:, :, :0]}, "at least one head"
    yield "values heads", {**good, "values": values[:, :, :2]}, "values must be query's shape"
    yield "depthwise channels", {**good, "depthwise_weight": good["depthwise_weight"][:5]}, "depthwise_weight must be"
    yield "no span", {**good, "depthwise_weight": good["depthwise_weight"][:, :0]}, "S ≥ 1"
    yield "pointwise columns", {**good, "pointwise_weight": good["pointwise_weight"][:, :5]}, "pointwise_weight must be"
    yield "pointwise rows", {**good, "pointwise_weight": good["pointwise_weight"][:11]}, "pointwise_weight must be"
    yield "kernel rows", {**good, "kernel_weight": good["kernel_weight"][:20]}, "H·K rows"
    yield "no taps", {**good, "kernel_weight": good["kernel_weight"][:0]}, "K ≥ 1"
    yield "kernel columns", {**good, "kernel_weight": good["kernel_weight"][:, :11]}, "kernel_weight must be"
    yield "pointwise bias", {**good, "pointwise_bias": good["pointwise_bias"][:5]}, "pointwise_bias must be"
    yield "kernel bias", {**good, "kernel_bias": good["kernel_bias"][:5]}, "kernel_bias must be"
    yield "device", {**good, "kernel_weight": good["kernel_weight"].to("meta")}, "one device"
    both = {"lengths": int32([5, 5]), "cu_seqlens": int32([0, 5])}
    yield "both forms", {**good, **both}, "not both"
    yield "lengths past T", {**good, "lengths": int32([5, 6])}, "lengths must lie in"
    yield "lengths negative", {**good, "lengths": int32([5, -1])}, "lengths must lie in"
    yield "lengths count", {**good, "lengths": int32([5, 5, 5])}, r"lengths must be \[B\]"
    yield "packed rank", {**good, "cu_seqlens": int32([0, 5])}, "with cu_seqlens"
    packed = {**good, "x": x[0], "query": query[0], "values": values[0]}
    yield "cu_seqlens short", {**packed, "cu_seqlens": int32([0, 4])}, "cu_seqlens must"
    yield "cu_seqlens decreasing", {**packed, "cu_seqlens": int32([0, 4, 3, 5])}, "cu_seqlens must"


@pytest.mark.parametrize("impl", implementations_on_cpu("span_conv", KERNELS))
@pytest.mark.parametrize("arguments, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.span_conv(**arguments, impl=impl)
    without = {name: value for name, value in arguments.items() if name != "values"}
    if "values" not in message:
        with pytest.raises((ValueError, TypeError), match=message):
            ops.span_conv_logits(**without, impl=impl)


def test_composition_takes_no_detour_through_other_implementations():
    """What is asked for is what runs, in the parts too."""
    *inputs, _ = draw((2, 9, 20, 2, 8, 5, 3), torch.float32)
    with pytest.raises(RuntimeError, match="cannot run"):
        call(*inputs, impl="cuda")
