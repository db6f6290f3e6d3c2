"""attention_block on every implementation that can run here."""

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.attention_block import attention_block_op, attention_block_reference
from tests.ops.budget import assert_within_budget
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import misaligned, poisoned_memory, sliced, swapped
from tests.ops.sweep import seeded
from tests.ops.targets import compiled_targets, implementations_on_cpu, targets

TARGETS = targets("attention_block", kernels=("cpu",))
COMPILED = compiled_targets("attention_block", kernels=("cpu",))
# B, T, C, H, D
SHAPES = [(2, 35, 64, 4, 16), (1, 7, 32, 2, 8), (3, 100, 48, 3, 24), (5, 1, 8, 1, 4), (1, 200, 64, 2, 8)]


def draw(batch, tokens, channels, heads, width, dtype=torch.float32, seed=0):
    """x, four weights, four biases, the norm's weight and bias, and the number of heads."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size, std=1.0):
        return (torch.randn(size, generator=generator, dtype=torch.float64) * std).to(dtype)

    inner = heads * width
    shapes = (*((inner, channels),) * 3, (channels, inner))
    weights = [normal(*shape, std=shape[1] ** -0.5) for shape in shapes]
    biases = [normal(shape[0], std=0.5) for shape in shapes]
    return normal(batch, tokens, channels), weights, biases, normal(channels), normal(channels), heads


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
    x, weights, biases, norm_weight, norm_bias, heads = problem
    linear = torch.nn.functional.linear
    *projections, output = zip(weights, biases, strict=True)
    query, key, value = (linear(x, *layer).unflatten(-1, (heads, -1)) for layer in projections)
    scores = torch.einsum("bqhd,bkhd->bhqk", query, key) * query.shape[-1] ** -0.5
    if key_bias is not None:
        scores = scores + key_bias[:, None, None, :]
    attended = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value)
    out = linear(attended.flatten(-2), *output)
    return torch.nn.functional.layer_norm(x + out, norm_weight.shape, norm_weight, norm_bias, 1e-12)


def check(problem, impl, what, key_bias=None):
    out = ops.attention_block(*problem, key_bias=key_bias, impl=impl)
    assert out.is_contiguous() and out.dtype == problem[0].dtype
    want = attention_block_reference(*cast(problem, torch.float64), None if key_bias is None else key_bias.double())
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
        for bias in (None, masked(problem[0])):
            torch.testing.assert_close(
                attention_block_reference(*problem, bias), eager(problem, bias), atol=1e-9, rtol=1e-9
            )


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_run_on_the_reference(dtype):
    check(draw(2, 9, 16, 2, 4, dtype=dtype), None, str(dtype))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_more_sequences_than_the_caches_hold_at_once(device, impl):
    """Long enough for several batches of sequences, whose rows of the mask must go along."""
    problem = draw(7, 300, 384, 2, 128)
    check(problem, impl, "in batches", masked(problem[0]))
    x, *rest = problem
    starts = torch.arange(0, 2101, 300, dtype=torch.int32)
    packed = ops.attention_block(x.flatten(0, 1), *rest, cu_seqlens=starts, impl=impl)
    torch.testing.assert_close(packed.view(x.shape), ops.attention_block(*problem, impl=impl), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_a_mask_of_one_row_and_one_that_masks_all(device, impl):
    problem = draw(3, 20, 32, 2, 8)
    row = masked(problem[0])[:1]
    got = ops.attention_block(*problem, key_bias=row.expand(3, 20), impl=impl)
    assert torch.equal(got, ops.attention_block(*problem, key_bias=row.repeat(3, 1), impl=impl))
    nothing = torch.full((3, 20), -torch.inf)
    got = ops.attention_block(*problem, key_bias=nothing, impl=impl)
    x, _, biases, norm_weight, norm_bias, _ = problem
    want = torch.nn.functional.layer_norm(x + biases[3], (32,), norm_weight, norm_bias, 1e-12)
    torch.testing.assert_close(got, want, atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("starts", [[0, 40], [0, 3, 3, 25, 40], [0, 1, 2, 39, 40], [0, 0, 40, 40]])
def test_packed_is_a_loop_over_sequences(device, impl, starts):
    x, *rest = draw(1, 40, 32, 2, 8)
    cu_seqlens = torch.tensor(starts, dtype=torch.int32)
    packed = ops.attention_block(x[0], *rest, cu_seqlens=cu_seqlens, impl=impl)
    alone = [ops.attention_block(x[:, a:b], *rest, impl=impl)[0] for a, b in zip(starts, starts[1:], strict=False)]
    torch.testing.assert_close(packed, torch.cat(alone), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_what_one_sequence_holds_changes_no_other(device, impl):
    x, *rest = draw(1, 40, 32, 2, 8)
    cu_seqlens = torch.tensor([0, 15, 33, 40], dtype=torch.int32)
    broken = x[0].clone()
    broken[15:33] = torch.nan
    before, after = (ops.attention_block(x, *rest, cu_seqlens=cu_seqlens, impl=impl) for x in (x[0], broken))
    assert torch.equal(before[:15], after[:15]) and torch.equal(before[33:], after[33:])
    assert after[15:33].isnan().all()


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("rearrange", [swapped, sliced, misaligned])
def test_rearranged_memory(device, impl, rearrange):
    x, weights, biases, *rest = draw(4, 30, 32, 2, 8)
    changed = (rearrange(x), [sliced(weight) for weight in weights], biases, *rest)
    got = ops.attention_block(*changed, impl=impl)
    torch.testing.assert_close(got, ops.attention_block(x, weights, biases, *rest, impl=impl), atol=3e-6, rtol=3e-6)


@pytest.mark.parametrize("device, impl", COMPILED)
def test_tokens_that_are_one_token_in_memory(device, impl):
    x, *rest = draw(2, 9, 32, 2, 8)
    x = x[:, :1].expand(2, 9, 32)
    assert torch.equal(ops.attention_block(x, *rest, impl=impl), ops.attention_block(x.contiguous(), *rest, impl=impl))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_every_element_is_written_and_the_same_again(device, impl):
    problem = draw(5, 60, 32, 2, 8)
    first = ops.attention_block(*problem, impl=impl)
    with poisoned_memory():
        assert torch.equal(ops.attention_block(*problem, impl=impl), first)


@pytest.mark.parametrize("device, impl", COMPILED)
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_any_number_of_threads(device, impl, threads, batch):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        check(draw(batch, 50, 32, 2, 8), impl, f"{threads} threads")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    code = (
        "from bertkernels import ops\n"
        "from tests.ops.test_attention_block import check, draw, masked\n"
        "for shape in ((2, 35, 64, 4, 16), (3, 70, 20, 2, 7)):\n"
        "  problem = draw(*shape)\n"
        "  check(problem, 'cpu', str(shape), masked(problem[0]))\n"
    )
    run_with_instruction_set("attention_block", isa, code)


@pytest.mark.parametrize("impl", implementations_on_cpu("attention_block", kernels=("cpu",)))
@pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
def test_empty(impl, shape):
    problem = draw(*shape, 16, 2, 4)
    assert ops.attention_block(*problem, impl=impl).shape == (*shape, 16)


def test_opcheck_and_compilation():
    x, *rest = draw(2, 11, 16, 2, 4)
    torch.library.opcheck(attention_block_op.overload, (x, *rest, None, None, 1e-12, ""))
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: ops.attention_block(x, *rest), fullgraph=True, dynamic=True, backend="aot_eager")
    with torch.no_grad():
        for i, shape in enumerate(((7, 11), (5, 13), (9, 30))):
            x = torch.randn(*shape, 16)
            with torch.compiler.set_stance("fail_on_recompile" if i else "default"):
                torch.testing.assert_close(compiled(x), ops.attention_block(x, *rest))


@pytest.mark.parametrize("device, impl", COMPILED)
def test_random_sweep(device, impl):
    seed, random = seeded()
    for _ in range(15):
        heads, width = random.randint(1, 4), random.randint(2, 20)
        # few channels may have a spread of almost nothing
        shape = (random.randint(1, 6), random.randint(1, 90), random.randint(12, 40), heads, width)
        problem = draw(*shape, seed=random.randint(0, 999))
        check(problem, impl, f"seed {seed}: {shape}", random.choice([None, masked(problem[0])]))


def broken():
    x, weights, biases, weight, bias, heads = draw(2, 6, 16, 2, 4)
    good = dict(x=x, weights=weights, biases=biases, weight=weight, bias=bias, heads=heads)
    yield "query, key, value, output", {**good, "weights": weights[:3]}, {}
    yield "query's weight", {**good, "weights": [weights[0][0], *weights[1:]]}, {}
    yield "key's weight", {**good, "weights": [weights[0], weights[1][:-1], *weights[2:]]}, {}
    yield "value's weight must be float64", {**good, "weights": [*weights[:2], weights[2].int(), weights[3]]}, {}
    yield "output's weight", {**good, "weights": [*weights[:3], weights[3].mT]}, {}
    yield "output's bias", {**good, "biases": [*biases[:3], biases[3][:-1]]}, {}
    yield "value's bias must be a tensor", {**good, "biases": [*biases[:2], None, biases[3]]}, {}
    yield "heads", {**good, "heads": 3}, {}
    yield "heads", {**good, "heads": 0}, {}
    yield "norm_weight", {**good, "weight": weight[:-1]}, {}
    yield "key_bias", good, {"key_bias": torch.zeros(2, 5)}
    yield "without cu_seqlens", {**good, "x": x[0]}, {}
    yield (
        "padded form",
        {**good, "x": x[0]},
        dict(key_bias=torch.zeros(1, 6), cu_seqlens=torch.tensor([0, 6], dtype=torch.int32)),
    )
    yield "int32", {**good, "x": x[0]}, {"cu_seqlens": torch.tensor([0, 6])}
    yield "query's weight is torch.float32, x is torch.float64", {**good, "x": x.double()}, {}


@pytest.mark.parametrize("message, arguments, options", [*broken()])
def test_bad_input(message, arguments, options):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.attention_block(*arguments.values(), **options)


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("starts", [[0, 7], [1, 6], [0, 4, 3, 6], [0, -1, 6]])
def test_contents_of_cu_seqlens_are_checked(device, impl, starts):
    x, *rest = draw(1, 6, 16, 2, 4)
    with pytest.raises((ValueError, RuntimeError), match="cu_seqlens"):
        ops.attention_block(x[0], *rest, cu_seqlens=torch.tensor(starts, dtype=torch.int32), impl=impl)


def test_gradients_are_refused():
    problem = draw(2, 6, 16, 2, 4)
    problem[1][3].requires_grad_()
    with pytest.raises(RuntimeError, match="no gradients"):
        ops.attention_block(*problem)
    with torch.no_grad():
        ops.attention_block(*problem)
