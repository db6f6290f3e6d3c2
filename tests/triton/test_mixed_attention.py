"""The Triton kernels of mixed_attention, interpreted: against fp64, on awkward memory, on bad numbers, with dropout."""

import itertools
import mmap

import pytest
import torch

from bertkernels import ops
from bertkernels.ops.attention import dropout_factors
from bertkernels.ops.mixed_attention import mixed_attention_backward_op, mixed_attention_op
from tests.ops.attention_errors import int32, offsets
from tests.ops.bits import assert_same_bits
from tests.ops.gradients import leaves
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES
from tests.ops.test_mixed_attention import check, draw, halves, run, run_op

NAN = float("nan")


def check_packed(tensors, counts, what):
    got = run(*tensors, impl="triton", cu_seqlens=offsets(counts))
    for start, stop in itertools.pairwise(offsets(counts).tolist()):
        if start < stop:
            alone = [x[None, start:stop] for x in tensors]
            check([x[None, start:stop] for x in got], alone, f"{what}, tokens {start}..{stop}")


@pytest.mark.parametrize(  # B, T, H, D, N, K
    "shape, dtype, options",
    [
        ((2, 40, 1, 48, 1, 9), torch.float32, {"lengths": int32([40, 11])}),
        ((1, 70, 1, 64, 1, 9), torch.bfloat16, {}),
        ((1, 37, 2, 20, 1, 4), torch.float16, {"key_bias": torch.linspace(-2, 3, 37)[None]}),
        ((1, 33, 1, 80, 2, 5), torch.float32, {}),
        ((2, 6, 2, 7, 1, 3), torch.float64, {"key_bias": torch.linspace(-2, 3, 12).view(2, 6), "scale": -0.7}),
        ((1, 21, 1, 16, 1, 12), torch.float32, {"lengths": int32([17])}),  # taps in several rounds
        ((3, 1, 1, 32, 1, 9), torch.bfloat16, {"lengths": int32([1, 0, 1])}),
        ((1, 5, 1, 1, 2, 1), torch.float32, {"scale": 0.0}),
    ],
    ids=str,
)
def test_against_fp64(shape, dtype, options):
    tensors = draw(shape, dtype)
    bias = options.get("key_bias")
    if bias is not None:
        options = {**options, "key_bias": bias.to(dtype)}
        bias = options["key_bias"][:, None, None]
    rest = {name: value for name, value in options.items() if name != "key_bias"}
    with poisoned_memory():
        got = run(*tensors, impl="triton", attention_mask=bias, **rest)
    check(got, tensors, f"{shape}", **options)


@pytest.mark.parametrize("dtype, counts", [(torch.float32, [5, 0, 1, 40]), (torch.bfloat16, [0, 3, 70])], ids=str)
def test_packed_against_fp64(dtype, counts):
    check_packed([x[0] for x in draw((1, sum(counts), 1, 16, 1, 9), dtype)], counts, f"{counts}")


def test_random_sweep():
    seed, rng = seeded()
    for _ in range(5):
        shape = [rng.randint(1, most) for most in (2, 40, 2, 40, 2, 11)]
        B, T = shape[:2]
        dtype = rng.choice(DTYPES)
        tensors = draw(shape, dtype, seed=rng.randrange(2**31))
        options = dict(
            lengths=rng.choice([None, int32([rng.randint(1, T) for _ in range(B)])]),
            key_bias=rng.choice([None, torch.randn(B, T).to(dtype)]),
            seed=rng.choice([None, torch.tensor([rng.randrange(2**63)])]),
        )
        options["dropout_p"] = 0.0 if options["seed"] is None else 0.2
        what = f"BERTKERNELS_SEED={seed}: {shape} {dtype} {options}"
        check(run_op(*tensors, impl="triton", **options), tensors, what, **options)


@pytest.mark.parametrize("rearrange", [swapped, lambda x: swapped(x, 1), sliced, misaligned])
def test_memory_layouts_change_nothing(rearrange):
    *inputs, grad = draw((2, 6, 3, 16, 2, 3), torch.float32)
    want = run(*inputs, grad, impl="triton")
    assert_same_bits(run(*map(rearrange, inputs), rearrange(grad), impl="triton"), want)


def test_expanded_inputs_and_gradients():
    *inputs, grad = draw((2, 6, 2, 8, 2, 3), torch.float32)
    expanded = [x[:1, :, :1].expand(2, -1, 2, -1) for x in inputs]
    dense = [x.contiguous() for x in expanded]
    ones = expanded_ones(grad)
    assert_same_bits(run(*expanded, ones, impl="triton"), run(*dense, ones.contiguous(), impl="triton"))
    assert_same_bits(run(*inputs, transposed(grad), impl="triton"), run(*inputs, grad, impl="triton"))


