"""attention on every implementation that can run here; the same tests run on a GPU with `-m gpu`."""

import itertools
import math

import pytest
import torch

from bertkernels import ops
from bertkernels.ops import torch_attention
from bertkernels.ops.attention import (
    attention_backward_op,
    attention_backward_reference,
    attention_op,
    attention_reference,
)
from tests.ops.attention_errors import eager, int32, magnitudes, offsets
from tests.ops.bits import assert_same_bits, assert_threads_do_not_matter
from tests.ops.budget import assert_within_budget
from tests.ops.gradients import leaves, with_gradients
from tests.ops.instruction_sets import LOWER, run_with_instruction_set
from tests.ops.memory import expanded_ones, misaligned, poisoned_memory, sliced, swapped, transposed
from tests.ops.modes import assert_casts_under_autocast, assert_compiles_whole_without_recompiling
from tests.ops.sweep import seeded
from tests.ops.targets import DTYPES, compiled_targets, implementations_on_cpu, targets

TARGETS = targets("attention", ("cpu", "torch"))
OURS = targets("attention", ("cpu",))  # those that are a registered op, and exact
TORCH = compiled_targets("attention", ("torch",))
NAMES = ("out", "d_query", "d_key", "d_value")
# B, T, H, D: the published head widths, odd ones, T = 1, D = 1, several tiles of queries and of keys
SHAPES = [(2, 70, 3, 64), (1, 150, 2, 48), (2, 33, 1, 32), (1, 17, 2, 80), (3, 5, 2, 7), (2, 1, 1, 16), (1, 9, 1, 1)]


def draw(shape, dtype, device="cpu", seed=0):
    """Query, key, value and an output gradient."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).to(device) for _ in range(4)]


def run(query, key, value, grad, impl, **options):
    return with_gradients(lambda *x: ops.attention(*x, impl=impl, **options), (query, key, value), grad)


def run_op(query, key, value, grad, impl, key_bias=None, lengths=None, cu_seqlens=None, seed=None, dropout_p=0.0):
    """Below the public function, where the seed is given."""
    options = (key_bias, lengths, cu_seqlens, seed, dropout_p, None, impl)
    return with_gradients(lambda *x: attention_op(*x, *options)[0], (query, key, value), grad)


def exact(query, key, value, grad, scale=None, **options):
    """Output and gradients in fp64 by autograd of the reference."""

    def reference(*x):
        return attention_reference(*x, scale=scale, **options)[0]

    return with_gradients(reference, (query, key, value), grad, torch.float64)


def check(got, tensors, what, **options):
    bounds = magnitudes(*tensors, **options)
    assert_within_budget(NAMES, got, exact(*tensors, **options), eager(*tensors, **options), what, of=bounds)


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
        for scale in (None, 0.3):
            got = run(*tensors, impl, attention_mask=mask, lengths=lengths, scale=scale)
            check(got, tensors, f"{shape}", key_bias=key_bias, lengths=lengths, scale=scale)


@pytest.mark.parametrize("device, impl", TORCH)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torch_against_fp64(device, impl, dtype):
    """torch's kernels have exponentials of their own, so they are not held to the error of eager torch."""
    tolerance = {8: 1e-10, 4: 1e-4, 2: 0.05}[dtype.itemsize]
    for shape in SHAPES:
        B, T = shape[:2]
        tensors = draw(shape, dtype, device)
        counts = [max(1, T - 9 * b) for b in range(B)]
        key_bias = torch.randn(B, T, device=device).to(dtype)
        bias, lengths = dict(key_bias=key_bias), dict(lengths=int32(counts, device))
        pairs = [(run(*tensors, impl), exact(*tensors))]
        pairs += [(run(*tensors, impl, attention_mask=key_bias[:, None, None]), exact(*tensors, **bias))]
        pairs += [(run(*tensors, impl, **lengths, scale=0.3), exact(*tensors, **lengths, scale=0.3))]
        packed = [torch.cat([row[:count] for row, count in zip(x, counts, strict=True)]) for x in tensors]
        cu_seqlens = offsets(counts, device)
        for max_seqlen in (None, T):
            got = run(*packed, impl, cu_seqlens=cu_seqlens, max_seqlen=max_seqlen)
            pairs += [(got, exact(*packed, cu_seqlens=cu_seqlens))]
        for got, want in pairs:
            for g, w in zip(got, want, strict=True):
                torch.testing.assert_close(g.double(), w, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_against_torch(device, impl):
    tensors = draw((2, 40, 3, 24), torch.float64, device)
    mask = torch.rand(2, 1, 1, 40, device=device) < 0.7

    def attend(*x):
        return torch.nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in x), mask).transpose(1, 2)

    want = with_gradients(attend, tensors[:3], tensors[3])
    for got in (
        run(*tensors, impl, attention_mask=mask),
        run(*tensors, impl, attention_mask=mask[:, 0, 0, None, None]),
    ):
        for g, w in zip(got, want, strict=True):
            torch.testing.assert_close(g, w)


