"""mixed_context on every implementation that can run here."""

import itertools

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.mixed_context import (
    LAYERS,
    mixed_context_backward_op,
    mixed_context_op,
    mixed_context_reference,
)
from tests.ops.bits import assert_same_bits
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import compiled_targets, implementations_on_cpu, targets

TARGETS = targets("mixed_context", kernels=("cpu",))
COMPILED = compiled_targets("mixed_context", kernels=("cpu",))
NAMES = ("x", "depthwise", *(f"{name} weight" for name in LAYERS), *(f"{name} bias" for name in LAYERS))
# B, T, C, H, D, K, S: a published width, odd ones, T < S, T = 1, S = 1, K = 1, even K and S
SHAPES = [
    (2, 35, 64, 2, 16, 9, 9),
    (1, 40, 256, 2, 64, 9, 9),
    (3, 5, 33, 4, 6, 3, 8),
    (2, 1, 8, 1, 4, 5, 1),
    (1, 90, 7, 5, 3, 12, 2),
    (2, 12, 20, 1, 7, 1, 5),
]


def draw(shape, dtype=torch.float32, seed=0):
    """x, depthwise weight, six weights, six biases, then an output gradient."""
    batch, tokens, channels, heads, width, taps, span = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*size, std=1.0):
        return (torch.randn(size, generator=generator, dtype=torch.float64) * std).to(dtype)

    inner = heads * width
    shapes = (*((inner, channels),) * 5, (heads * taps, inner))
    weights = [normal(*size, std=size[1] ** -0.5) for size in shapes]
    biases = [normal(size[0], std=0.5) for size in shapes]
    x = normal(batch, tokens, channels)
    return [x, normal(channels, span, std=span**-0.5), *weights, *biases, normal(batch, tokens, 2 * inner)]


def call(x, depthwise, *layers, heads, **options):
    return ops.mixed_context(x, depthwise, list(layers[:6]), list(layers[6:]), heads, **options)


def run(tensors, **options):
    """Output and gradients."""
    *inputs, grad = tensors
    return with_gradients(lambda *x: call(*x, **options), inputs, grad)


def exact(tensors, heads, key_bias=None, cu_seqlens=None):
    """In fp64 by autograd of the reference."""
    key_bias = None if key_bias is None else key_bias.double()

    def reference(x, depthwise, *layers):
        return mixed_context_reference(x, depthwise, layers[:6], layers[6:], heads, key_bias, cu_seqlens)

    *inputs, grad = tensors
    return with_gradients(reference, inputs, grad, torch.float64)


def eager(tensors, heads, key_bias=None):
    """What plain torch operations of the same dtype give, on padded input: the measure of an acceptable error."""

    def layers(x, depthwise, *layers):
        pairs = dict(zip(LAYERS, zip(layers[:6], layers[6:], strict=True), strict=True))
        linear = torch.nn.functional.linear
        query, key, value, conv = (linear(x, *pairs[name]).unflatten(-1, (heads, -1)) for name in LAYERS[:4])
        span = (windows(x, depthwise.shape[1]) * depthwise).sum(-1)
        logits = linear(linear(span, *pairs["pointwise"]) * query.flatten(-2), *pairs["kernel"])
        kernels = logits.unflatten(-1, (heads, -1)).softmax(-1)
        convolved = (windows(conv, kernels.shape[-1]) * kernels[..., None, :]).sum(-1)
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
        if key_bias is not None:
            scores = scores + key_bias[:, None, None, :]
        attended = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)
        return torch.cat([attended.flatten(-2), convolved.flatten(-2)], -1)

    *inputs, grad = tensors
    return with_gradients(layers, inputs, grad)


def windows(x, taps):
    """[B, T, …] → [B, T, …, K], zeros outside."""
    left = (taps - 1) // 2
    return torch.nn.functional.pad(x, (0, 0) * (x.dim() - 2) + (left, taps - 1 - left)).unfold(1, taps, 1)