def test_bias_and_sequence_bounds_with_gaps():
    *inputs, grad = draw((2, 6, 1, 8, 1, 3), torch.float32)
    bias = torch.randn(2, 6)
    want = run_op(*inputs, grad, impl="triton", key_bias=bias, lengths=int32([4, 6]))
    wide = torch.stack([bias.T, bias.T], -1)[..., 0].T  # neither dimension has stride 1
    gaps = int32([4, 99, 6, 99]).view(2, 2)[:, 0]
    assert_same_bits(run_op(*inputs, grad, impl="triton", key_bias=wide, lengths=gaps), want)
    one = bias[:1].expand(2, 6)
    want = run_op(*inputs, grad, impl="triton", key_bias=one.contiguous())
    assert_same_bits(run_op(*inputs, grad, impl="triton", key_bias=one), want)


def test_queries_that_may_attend_nothing():
    tensors = draw((3, 35, 1, 8, 1, 3), torch.float32)
    bias = torch.zeros(3, 35)
    bias[0] = -torch.inf
    bias[1, :33] = -torch.inf  # the first tile of keys has none that may be attended
    out, *d_attention = run_op(*tensors, impl="triton", key_bias=bias)[:4]
    attended, _ = halves(tensors[0], out)
    assert not attended[0].any() and not any(x[0].any() for x in d_attention)
    assert not any(x[1, :33].any() for x in d_attention[1:])
    rest = [x[1:] for x in tensors]
    check(run_op(*rest, impl="triton", key_bias=bias[1:]), rest, "keys without those of -inf", key_bias=bias[1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_huge_biases(dtype):
    """Beside the least number of a dtype everywhere, scores count for nothing and what is attended is the mean."""
    tensors = draw((2, 9, 1, 8, 1, 3), dtype)
    bias = torch.full((2, 9), torch.finfo(dtype).min, dtype=dtype)
    bias[1, 4:] = 0
    check(run_op(*tensors, impl="triton", key_bias=bias), tensors, "huge biases", key_bias=bias)


def test_padding_reaches_nothing():
    tensors = draw((3, 37, 1, 8, 1, 5), torch.float32)
    lengths = int32([33, 7, 0])
    past = torch.arange(37) >= lengths[:, None]  # [B, T]
    seed, bias = torch.tensor([11]), torch.randn(3, 37)

    def filled(value):
        poisoned = [x.masked_fill(past[(...,) + (None,) * (x.dim() - 2)], value) for x in (*tensors, bias)]
        options = dict(key_bias=poisoned.pop(), lengths=lengths, seed=seed, dropout_p=0.1)
        return run_op(*poisoned, impl="triton", **options)

    clean = filled(0)
    assert_same_bits(filled(NAN), clean)
    for x in clean:
        assert not x[past].any()


def test_neighbouring_sequences_reach_nothing():
    tensors = [x[0] for x in draw((1, 43, 1, 4, 1, 5), torch.float32)]
    cu_seqlens = offsets([4, 1, 38])
    clean = run(*tensors, impl="triton", cu_seqlens=cu_seqlens)
    for x in tensors:
        x[4:5] = NAN
    dirty = run(*tensors, impl="triton", cu_seqlens=cu_seqlens)
    for a, b in zip(clean, dirty, strict=True):
        assert torch.equal(a[:4], b[:4]) and torch.equal(a[5:], b[5:])
        assert b[4:5].isnan().all()


def test_packed_equals_single_sequences():
    counts = [7, 1, 0, 36]
    tensors = [x[0] for x in draw((1, sum(counts), 1, 16, 1, 9), torch.float32)]
    cu_seqlens = offsets(counts)
    packed = run(*tensors, impl="triton", cu_seqlens=cu_seqlens)
    for start, stop in itertools.pairwise(cu_seqlens.tolist()):
        if start < stop:
            alone = run(*(x[None, start:stop] for x in tensors), impl="triton")
            assert_same_bits([x[start:stop] for x in packed], [x[0] for x in alone])


def test_more_sequences_than_are_counted_at_once():
    """More than 512 of them, most empty."""
    counts = [0] * 300 + [3] + [0] * 250 + [2] + [0] * 20
    tensors = [x[0] for x in draw((1, 5, 1, 4, 1, 3), torch.float32)]
    packed = run(*tensors, impl="triton", cu_seqlens=offsets(counts))
    assert_same_bits(run(*tensors, impl="triton", cu_seqlens=offsets([3, 2])), packed)


def test_runs_are_bitwise_alike():
    tensors = draw((1, 37, 1, 16, 1, 9), torch.float32)
    options = dict(impl="triton", seed=torch.tensor([5]), dropout_p=0.1)
    assert_same_bits(run_op(*tensors, **options), run_op(*tensors, **options))


# -- dropout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_dropout_against_fp64(dtype):
    tensors = draw((2, 40, 2, 16, 1, 3), dtype)
    options = dict(lengths=int32([40, 9]), seed=torch.tensor([2**62 + 12345]), dropout_p=0.3)
    check(run_op(*tensors, impl="triton", **options), tensors, "dropout", **options)


def test_dropout_of_packed_sequences():
    """The mask of each is that of its place among them."""
    tensors = draw((2, 34, 1, 8, 1, 3), torch.float32)
    counts, lengths = [34, 9], int32([34, 9])
    options = dict(impl="triton", seed=torch.tensor([8]), dropout_p=0.4)
    padded = run_op(*tensors, lengths=lengths, **options)
    real = torch.arange(34) < lengths[:, None]
    packed = run_op(*(x[real] for x in tensors), cu_seqlens=offsets(counts), **options)
    assert_same_bits(packed, [x[real] for x in padded])


@pytest.mark.parametrize("dropout_p", [0.0, 1e-6, 0.1, 0.5, 1.0])
def test_how_much_is_dropped(dropout_p):
    """Queries of zero attend evenly; with unit vectors for values each output shows what became of a probability."""
    B, T, H = 2, 40, 2
    query, key, _, conv_values, conv_logits, _ = draw((B, T, H, T, 1, 1), torch.float32)
    value = torch.eye(T)[None, :, None].expand(B, T, H, T)
    seed = torch.tensor([77])
    out, _ = mixed_attention_op(
        query * 0, key, value, conv_values, conv_logits, None, None, None, seed, dropout_p, None, "triton"
    )
    factors = halves(query, out)[0].transpose(1, 2) * T  # [B, H, T, T]
    torch.testing.assert_close(factors, dropout_factors(seed, B, H, T, dropout_p, torch.float32))
    dropped = (factors == 0).double().mean()
    assert abs(dropped - dropout_p) <= 5 * (dropout_p * (1 - dropout_p) / factors.numel()) ** 0.5
    assert dropout_p in (0, 1e-6, 1) or len(factors.flatten(0, 2).unique(dim=0)) > 0.9 * B * H * T  # rows differ


# -- torch's own checks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["plain", "lengths and dropout", "bias", "packed"])
def test_gradcheck(form):
    tensors, options, scale = draw((1, 4, 1, 3, 1, 3), torch.float64)[:5], [None] * 4 + [0.0], None
    if form == "lengths and dropout":
        options = [None, int32([3]), None, torch.tensor([99]), 0.4]
    elif form == "bias":
        options[0], scale = torch.tensor([[0.5, -torch.inf, 1.0, 0.0]], dtype=torch.float64), -0.7
    elif form == "packed":
        tensors, options[2] = [x[0] for x in tensors], offsets([1, 3])
    fast = form != "plain"
    function = lambda *x: mixed_attention_op(*x, *options, scale, "triton")[0]  # noqa: E731
    assert torch.autograd.gradcheck(function, tuple(leaves(*tensors)), fast_mode=fast)


@pytest.mark.parametrize("form", ["padded", "packed"])
def test_opcheck(form):
    tensors = draw((2, 3, 1, 4, 1, 3), torch.float32)[:5]
    options = [torch.randn(2, 3), int32([3, 1]), None, torch.tensor([3]), 0.25, 0.5]
    if form == "packed":
        tensors, options = [x.flatten(0, 1) for x in tensors], [None, None, offsets([4, 2]), None, 0.0, None]
    torch.library.opcheck(mixed_attention_op.overload, (*leaves(*tensors), *options, "triton"))
    out, lse = mixed_attention_op(*tensors, *options, "triton")
    arguments = (expanded_ones(out), *tensors, out, lse, *options, "triton")
    torch.library.opcheck(mixed_attention_backward_op.overload, arguments)


@pytest.mark.parametrize("B, T, H, N, D", [(0, 4, 2, 2, 3), (2, 0, 2, 2, 3), (2, 4, 2, 2, 0), (2, 4, 2, 0, 3)])
def test_empty(B, T, H, N, D):
    tensors = draw((B, T, H, D, N, 3), torch.float32)
    got = run(*tensors, impl="triton", scale=1.0)
    for result, like in zip(got, (tensors[5], *tensors[:5]), strict=True):
        assert result.shape == like.shape and result.isfinite().all()
    assert D or not got[-1].any(), "logits of empty values have no gradient"


# -- bounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad, meant",
    [
        ({"lengths": int32([-3, 99])}, {"lengths": int32([0, 5])}),
        ({"lengths": int32([2**31 - 1, -(2**31)])}, {"lengths": int32([5, 0])}),
        ({"cu_seqlens": int32([2, 3, 99])}, {"cu_seqlens": int32([0, 3, 10])}),
        ({"cu_seqlens": int32([-7, 99, -1, 4])}, None),
        ({"cu_seqlens": int32([-(2**31), 2**31 - 1] * 2)}, None),
    ],
    ids=str,
)
def test_sequences_out_of_range_stay_in_bounds(bad, meant):
    """On a GPU nobody reads them first: the kernels clamp. Nothing is read or written beside the tensors."""
    from bertkernels.kernels import mixed_attention as kernel

    def guarded(x, guard):
        memory = x.new_full((x.numel() + 200,), guard)
        inside = memory[100:-100].view(x.shape)
        inside.copy_(x)
        return inside, memory

    tensors = draw((2, 5, 1, 4, 1, 3), torch.float32)
    if "cu_seqlens" in bad:
        tensors = [x.flatten(0, 1) for x in tensors]
    *inputs, grad = (guarded(x, NAN)[0] for x in tensors)
    results = [guarded(torch.zeros_like(x), 7.0) for x in (grad, *inputs, inputs[0][..., 0])]
    out, *gradients, lse = (inside for inside, _ in results)
    options = (None, bad.get("lengths"), bad.get("cu_seqlens"), 0.5, 0.0, None)
    kernel.forward(out, lse, *inputs, *options)
    kernel.backward(grad, *gradients, *inputs, out, lse, *options)
    for inside, memory in results:
        assert inside.isfinite().all()
        assert (memory[:100] == 7).all() and (memory[-100:] == 7).all()
    if meant:
        assert_same_bits(run(*tensors, impl="triton", scale=0.5, **meant), (out, *gradients))


@pytest.mark.parametrize("counts", [None, [40, 1, 59]], ids=str)
def test_grids_of_two_sides_change_nothing(counts, monkeypatch):
    """As many programs as one side of a grid cannot hold; the last row of the grid has some too many."""
    from bertkernels.kernels import launch
    from bertkernels.kernels import mixed_attention as kernel

    tensors = draw((1, 100, 1, 4, 1, 3), torch.float32)
    options = {}
    if counts:
        tensors, options = [x[0] for x in tensors], {"cu_seqlens": offsets(counts)}
    want = run(*tensors, impl="triton", **options)
    monkeypatch.setattr(launch, "LARGEST_SIDE", 3)
    kernel._plan.cache_clear()
    got = run(*tensors, impl="triton", **options)
    kernel._plan.cache_clear()
    assert_same_bits(got, want)


def test_addresses_beyond_32_bits():
    """The second row of tokens lies 2³¹ elements after the first, in memory that is reserved but never touched."""
    stride = 2**31 + 16
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # Linux; named since Python 3.13
    try:
        memory = mmap.mmap(-1, 2 * (stride + 64), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve)
    except OSError as error:
        pytest.skip(f"no 4 GB of address space: {error}")
    tensors = draw((2, 3, 1, 8, 1, 3), torch.float16)
    want = run(*tensors, impl="triton")
    far = torch.frombuffer(memory, dtype=torch.float16).as_strided((2, 3, 1, 8), (stride, 8, 8, 1))
    for i in range(4):  # query, key, value, conv_values
        far.copy_(tensors[i])
        got = run(*(far if i == j else x for j, x in enumerate(tensors)), impl="triton")
        assert_same_bits(got, want)


def test_under_the_public_function():
    *inputs, grad = draw((2, 5, 2, 4, 1, 3), torch.float32)
    mask = torch.tensor([[True, True, False, True, False], [False] * 5])[:, None, None]
    got = run(*inputs, grad, impl="triton", attention_mask=mask, scale=0.4)
    want = run(*inputs, grad, impl="reference", attention_mask=mask, scale=0.4)
    torch.testing.assert_close(got, want)
    torch.manual_seed(3)
    first = ops.mixed_attention(*inputs, dropout_p=0.5, impl="triton")
    torch.manual_seed(3)
    assert torch.equal(first, ops.mixed_attention(*inputs, dropout_p=0.5, impl="triton"))
    assert not torch.equal(first, ops.mixed_attention(*inputs, dropout_p=0.5, impl="triton"))