def test_backward_reference_is_the_gradient_of_the_reference():
    tensors = draw((2, 11, 2, 5), torch.float64)
    seed, lengths, key_bias = torch.tensor([7]), int32([11, 6]), torch.randn(2, 11).double()
    for options in (
        {},
        dict(lengths=lengths, key_bias=key_bias, scale=0.7),
        dict(seed=seed, dropout_p=0.3, lengths=lengths),
    ):
        query, key, value, grad = tensors
        got = attention_backward_reference(grad, query, key, value, **options)
        torch.testing.assert_close(got, exact(*tensors, **options)[1:])
    packed = [x.flatten(0, 1) for x in tensors]
    options = dict(cu_seqlens=offsets([9, 0, 13]), seed=seed, dropout_p=0.3)
    got = attention_backward_reference(packed[3], *packed[:3], **options)
    torch.testing.assert_close(got, exact(*packed, **options)[1:])


@pytest.mark.parametrize("device, impl", TARGETS)
def test_gradcheck(device, impl):
    tensors = leaves(*draw((2, 9, 2, 3), torch.float64, device)[:3])
    mask = torch.randn(2, 1, 1, 9, dtype=torch.float64, device=device)
    for options in ({}, dict(lengths=int32([9, 4], device)), dict(attention_mask=mask)):
        assert torch.autograd.gradcheck(lambda *x, o=options: ops.attention(*x, impl=impl, **o), tensors)


@pytest.mark.parametrize("device, impl", OURS)
def test_opcheck(device, impl):
    query, key, value, grad = draw((2, 9, 2, 8), torch.float32, device)
    seed, key_bias = torch.tensor([3], device=device), torch.randn(2, 9, device=device)
    lengths, cu_seqlens = int32([9, 4], device), offsets([4, 5], device)
    packed = [x[0] for x in (query, key, value)]
    for tensors, *options in [
        ((query, key, value), None, None, None, None, 0.0, None),
        ((query, key, value), key_bias, lengths, None, None, 0.0, 0.5),
        (packed, None, None, cu_seqlens, seed, 0.25, None),
        ((sliced(query), swapped(key), misaligned(value)), None, None, None, None, 0.0, None),
    ]:
        torch.library.opcheck(attention_op.overload, (*leaves(*tensors), *options, impl))
        out, lse = attention_op(*tensors, *options, impl)
        torch.library.opcheck(attention_backward_op.overload, (expanded_ones(out), *tensors, out, lse, *options, impl))


