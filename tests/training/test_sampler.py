import numpy as np
import pytest

from bertkernels.training.sampler import EpochSampler, LengthGroupedSampler, TokenBudgetBatches

_LENGTHS = np.random.default_rng(0).integers(3, 60, 500)


def _share(process, processes, epoch=0, tokens=512, multiple=2):
    sampler = TokenBudgetBatches(_LENGTHS, tokens, 1, multiple * processes, process, processes)
    sampler.epoch = epoch
    assert len(list(sampler)) == len(sampler)
    return list(sampler)


def test_batches_hold_each_example_once_and_at_most_so_many_tokens():
    batches = _share(0, 1)
    assert sorted(index for batch in batches for index in batch) == list(range(500))
    sizes = [_LENGTHS[batch].sum() for batch in batches]
    assert max(sizes) <= 512 and min(sizes) > 512 - 3 * 60
    assert len(batches) % 2 == 0


def test_processes_share_the_batches_of_one_evenly():
    whole = _share(0, 1, multiple=4)
    shares = [_share(process, 2, multiple=2) for process in (0, 1)]
    assert [batch for pair in zip(*shares, strict=True) for batch in pair] == whole


def test_epochs_differ_in_order_but_not_in_number():
    first, again, second = _share(0, 1), _share(0, 1), _share(0, 1, epoch=1)
    assert first == again != second
    assert len(first) == len(second)


def test_epoch_pairs():
    sampler = TokenBudgetBatches(_LENGTHS, 512, 1, with_epoch=True)
    sampler.epoch = 3
    assert {epoch for batch in sampler for epoch, _ in batch} == {3}


@pytest.mark.parametrize(
    ("lengths", "tokens", "multiple", "message"),
    [([10, 40], 79, 1, "fewer than twice the longest example's 40"), ([10, 10], 100, 8, "20 tokens are too few for 8")],
)
def test_budgets_that_cannot_be_kept(lengths, tokens, multiple, message):
    with pytest.raises(ValueError, match=message):
        TokenBudgetBatches(np.array(lengths), tokens, 1, multiple)


def test_grouping_by_length_keeps_all_examples_and_saves_padding():
    grouped, plain = LengthGroupedSampler(_LENGTHS, 8, seed=1), EpochSampler(500, seed=1)

    def padded(order):
        batches = [_LENGTHS[order[start : start + 8]] for start in range(0, 500, 8)]
        return sum(len(batch) * batch.max() for batch in batches)

    assert sorted(grouped) == sorted(plain) == list(range(500))
    assert padded(list(grouped)) < 0.7 * padded(list(plain))
    assert list(grouped) == list(grouped)
    grouped.epoch = 1
    assert list(grouped) != list(LengthGroupedSampler(_LENGTHS, 8, seed=1))