def masked(x, seed=1):
    """A bias that leaves out some keys of each sequence, but never the first two, and shifts the others.

    A single key would take all the attention: the gradients of its scores are nothing, and what they come out as no
    measure of an error.
    """
    generator = torch.Generator().manual_seed(seed)
    bias = torch.randn(x.shape[:2], generator=generator).to(x.dtype)
    bias[:, 2:][torch.rand(bias[:, 2:].shape, generator=generator) < 0.3] = -torch.inf
    return bias


def check(tensors, heads, impl, what, key_bias=None):
    got, want = run(tensors, heads=heads, key_bias=key_bias, impl=impl), exact(tensors, heads, key_bias)
    names = ["out", *(f"d_{name}" for name, tensor in zip(NAMES, tensors, strict=False) if tensor is not None)]
    of = dict(zip(names, want, strict=True))
    # one number added to all scores of a query changes nothing: what this gradient comes out as is rounded off terms as
    # large as those of the weight's
    if "d_key bias" in of:
        of["d_key bias"] = of["d_key weight"]
    same_dtype = eager(tensors, heads, key_bias)
    assert_within_budget(names, got, want, same_dtype, what, roundings=16, of=list(of.values()))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_against_fp64(device, impl, dtype, bias):
    for shape in SHAPES:
        if shape[1] == 1:  # gradients of scores are nothing then: test_fp64_is_the_formula_in_plain_torch
            continue
        tensors = draw(shape, dtype)
        check(tensors, shape[3], impl, str(shape), masked(tensors[0]) if bias else None)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_fp64_is_the_formula_in_plain_torch(device, impl):
    for shape in SHAPES:
        tensors = draw(shape, torch.float64)
        got, want = run(tensors, heads=shape[3], impl=impl), eager(tensors, shape[3])
        for name, g, w in zip(("out", *NAMES), got, want, strict=True):
            torch.testing.assert_close(g, w, atol=1e-10, rtol=1e-9, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("device, impl", TARGETS)
def test_without_biases(device, impl):
    for without in (slice(8, 14), slice(9, 10), slice(12, 13), slice(13, 14)):
        tensors = draw((2, 9, 20, 2, 8, 5, 3))
        tensors[without] = [None] * len(tensors[without])
        check(tensors, 2, impl, f"without {NAMES[without]}")


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("form", ["plain", "bias", "packed", "dropout"])
def test_gradcheck(device, impl, form):
    *inputs, _ = draw((2, 5, 3, 2, 2, 3, 3), torch.float64)
    options = {"heads": 2, "impl": impl}
    if form == "bias":
        options["key_bias"] = masked(inputs[0])
    if form == "packed":
        inputs[0] = inputs[0].flatten(0, 1)
        options["cu_seqlens"] = torch.tensor([0, 3, 3, 10], dtype=torch.int32)
    if form == "dropout":
        options["dropout_p"] = 0.4

    def function(*given):
        torch.manual_seed(0)
        return call(*given, **options)

    assert torch.autograd.gradcheck(function, leaves(*inputs))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_dropout_is_that_of_mixed_attention(device, impl):
    *inputs, grad = draw((2, 21, 16, 2, 8, 3, 3), torch.float64)
    torch.manual_seed(0)
    got = run((*inputs, grad), heads=2, dropout_p=0.4, impl=impl)

    def one_by_one(x, depthwise, *layers):
        linear = torch.nn.functional.linear
        projected = [linear(x, *pair).unflatten(-1, (2, 8)) for pair in zip(layers[:4], layers[6:10], strict=True)]
        pointwise, kernel = zip(layers[4:6], layers[10:], strict=True)
        logits = ops.span_conv_logits(x, projected[0], depthwise, *pointwise, *kernel)
        return ops.mixed_attention(*projected, logits, dropout_p=0.4, impl=impl)

    torch.manual_seed(0)
    for g, w in zip(got, with_gradients(one_by_one, inputs, grad), strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("form", ["plain", "bias", "packed"])
def test_opcheck(device, impl, form):
    x, depthwise, *layers, grad = draw((2, 7, 12, 2, 8, 3, 5))
    x, bias, cu_seqlens = sliced(x), None, None
    if form == "bias":
        bias = masked(x)
    if form == "packed":
        x, grad, cu_seqlens = x[0], grad[0], torch.tensor([0, 4, 7], dtype=torch.int32)
    options = (bias, cu_seqlens, None, 0.0, 2)
    torch.library.opcheck(mixed_context_op.overload, (*leaves(x, depthwise, *layers), *options, impl))
    kept = mixed_context_op(x, depthwise, *layers, *options, impl)
    for wanted in ([True] * 8, [False, True] * 4, [True, False] * 4):
        inputs = (expanded_ones(grad), x, depthwise, *layers[:6], *kept, *options, wanted, impl)
        torch.library.opcheck(mixed_context_backward_op.overload, inputs)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_only_wanted_gradients(device, impl):
    *inputs, grad = draw((2, 9, 20, 2, 8, 5, 3))
    out, *want = run((*inputs, grad), heads=2, impl=impl)
    count = len(inputs)
    cases = [[i == j for i in range(count)] for j in range(count)] + [[i != j for i in range(count)] for j in range(8)]
    for wanted in cases:
        given = [t.clone().requires_grad_(w) for t, w in zip(inputs, wanted, strict=True)]
        call(*given, heads=2, impl=impl).backward(grad)
        for tensor, w, gradient in zip(given, wanted, want, strict=True):
            if w:
                torch.testing.assert_close(tensor.grad, gradient)
            else:
                assert tensor.grad is None
    with torch.no_grad():
        torch.testing.assert_close(call(*inputs, heads=2, impl=impl), out)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_packed_is_the_loop_over_sequences(device, impl):
    counts = [5, 0, 1, 40, 17]
    x, *weights, grad = draw((1, sum(counts), 24, 2, 16, 9, 9))
    cu_seqlens = torch.tensor([0, *itertools.accumulate(counts)], dtype=torch.int32)
    got = run((x[0], *weights, grad[0]), heads=2, impl=impl, cu_seqlens=cu_seqlens)
    pieces = [
        run((x[:, start:stop], *weights, grad[:, start:stop]), heads=2, impl=impl)
        for start, stop in itertools.pairwise(cu_seqlens.tolist())
    ]
    for i, (g, parts) in enumerate(zip(got, zip(*pieces, strict=True), strict=True)):
        want = torch.cat([part[0] for part in parts]) if i < 2 else sum(parts)
        torch.testing.assert_close(g, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_neighbouring_sequences_reach_nothing(device, impl):
    x, *weights, grad = draw((1, 13, 12, 2, 8, 5, 5))
    options = {"heads": 2, "impl": impl, "cu_seqlens": torch.tensor([0, 4, 5, 13], dtype=torch.int32)}
    clean = run((x[0], *weights, grad[0]), **options)[:2]
    poisoned = x[0].index_fill(0, torch.tensor([4]), float("nan"))
    dirty = run((poisoned, *weights, grad[0]), **options)[:2]
    for a, b in zip(clean, dirty, strict=True):
        torch.testing.assert_close([b[:4], b[5:]], [a[:4], a[5:]])
        assert b[4:5].isnan().all()


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_rearranged_memory(device, impl, rearrange):
    *inputs, grad = draw((4, 30, 32, 2, 8, 9, 9))
    want = run((*inputs, grad), heads=2, impl=impl)
    vectors = inputs[8:]
    changed = (*map(rearrange, inputs[:8]), *vectors, rearrange(grad))
    for g, w in zip(run(changed, heads=2, impl=impl), want, strict=True):
        torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4)
    for other in (transposed(grad), expanded_ones(grad)):
        got, want = run((*inputs, other), heads=2, impl=impl), run((*inputs, other.contiguous()), heads=2, impl=impl)
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written_and_the_same_again(device, impl):
    tensors = draw((5, 60, 32, 2, 8, 9, 9))
    first = run(tensors, heads=2, impl=impl)
    with poisoned_memory():
        assert_same_bits(run(tensors, heads=2, impl=impl), first)


@pytest.mark.parametrize("impl", implementations_on_cpu("mixed_context", kernels=("cpu",)))
@pytest.mark.parametrize("batch, tokens", [(0, 5), (3, 0)])
def test_no_tokens(impl, batch, tokens):
    *inputs, grad = draw((batch, tokens, 16, 2, 4, 3, 3))
    for g, like in zip(run((*inputs, grad), heads=2, impl=impl), (grad, *inputs), strict=True):
        assert torch.equal(g, torch.zeros_like(like))


@pytest.mark.parametrize("impl", implementations_on_cpu("mixed_context", kernels=("cpu",)))
def test_no_channels(impl):
    x, depthwise, *layers = draw((2, 4, 16, 2, 4, 3, 3))
    tensors = [x[..., :0], depthwise[:0], *(weight[:, :0] for weight in layers[:5]), *layers[5:]]
    for g, w in zip(run(tensors, heads=2, impl=impl), exact(tensors, 2), strict=True):
        torch.testing.assert_close(g, w.float())


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    *inputs, grad = draw((2, 9, 20, 2, 8, 5, 3))
    inputs[3] = inputs[3].bfloat16()
    assert_casts_under_autocast(lambda *x: call(*x, heads=2, impl=impl), inputs, grad)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_compiles_whole_without_recompiling(device, impl):
    cases = [draw((batch, tokens, 20, 2, 8, 5, 3))[:-1] for batch, tokens in ((4, 9), (3, 17), (7, 6))]
    assert_compiles_whole_without_recompiling(lambda *x: call(*x, heads=2, impl=impl), cases)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, random = seeded()
    for _ in range(20):
        heads = random.randint(1, 4)
        sizes = (random.randint(1, 4), random.randint(2, 60), random.randint(1, 60), heads, random.randint(1, 40))
        shape = (*sizes, random.randint(1, 12), random.randint(1, 12))
        dtype = random.choice([torch.float32, torch.bfloat16])
        tensors = draw(shape, dtype, seed=random.randrange(2**31))
        bias = random.choice([None, masked(tensors[0])])
        check(tensors, heads, impl, f"seed {seed}: {shape} {dtype} bias {bias is not None}", bias)


def broken():
    x, depthwise, *layers, _ = draw((2, 6, 16, 2, 4, 3, 5))
    good = dict(x=x, depthwise=depthwise, weights=layers[:6], biases=layers[6:], heads=2)
    weights, biases = good["weights"], good["biases"]
    yield "six|weights and biases must be", {**good, "weights": weights[:5]}, {}
    yield "key's weight", {**good, "weights": [weights[0], weights[1][:-1], *weights[2:]]}, {}
    yield "kernel's bias", {**good, "biases": [*biases[:5], biases[5][:-1]]}, {}
    yield "depthwise_weight", {**good, "depthwise": depthwise[:-1]}, {}
    yield "taps at least 1", {**good, "depthwise": depthwise[:, :0]}, {}
    yield "heads", {**good, "heads": 3}, {}
    yield "dropout_p", good, {"dropout_p": 1.5}
    yield "key_bias", good, {"key_bias": torch.zeros(2, 5)}
    yield "without cu_seqlens", {**good, "x": x[0]}, {}
    packed = {**good, "x": x[0]}
    yield "padded form", packed, dict(key_bias=torch.zeros(1, 6), cu_seqlens=torch.tensor([0, 6], dtype=torch.int32))
    yield "int32", packed, {"cu_seqlens": torch.tensor([0, 6])}
    yield "float64", {**good, "depthwise": depthwise.double()}, {}
    yield "contiguous", {**good, "x": x.mT.contiguous().mT}, {}


@pytest.mark.parametrize("message, arguments, options", [*broken()])
def test_bad_input(message, arguments, options):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.mixed_context(*arguments.values(), **options)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("starts", [[0, 7], [1, 6], [0, 4, 3, 6], [0, -1, 6]])
def test_contents_of_cu_seqlens_are_checked(device, impl, starts):
    x, depthwise, *layers, _ = draw((1, 6, 16, 2, 4, 3, 3))
    with pytest.raises((ValueError, RuntimeError), match="cu_seqlens"):
        call(x[0], depthwise, *layers, heads=2, cu_seqlens=torch.tensor(starts, dtype=torch.int32), impl=impl)