@pytest.mark.parametrize("device, impl", OURS)
def test_log_sum_exp(device, impl):
    query, key, value, _ = draw((2, 13, 2, 8), torch.float32, device)
    key_bias = torch.randn(2, 13, device=device).index_fill_(1, torch.tensor([3], device=device), -torch.inf)
    key_bias[1, :4] = -torch.inf
    lengths = int32([13, 4], device)  # nothing is left for the second sequence
    lse = attention_op(query, key, value, key_bias, lengths, None, None, 0.0, None, impl)[1]
    scores = torch.einsum("qhd,khd->qhk", query[0].double(), key[0].double()) * 8**-0.5 + key_bias[0]
    torch.testing.assert_close(lse[0], (scores.logsumexp(-1) - key_bias[0].max()).float())
    assert not lse[1].any()


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("dropout_p", [0.0, 0.2])
def test_packed_is_the_loop_over_sequences(device, impl, dropout_p):
    counts = [5, 0, 1, 140, 17]
    tensors = [x[0] for x in draw((1, sum(counts), 2, 16), torch.float32, device)]
    seed = torch.tensor([11], device=device) if dropout_p else None
    cu_seqlens = offsets(counts, device)
    got = run_op(*tensors, impl, cu_seqlens=cu_seqlens, seed=seed, dropout_p=dropout_p)
    # as padded batches in which only one sequence has a length: dropout depends on its number
    for i, (start, stop) in enumerate(itertools.pairwise(cu_seqlens.tolist())):
        lengths = int32([stop - start if b == i else 0 for b in range(len(counts))], device)
        alone = [x.new_zeros(len(counts), max(counts), 2, 16) for x in tensors]
        for to, x in zip(alone, tensors, strict=True):
            to[i, : stop - start] = x[start:stop]
        want = [x[i, : stop - start] for x in run_op(*alone, impl, lengths=lengths, seed=seed, dropout_p=dropout_p)]
        if impl == "cpu":
            assert_same_bits([g[start:stop] for g in got], want)
        else:
            for g, w in zip(got, want, strict=True):
                torch.testing.assert_close(g[start:stop], w)


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_packed_against_fp64(device, impl, dtype):
    counts = [5, 0, 1, 140, 17]
    tensors = [x[0] for x in draw((1, sum(counts), 2, 16), dtype, device)]
    got = run(*tensors, impl, cu_seqlens=offsets(counts, device))
    start = 0
    for count in counts:
        alone = [x[None, start : start + count] for x in tensors]
        if count:
            check([x[None, start : start + count] for x in got], alone, f"sequence of {count}")
        start += count


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_garbage_in_padding_reaches_nothing(device, impl, dtype):
    tensors = draw((3, 20, 2, 16), dtype, device)
    lengths = int32([20, 7, 0], device)
    padding = (torch.arange(20, device=device) >= lengths[:, None])[..., None, None]
    clean = run(*(x.masked_fill(padding, 0) for x in tensors), impl, lengths=lengths)
    for garbage in (float("nan"), float("inf")):
        dirty = run(*(x.masked_fill(padding, garbage) for x in tensors), impl, lengths=lengths)
        assert_same_bits(dirty, clean)
        for d in dirty:
            assert not d.masked_select(padding.expand_as(d)).any(), "padding must come out as zeros"
    mask = torch.zeros(3, 1, 1, 20, dtype=dtype, device=device)
    dirty = mask.masked_fill(padding.transpose(1, 3), float("nan"))
    assert_same_bits(
        run(*tensors, impl, lengths=lengths, attention_mask=dirty),
        run(*tensors, impl, lengths=lengths, attention_mask=mask),
    )


