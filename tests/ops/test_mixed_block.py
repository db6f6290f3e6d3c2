"""mixed_block on every implementation that can run here."""

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.mixed_block import LAYERS, mixed_block_op, mixed_block_reference
from tests.ops.budget import assert_within_budget
from tests.ops.memory import misaligned, poisoned_memory, sliced, swapped
from tests.ops.sweep import seeded
from tests.ops.targets import compiled_targets, implementations_on_cpu, targets

TARGETS = targets("mixed_block", kernels=("cpu",))
COMPILED = compiled_targets("mixed_block", kernels=("cpu",))
# B, T, C, H, D, K
SHAPES = [(2, 35, 64, 2, 16, 9), (1, 7, 32, 2, 8, 5), (3, 100, 48, 4, 6, 4), (5, 1, 8, 1, 4, 9), (1, 200, 16, 2, 8, 1)]


def draw(batch, tokens, channels, heads, width, taps, dtype=torch.float32, seed=0):
    """x, depthwise weight, seven weights, seven biases, the norm's weight and bias, and the number of heads."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size, std=1.0):
        return (torch.randn(size, generator=generator, dtype=torch.float64) * std).to(dtype)

    inner = heads * width
    shapes = (*((inner, channels),) * 5, (heads * taps, inner), (channels, 2 * inner))
    weights = [normal(*shape, std=shape[1] ** -0.5) for shape in shapes]
    biases = [normal(shape[0], std=0.5) for shape in shapes]
    norm = normal(channels), normal(channels)
    return normal(batch, tokens, channels), normal(channels, taps, std=taps**-0.5), weights, biases, *norm, heads


def cast(problem, dtype):
    return [
        [x.to(dtype) for x in item] if isinstance(item, list) else item if isinstance(item, int) else item.to(dtype)
        for item in problem
    ]


def masked(x, seed=1):
    """A bias that leaves out some keys of each sequence, but never all, and shifts the others."""
    generator = torch.Generator().manual_seed(seed)
    bias = torch.randn(x.shape[:2], generator=generator).to(x.dtype)
    bias[:, 1:][torch.rand(bias[:, 1:].shape, generator=generator) < 0.3] = -torch.inf
    return bias


def eager(problem, key_bias=None):
    """What plain torch operations of the same dtype give, on padded input."""
    x, depthwise, weights, biases, norm_weight, norm_bias, heads = problem
    layer = dict(zip(LAYERS, zip(weights, biases, strict=True), strict=True))
    linear = torch.nn.functional.linear
    query, key, value, conv = (
        linear(x, *layer[name]).unflatten(-1, (heads, -1)) for name in ("query", "key", "value", "conv_value")
    )
    taps, tokens = depthwise.shape[1], x.shape[1]
    left = (taps - 1) // 2
    padded = torch.nn.functional.pad(x.mT, (left, taps - 1 - left))
    span = torch.nn.functional.conv1d(padded, depthwise[:, None], groups=x.shape[-1]).mT
    logits = linear(linear(span, *layer["pointwise"]) * query.flatten(-2), *layer["kernel"])
    kernels = logits.unflatten(-1, (heads, taps)).softmax(-1)
    windows = torch.nn.functional.pad(conv, (0, 0, 0, 0, left, taps - 1 - left)).unfold(1, taps, 1)  # [B, T, H, D, K]
    convolved = torch.einsum("bthdk,bthk->bthd", windows[:, :tokens], kernels)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    if key_bias is not None:
        scores = scores + key_bias[:, None, None, :]
    attended = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)
    context = torch.cat([attended.flatten(-2), convolved.flatten(-2)], -1)
    out = linear(context, *layer["output"])
    return torch.nn.functional.layer_norm(x + out, norm_weight.shape, norm_weight, norm_bias, 1e-12)


def check(problem, impl, what, key_bias=None):
    out = ops.mixed_block(*problem, key_bias=key_bias, impl=impl)
    assert out.is_contiguous() and out.dtype == problem[0].dtype
    want = mixed_block_reference(*cast(problem, torch.float64), None if key_bias is None else key_bias.double())
    assert_within_budget(["out"], [out], [want], [eager(problem, key_bias)], what, roundings=16)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("bias", [False, True])
def test_against_fp64(device, impl, bias):
    for shape in SHAPES:
        problem = draw(*shape)
        check(problem, impl, str(shape), masked(problem[0]) if bias else None)


def test_the_reference_is_the_formula_in_plain_torch():
    for shape in SHAPES:
        problem = cast(draw(*shape), torch.float64)
        torch.testing.assert_close(mixed_block_reference(*problem), eager(problem), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_run_on_the_reference(dtype):
    check(draw(2, 9, 16, 2, 4, 5, dtype=dtype), None, str(dtype))


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("starts", [[0, 40], [0, 3, 3, 25, 40], [0, 1, 2, 39, 40], [0, 0, 40, 40]])
def test_packed_is_a_loop_over_sequences(device, impl, starts):
    x, *rest = draw(1, 40, 32, 2, 8, 9)
    cu_seqlens = torch.tensor(starts, dtype=torch.int32)
    packed = ops.mixed_block(x[0], *rest, cu_seqlens=cu_seqlens, impl=impl)
    alone = [ops.mixed_block(x[:, a:b], *rest, impl=impl)[0] for a, b in zip(starts, starts[1:], strict=False)]
    torch.testing.assert_close(packed, torch.cat(alone), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_rearranged_memory(device, impl, rearrange):
    x, depthwise, weights, biases, *rest = draw(4, 30, 32, 2, 8, 9)
    changed = (rearrange(x), sliced(depthwise), [sliced(weight) for weight in weights], biases, *rest)
    got = ops.mixed_block(*changed, impl=impl)
    torch.testing.assert_close(
        got, ops.mixed_block(x, depthwise, weights, biases, *rest, impl=impl), atol=3e-6, rtol=3e-6
    )


@pytest.mark.parametrize("device, impl", COMPILED)
def test_tokens_that_are_one_token_in_memory(device, impl):
    x, *rest = draw(2, 9, 32, 2, 8, 3)
    x = x[:, :1].expand(2, 9, 32)
    assert torch.equal(ops.mixed_block(x, *rest, impl=impl), ops.mixed_block(x.contiguous(), *rest, impl=impl))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written_and_the_same_again(device, impl):
    problem = draw(5, 60, 32, 2, 8, 9)
    first = ops.mixed_block(*problem, impl=impl)
    with poisoned_memory():
        assert torch.equal(ops.mixed_block(*problem, impl=impl), first)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_any_number_of_threads(device, impl, threads, batch):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(draw(batch, 50, 32, 2, 8, 9), impl, f"{threads} threads")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("impl", implementations_on_cpu("mixed_block", kernels=("cpu",)))
@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty(impl, shape):
    problem = draw(*shape, 16, 2, 4, 3)
    assert ops.mixed_block(*problem, impl=impl).shape == (*shape, 16)


def test_opcheck_and_compilation():
    x, *rest = draw(2, 11, 16, 2, 4, 3)
    torch.library.opcheck(mixed_block_op.overload, (x, *rest, None, None, 1e-12, ""))
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: ops.mixed_block(x, *rest), fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for i, shape in enumerate(((7, 11), (5, 13), (9, 30))):
            x = torch.randn(*shape, 16)
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                torch.testing.assert_close(compiled(x), ops.mixed_block(x, *rest))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    _, random = seeded()
    for _ in range(15):
        heads, width = random.randint(1, 4), random.randint(2, 20)
        shape = (
            random.randint(1, 6),
            random.randint(1, 90),
            random.randint(12, 40),
            heads,
            width,
        )  # few channels may have a spread of almost nothing
        problem = draw(*shape, random.randint(1, 11), seed=random.randint(0, 999))
        check(problem, impl, str(shape), random.choice([None, masked(problem[0])]))


def broken():
    x, depthwise, weights, biases, weight, bias, heads = draw(2, 6, 16, 2, 4, 3)
    good = dict(x=x, depthwise=depthwise, weights=weights, biases=biases, weight=weight, bias=bias, heads=heads)
    yield "seven|weights and biases must be", {**good, "weights": weights[:6]}, {}
    yield "key's weight", {**good, "weights": [weights[0], weights[1][:-1], *weights[2:]]}, {}
    yield "output's bias", {**good, "biases": [*biases[:6], biases[6][:-1]]}, {}
    yield "depthwise_weight", {**good, "depthwise": depthwise[:-1]}, {}
    yield "heads", {**good, "heads": 3}, {}
    yield "norm_weight", {**good, "weight": weight[:-1]}, {}
    yield "key_bias", good, {"key_bias": torch.zeros(2, 5)}
    yield "without cu_seqlens", {**good, "x": x[0]}, {}
    yield (
        "padded form",
        {**good, "x": x[0]},
        dict(key_bias=torch.zeros(1, 6), cu_seqlens=torch.tensor([0, 6], dtype=torch.int32)),
    )
    yield "int32", {**good, "x": x[0]}, {"cu_seqlens": torch.tensor([0, 6])}
    yield "float64", {**good, "depthwise": depthwise.double()}, {}


@pytest.mark.parametrize("message, arguments, options", [*broken()])
def test_bad_input(message, arguments, options):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.mixed_block(*arguments.values(), **options)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("starts", [[0, 7], [1, 6], [0, 4, 3, 6], [0, -1, 6]])
def test_contents_of_cu_seqlens_are_checked(device, impl, starts):
    x, *rest = draw(1, 6, 16, 2, 4, 3)
    with pytest.raises((ValueError, RuntimeError), match="cu_seqlens"):
        ops.mixed_block(x[0], *rest, cu_seqlens=torch.tensor(starts, dtype=torch.int32), impl=impl)


def test_gradients_are_refused():
    problem = draw(2, 6, 16, 2, 4, 3)
    problem[2][3].requires_grad_()
    with pytest.raises(RuntimeError, match="no gradients"):
        ops.mixed_block(*problem)
    with torch.no_grad():
        ops.mixed_block(*problem)