@pytest.mark.parametrize("device, impl", TARGETS)
def test_lengths_are_a_mask_over_keys(device, impl):
    tensors = draw((2, 40, 2, 16), torch.float64, device)
    lengths = int32([40, 23], device)
    real = torch.arange(40, device=device) < lengths[:, None]
    got = run(*tensors, impl, lengths=lengths)
    query, key, value, grad = tensors
    want = run(query, key, value, grad.masked_fill(~real[..., None, None], 0), impl, attention_mask=real[:, None, None])
    torch.testing.assert_close([x[real] for x in got], [x[real] for x in want])


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.float32])
def test_queries_that_may_attend_nothing_get_zeros(device, impl, mask_dtype):
    tensors = draw((2, 70, 2, 16), torch.float32, device)
    mask = torch.rand(2, 1, 1, 70, device=device) < 0.5
    mask[1] = False
    if mask_dtype != torch.bool:
        mask = torch.zeros(mask.shape, device=device).masked_fill(~mask, -torch.inf)
    for result in run(*tensors, impl, attention_mask=mask):
        assert result.isfinite().all()
        assert not result[1].any()
        assert result[0].any()


@pytest.mark.parametrize("device, impl", OURS)
def test_lowest_numbers_as_masks(device, impl):
    """Models mask with the lowest number there is. Beside it scores vanish: masked alike, all keys count alike."""
    query, key, value, grad = draw((2, 30, 2, 8), torch.float32, device)
    key_bias = torch.full((2, 30), torch.finfo(torch.float32).min, device=device)
    key_bias[0, :11] = 0
    got = run_op(query, key, value, grad, impl, key_bias=key_bias)
    want = exact(query, key, value, grad, key_bias=key_bias)
    for name, g, w in zip(NAMES, got, want, strict=True):
        torch.testing.assert_close(
            g.double(), w, rtol=1e-5, atol=1e-5, msg=lambda message, name=name: f"{name}: {message}"
        )
    torch.testing.assert_close(got[0][1], value[1].mean(0).expand(30, -1, -1))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_masks_of_pairs_are_for_torch(device, impl):
    tensors = draw((2, 12, 3, 8), torch.float32, device)
    bias = torch.randn(2, 3, 12, 12, device=device)
    masks = {"pairs": bias, "heads": bias[:, :, :1], "queries": bias[:, :1].squeeze(1)[0], "rows": bias[:, :1, :, :1]}
    for mask in masks.values():
        if impl != "torch":
            with pytest.raises(RuntimeError, match="takes only masks"):
                run(*tensors, impl, attention_mask=mask)
        scores = torch.einsum("bqhd,bkhd->bhqk", *tensors[:2]) * 8**-0.5 + mask
        want = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), tensors[2])
        torch.testing.assert_close(ops.attention(*tensors[:3], attention_mask=mask), want)


def test_gradient_of_a_mask_is_for_torch():
    query, key, value, grad = draw((2, 12, 3, 8), torch.float32)
    mask = torch.randn(2, 1, 1, 12, requires_grad=True)
    ops.attention(query, key, value, attention_mask=mask).backward(grad)
    assert mask.grad.abs().max() > 0
    with pytest.raises(RuntimeError, match="without a gradient"):
        ops.attention(query, key, value, attention_mask=mask, impl="cpu")


def heads_outside(x):
    return swapped(x, 1)


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_strided_inputs(device, impl, dtype):
    tensors = draw((2, 18, 3, 16), dtype, device)
    key_bias = torch.randn(2, 18, device=device).to(dtype)
    want = run_op(*tensors, impl, key_bias=key_bias)
    for rearranged in (swapped, heads_outside, sliced, misaligned):
        assert_same_bits(run_op(*map(rearranged, tensors), impl, key_bias=rearranged(key_bias)), want)
    assert_same_bits(run_op(*tensors[:3], transposed(tensors[3]), impl, key_bias=transposed(key_bias)), want)


@pytest.mark.parametrize("device, impl", OURS)
def test_expanded_inputs_and_gradients(device, impl):
    tensors = [x.expand(2, -1, 3, -1) for x in draw((1, 18, 1, 16), torch.float32, device)]
    key_bias = torch.randn(1, 18, device=device).expand(2, -1)
    dense = [x.contiguous() for x in tensors]
    assert_same_bits(run_op(*tensors, impl, key_bias), run_op(*dense, impl, key_bias.contiguous()))
    query, key, value, _ = draw((2, 18, 3, 16), torch.float32, device)
    ones = expanded_ones(query)
    assert_same_bits(run(query, key, value, ones, impl), run(query, key, value, ones.contiguous(), impl))


@pytest.mark.parametrize("device, impl", OURS)
def test_every_element_is_written(device, impl):
    tensors = draw((3, 75, 2, 20), torch.float32, device)
    lengths = int32([75, 0, 31], device)
    seed = torch.tensor([5], device=device)
    want = run_op(*tensors, impl, lengths=lengths, seed=seed, dropout_p=0.1)
    with poisoned_memory():
        got = run_op(*tensors, impl, lengths=lengths, seed=seed, dropout_p=0.1)
    assert_same_bits(got, want)


@pytest.mark.parametrize("T", [130, 1100], ids=["tiles", "parts"])
def test_threads_do_not_matter(T):
    """With 1100 tokens and few heads the backward pass cuts sequences into parts."""
    tensors = draw((2, T, 3, 24), torch.float32)
    lengths, seed = int32([T, T - 71]), torch.tensor([2**40 + 1])
    assert_threads_do_not_matter(lambda: run_op(*tensors, "cpu", lengths=lengths, seed=seed, dropout_p=0.1))
    packed = [x.flatten(0, 1) for x in tensors]
    cu_seqlens = offsets([T - 7, 3, T + 4])
    assert_threads_do_not_matter(lambda: run_op(*packed, "cpu", cu_seqlens=cu_seqlens))


@pytest.mark.parametrize("shape", [(1, 4096, 1, 16), (1, 2100, 3, 8)], ids=str)
def test_long_sequences(shape):
    """Against torch's own kernel in fp64, which keeps nothing of size T² either."""
    tensors = draw(shape, torch.float32)

    def attend(*x):
        return torch.nn.functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in x)).transpose(1, 2)

    want = with_gradients(attend, tensors[:3], tensors[3], torch.float64)
    same_dtype = with_gradients(attend, tensors[:3], tensors[3])
    assert_within_budget(NAMES, run(*tensors, "cpu"), want, same_dtype, f"{shape}")


# -- dropout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device, impl", OURS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dropout_against_fp64(device, impl, dtype):
    for shape in SHAPES:
        tensors = draw(shape, dtype, device)
        lengths = int32([max(1, shape[1] - 9 * b) for b in range(shape[0])], device)
        options = dict(lengths=lengths, seed=torch.tensor([-(2**62) + 12345], device=device), dropout_p=0.3)
        check(run_op(*tensors, impl, **options), tensors, f"{shape}", **options)


def keep_factors(impl, device, shape, dropout_p, **options):
    """The dropout factors [B, H, T, T], seen through uniform probabilities and values that tell the keys apart."""
    B, T, H = shape
    zeros = torch.zeros(B, T, H, T, device=device)
    value = torch.eye(T, device=device)[None, :, None].expand(B, T, H, T)
    return ops.attention(zeros, zeros, value, dropout_p=dropout_p, impl=impl, **options).transpose(1, 2) * T


@pytest.mark.parametrize("device, impl", TARGETS)
def test_dropout_rate_and_scale(device, impl):
    torch.manual_seed(0)
    for p in (0.1, 0.5, 0.9):
        factors = keep_factors(impl, device, (4, 96, 3), p)
        kept = factors != 0
        torch.testing.assert_close(factors[kept], torch.full_like(factors[kept], 1 / (1 - p)), rtol=1e-3, atol=0)
        sigma = math.sqrt(p * (1 - p) / kept.numel())
        assert abs(kept.float().mean().item() - (1 - p)) < 5 * sigma + 2**-16
        # neighbours in every direction are dropped independently
        drops = kept.float() - kept.float().mean()
        for dim, step in itertools.product(range(4), (1, 2)):
            both = (
                drops.narrow(dim, 0, drops.shape[dim] - step) * drops.narrow(dim, step, drops.shape[dim] - step)
            ).mean()
            assert abs(both.item()) < 6 * p * (1 - p) / math.sqrt(kept.numel() / 4), (p, dim, step)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_dropout_of_all_and_of_nothing(device, impl):
    tensors = draw((2, 20, 2, 8), torch.float32, device)
    if impl != "torch":  # torch divides by 1 - p
        for result in run(*tensors, impl, dropout_p=1.0):
            assert not result.any()
    assert_same_bits(run(*tensors, impl, dropout_p=0), run(*tensors, impl))


@pytest.mark.parametrize("device, impl", TARGETS)
def test_dropout_is_drawn_from_torchs_generator(device, impl):
    tensors = draw((2, 40, 2, 8), torch.float32, device)
    torch.manual_seed(4)
    first, second = (run(*tensors, impl, dropout_p=0.2) for _ in range(2))
    torch.manual_seed(4)
    assert_same_bits(run(*tensors, impl, dropout_p=0.2), first)
    assert not torch.equal(first[0], second[0])


@pytest.mark.parametrize("device, impl", TARGETS)
def test_mean_over_seeds_is_the_output_without_dropout(device, impl):
    query, key, value, _ = draw((1, 24, 2, 8), torch.float32, device)
    torch.manual_seed(0)
    outs = torch.stack([ops.attention(query, key, value, dropout_p=0.25, impl=impl) for _ in range(600)])
    want = ops.attention(query, key, value, impl=impl)
    error = (outs.mean(0) - want) / (outs.std(0) / 600**0.5)
    assert error.abs().max() < 5  # of 384 standard normal numbers


@pytest.mark.parametrize("device, impl", OURS)
def test_dropout_gradcheck(device, impl):
    """Finite differences under one seed: the backward pass drops what the forward pass dropped."""
    tensors = leaves(*draw((2, 11, 2, 3), torch.float64, device)[:3])
    seed, lengths = torch.tensor([99], device=device), int32([11, 6], device)
    assert torch.autograd.gradcheck(lambda *x: attention_op(*x, None, lengths, None, seed, 0.4, None, impl)[0], tensors)


# -- the rest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device, impl", TARGETS)
@pytest.mark.parametrize("B, T, H, D", [(0, 4, 2, 3), (2, 0, 2, 3), (2, 4, 0, 3), (2, 4, 2, 0)])
def test_empty(device, impl, B, T, H, D):
    tensors = [torch.zeros(B, T, H, D, device=device) for _ in range(4)]
    for result in run(*tensors, impl, scale=1.0):
        assert result.shape == (B, T, H, D)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_no_sequences(device, impl):
    tensors = [torch.zeros(0, 2, 4, device=device) for _ in range(4)]
    for result in run(*tensors, impl, cu_seqlens=int32([0], device)):
        assert result.shape == (0, 2, 4)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_extreme_scores(device, impl):
    query, key, value, _ = draw((1, 30, 1, 8), torch.float32, device)
    for q, k in ((query * 1e3, key * 1e2), (query * 1e15, key * 1e15), (query * 0 + 1, key * 0 - 40.0)):
        want = exact(q, k, value, value)[0].float()
        torch.testing.assert_close(ops.attention(q, k, value, impl=impl), want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("device, impl", TARGETS)
def test_numbers_that_are_none_come_out(device, impl):
    query, key, value, _ = draw((2, 20, 2, 8), torch.float32, device)
    query[0, 3] = float("nan")
    out = ops.attention(query, key, value, impl=impl)
    assert out[0, 3].isnan().all() and out[1].isfinite().all() and out[0, 4:].isfinite().all()


@pytest.mark.parametrize("device, impl", TARGETS)
def test_autocast(device, impl):
    query, key, value, grad = draw((2, 9, 2, 8), torch.float32, device)
    mask = torch.randn(2, 1, 1, 9, device=device)
    for options in ({}, dict(lengths=int32([9, 3], device)), dict(attention_mask=mask)):
        if impl == "torch" and "attention_mask" in options:
            continue  # torch leaves the mask's dtype to the caller
        assert_casts_under_autocast(
            lambda *x, o=options: ops.attention(*x, impl=impl, **o), (query, key.bfloat16(), value), grad
        )


@pytest.mark.parametrize("impl", implementations_on_cpu("attention", ("cpu",)))
def test_autocast_leaves_fp64_alone(impl):
    query, key, value, _ = draw((2, 9, 2, 8), torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.attention(query, key, value, impl=impl).dtype == torch.float64
        with pytest.raises(TypeError, match="one dtype"):
            ops.attention(query, key.float(), value, impl=impl)


@pytest.mark.parametrize("device, impl", OURS)
def test_compiles_whole_without_recompiling(device, impl):
    cases = [draw((B, T, 2, 8), torch.float32, device)[:3] for B, T in [(4, 9), (3, 17), (7, 4)]]
    assert_compiles_whole_without_recompiling(lambda *x: ops.attention(*x, impl=impl), cases)

    def masked(query, key, value):
        mask = (query.detach()[..., 0, 0] > 0)[:, None, None, :]  # [B, 1, 1, T]
        return ops.attention(query, key, value, attention_mask=mask, impl=impl)

    assert_compiles_whole_without_recompiling(masked, cases)


def test_the_choice_compiles_too():
    cases = [draw((B, T, 2, 8), torch.float32)[:3] for B, T in [(4, 9), (3, 17), (7, 4)]]
    assert_compiles_whole_without_recompiling(ops.attention, cases)


@pytest.mark.parametrize("device, impl", OURS)
def test_dropout_compiles_whole(device, impl):
    torch._dynamo.reset()
    tensors = draw((3, 21, 2, 8), torch.float32, device)
    compiled = torch.compile(
        lambda *x: ops.attention(*x, dropout_p=0.3, impl=impl), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    torch.manual_seed(1)
    got = with_gradients(compiled, tensors[:3], tensors[3])
    torch.manual_seed(1)
    assert_same_bits(got, run(*tensors, impl, dropout_p=0.3))


@pytest.mark.parametrize("device, impl", OURS)
def test_random_sweep(device, impl):
    seed, rng = seeded()
    for _ in range(25):
        shape = (rng.randint(1, 4), rng.randint(1, 200), rng.randint(1, 4), rng.randint(1, 100))
        B, T = shape[:2]
        dtype = rng.choice(DTYPES)
        tensors = draw(shape, dtype, device, seed=rng.randrange(2**31))
        lengths = rng.choice([None, int32([rng.randint(1, T) for _ in range(B)], device)])
        key_bias = rng.choice([None, torch.randn(B, T, device=device).to(dtype)])
        scale = rng.choice([None, rng.uniform(-0.5, 0.5)])
        mask = None if key_bias is None else key_bias[:, None, None]
        got = run(*tensors, impl, attention_mask=mask, lengths=lengths, scale=scale)
        what = f"BERTKERNELS_SEED={seed}: {shape} {dtype} {lengths} {key_bias is not None} {scale}"
        check(got, tensors, what, key_bias=key_bias, lengths=lengths, scale=scale)


@pytest.mark.parametrize("isa", LOWER)
def test_lower_instruction_sets(isa):
    tests = "cpu and (test_against_fp64 or test_dropout_against_fp64)"
    arguments = ["-q", "-p", "no:cacheprovider", __file__, "-k", tests]
    run_with_instruction_set("attention", isa, f"import pytest; assert pytest.main({arguments}) == 0")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_torchs_kernels_for_packed_sequences_take_our_arguments(dtype):
    """Their schemas, shapes and derivatives, on tensors without contents: for what this machine has no GPU for."""
    kernel = torch_attention._flash_attention if dtype == torch.bfloat16 else torch_attention._efficient_attention
    tensors = [torch.empty(30, 2, 64, dtype=dtype, device="meta", requires_grad=True) for _ in range(3)]
    cu_seqlens = torch.empty(4, dtype=torch.int32, device="meta")
    out = kernel(*tensors, cu_seqlens, 17, 0.1, None)
    assert out.shape == (30, 2, 64) and out.dtype == dtype
    for gradient in torch.autograd.grad(out.sum(), tensors):
        assert gradient.shape == (30, 2, 64)


def _bad_calls():
    x = torch.zeros(2, 5, 3, 4)
    same = (x, x, x)
    yield "rank", (x[0, 0],) * 3, {}, "query must be"
    yield "key rank", (x, x[0], x), {}, "key must be"
    yield "heads", (x, x, x[:, :, :2]), {}, "value must be query's shape"
    yield "integers", (x.long(), x, x), {}, "query must be float"
    yield "dtypes", (x, x.double(), x), {}, "one dtype"
    yield "devices", (x, x, x.to("meta")), {}, "one device"
    yield "not a tensor", (x, x.tolist(), x), {}, "key must be a tensor"
    yield "last dimension", (x, transposed(x), x), {}, "last dimension of key"
    yield "dropout", same, dict(dropout_p=1.5), "dropout_p must be from 0 to 1"
    yield "mask shape", same, dict(attention_mask=torch.zeros(2, 1, 1, 6)), "attention_mask must broadcast"
    yield "mask rank", same, dict(attention_mask=torch.zeros(1, 2, 1, 1, 5)), "attention_mask must broadcast"
    yield "mask dtype", same, dict(attention_mask=torch.zeros(2, 1, 1, 5).long()), "attention_mask must be a bool"
    yield "mask device", same, dict(attention_mask=torch.zeros(2, 1, 1, 5, device="meta")), "attention_mask is on meta"
    yield "lengths dtype", same, dict(lengths=torch.ones(2)), "lengths must be a one-dimensional int32"
    yield "lengths count", same, dict(lengths=int32([1, 2, 3])), r"lengths must be \[B\]"
    yield "lengths past T", same, dict(lengths=int32([5, 6])), "lengths must lie in"
    yield "lengths negative", same, dict(lengths=int32([5, -1])), "lengths must lie in"
    both = dict(lengths=int32([1, 2]), cu_seqlens=int32([0, 5]))
    yield "both forms", same, both, "not both"
    yield "packed rank", same, dict(cu_seqlens=int32([0, 5])), "with cu_seqlens"
    yield "padded rank", (x[0],) * 3, {}, "without cu_seqlens"
    mask = dict(cu_seqlens=int32([0, 5]), attention_mask=torch.zeros(5))
    yield "packed mask", (x[0],) * 3, mask, "packed sequences need none"
    for name, numbers in dict(short=[0, 4], late=[1, 5], decreasing=[0, 4, 3, 5], negative=[0, -1, 5]).items():
        yield f"cu_seqlens {name}", (x[0],) * 3, dict(cu_seqlens=int32(numbers)), "cu_seqlens must"
    yield "cu_seqlens empty", (x[0],) * 3, dict(cu_seqlens=int32([])), "cu_seqlens must"


@pytest.mark.parametrize("impl", implementations_on_cpu("attention", ("cpu", "torch")))
@pytest.mark.parametrize("arguments, options, message", [pytest.param(*c[1:], id=c[0]) for c in _bad_calls()])
def test_bad_input(impl, arguments, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        ops.attention(*arguments, impl=impl, **options)


def test_unknown_implementation():
    with pytest.raises(RuntimeError, match="attention has no triton implementation"):
        ops.attention(*[torch.zeros(1, 2, 1, 4)] * 3, impl="triton")
