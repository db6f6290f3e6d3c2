import numpy as np
import pytest
import torch

from bertkernels.training.masking import choose_positions, uniforms
from bertkernels.training.masking_collator import MaskingCollator

PAD, CLS, SEP, MASK = 0, 2, 3, 4


def _examples(lengths, epoch=0, seed=0):
    generator = np.random.default_rng(seed)
    examples = []
    for index, length in enumerate(lengths):
        ids = generator.integers(5, 100, size=length)
        ids[0], ids[-1], ids[length // 2] = CLS, SEP, SEP
        examples.append({"input_ids": ids, "first_length": length // 2 + 1, "epoch": epoch, "index": index})
    return examples


def _collator(**changes):
    settings = {"pad_id": PAD, "cls_id": CLS, "sep_id": SEP, "mask_id": MASK, "max_length": 128, "seed": 7}
    return MaskingCollator(**settings | changes)


@pytest.mark.parametrize("masking", ["without_replacement", "electra"])
def test_batches_hold_what_the_model_takes(masking):
    lengths = [128, 60, 5, 4]
    batch = _collator(masking=masking)(_examples(lengths))
    original, masked = batch["original_input_ids"], batch["input_ids"]
    real = torch.arange(128) < torch.tensor(lengths)[:, None]
    assert torch.equal(batch["attention_mask"].bool(), real)
    assert (original[~real] == PAD).all() and (masked[~real] == PAD).all()
    for row, example in enumerate(_examples(lengths)):
        assert original[row, : lengths[row]].tolist() == example["input_ids"].tolist()
        second = torch.arange(128) >= example["first_length"]
        assert torch.equal(batch["token_type_ids"][row].bool(), second & real[row])
    weights, positions, ids = (batch[f"masked_lm_{name}"] for name in ("weights", "positions", "ids"))
    assert weights.shape == positions.shape == ids.shape == (4, 19)
    assert weights.sum(1).tolist() == [19, 9, 1, 1]
    counted = weights > 0
    assert (positions[~counted] == 0).all() and (ids[~counted] == 0).all()
    assert torch.equal(ids[counted], original.gather(1, positions)[counted])
    chosen = torch.zeros_like(real)
    chosen[torch.arange(4)[:, None].expand(4, 19)[counted], positions[counted]] = True
    assert not torch.isin(original[chosen], torch.tensor([PAD, CLS, SEP, MASK])).any()
    changed = masked != original
    assert (masked[changed] == MASK).all()
    assert (changed & ~chosen).sum() == 0
    if masking == "without_replacement":
        assert torch.equal(chosen.sum(1).float(), weights.sum(1))


def test_examples_without_candidates_predict_nothing():
    for masking in ("without_replacement", "electra"):
        ids = np.array([CLS, SEP, SEP])
        example = {"input_ids": ids, "first_length": 2, "epoch": 0, "index": 0}
        batch = _collator(masking=masking)([example])
        assert batch["masked_lm_weights"].sum() == 0
        assert torch.equal(batch["input_ids"], batch["original_input_ids"])


def test_masks_depend_on_seed_epoch_and_example_alone():
    collator, lengths = _collator(), [40, 128, 77, 12]
    whole = collator(_examples(lengths))
    for row, example in enumerate(_examples(lengths)):
        alone = collator([example])
        width = alone["input_ids"].shape[1]
        assert torch.equal(alone["input_ids"][0], whole["input_ids"][row, :width])
        assert torch.equal(alone["masked_lm_positions"][0], whole["masked_lm_positions"][row])
    assert not torch.equal(collator(_examples(lengths, epoch=1))["input_ids"], whole["input_ids"])
    assert not torch.equal(_collator(seed=8)(_examples(lengths))["input_ids"], whole["input_ids"])


def test_padding_to_the_longest_or_to_all():
    assert _collator()(_examples([12, 9]))["input_ids"].shape == (2, 12)
    wide = _collator(pad_to_max_length=True)(_examples([12, 9]))
    assert wide["input_ids"].shape == (2, 128)
    assert torch.equal(wide["masked_lm_positions"], _collator()(_examples([12, 9]))["masked_lm_positions"])


@pytest.mark.parametrize("masking", ["without_replacement", "electra"])
def test_positions_and_masks_are_drawn_evenly(masking):
    """4,000 examples of 22 candidates and 3 draws: each position's share within five standard deviations."""
    examples = _examples([25]) * 4000
    examples = [example | {"index": index} for index, example in enumerate(examples)]
    batch = _collator(masking=masking, max_length=25)(examples)
    counted = batch["masked_lm_weights"] > 0
    draws = counted.sum().item()
    counts = torch.bincount(batch["masked_lm_positions"][counted], minlength=25)
    candidates = [position for position in range(25) if position not in (0, 12, 24)]
    assert counts.sum() == counts[candidates].sum()
    share = 1 / 22
    deviation = (draws * share * (1 - share)) ** 0.5
    assert ((counts[candidates] - draws * share).abs() < 5 * deviation).all()
    masked = (batch["input_ids"].gather(1, batch["masked_lm_positions"]) == MASK)[counted].float().mean()
    repeated = 0.15 * 0.85 * 2 / 22 if masking == "electra" else 0.0  # kept by one draw, masked by another
    assert abs(masked - 0.85 - repeated) < 5 * (0.85 * 0.15 / draws) ** 0.5 + 0.002


def test_draws_with_replacement_repeat_as_often_as_they_should():
    candidates = np.ones((20000, 25), dtype=bool)
    numbers = uniforms(0, np.zeros(20000, dtype=np.int64), np.arange(20000), 4)
    positions = choose_positions(candidates, numbers, 4, with_replacement=True)
    distinct = np.mean([len(set(row)) for row in positions.tolist()])
    assert distinct == pytest.approx(25 * (1 - (24 / 25) ** 4), abs=0.02)


def test_uniform_numbers_are_in_range_uncorrelated_and_fixed():
    numbers = uniforms(3, np.arange(500) % 5, np.arange(500), 64)
    assert numbers.min() >= 0 and numbers.max() < 1
    assert len(np.unique(numbers)) == numbers.size
    assert abs(numbers.mean() - 0.5) < 5 * (1 / 12 / numbers.size) ** 0.5
    correlation = np.corrcoef(numbers[:, ::8].T) - np.eye(8)
    assert abs(correlation).max() < 5 / 500**0.5
    more = uniforms(3, np.array([1, 4]), np.array([2, 0]), 80)[0, :64]
    np.testing.assert_array_equal(uniforms(3, np.array([1]), np.array([2]), 64)[0], more)
    # Recorded: a run that is resumed under a later version must draw the same masks.
    np.testing.assert_allclose(more[:3], [0.9097544473564404, 0.058957162620393855, 0.20817452709687934], 0, 1e-15)


def test_bad_arguments():
    with pytest.raises(ValueError, match="masking must be one of"):
        _collator(masking="other")
    with pytest.raises(ValueError, match="needs vocab_size"):
        _collator(masking="bert")
    with pytest.raises(ValueError, match="no room for a prediction"):
        _collator(max_length=6)


def test_bert_masks_replaces_and_keeps():
    """4,000 examples of 3 predictions: shares of [MASK], random and kept tokens within five standard deviations."""
    examples = [example | {"index": index} for index, example in enumerate(_examples([25]) * 4000)]
    batch = _collator(masking="bert", max_length=25, vocab_size=1000)(examples)
    counted = batch["masked_lm_weights"] > 0
    assert counted.sum() == 3 * 4000
    found = batch["input_ids"].gather(1, batch["masked_lm_positions"])[counted]
    true = batch["masked_lm_ids"][counted]
    draws = len(found)
    for share, hits in (
        (0.8, (found == MASK).sum()),
        (0.1, ((found != MASK) & (found != true)).sum()),
        (0.1, (found == true).sum()),
    ):
        assert abs(hits.item() - share * draws) < 5 * (share * (1 - share) * draws) ** 0.5 + 0.001 * draws
    random = found[(found != MASK) & (found != true)].double()
    assert random.min() < 20 and random.max() >= 980, "any of the vocabulary"
    assert abs(random.mean().item() - 499.5) < 5 * 1000 / (12 * len(random)) ** 0.5
    unmasked = torch.ones_like(batch["input_ids"], dtype=torch.bool)
    unmasked.scatter_(1, batch["masked_lm_positions"], False)
    assert torch.equal(batch["input_ids"][unmasked], batch["original_input_ids"][unmasked])
    assert torch.equal(batch["original_input_ids"].gather(1, batch["masked_lm_positions"])[counted], true)


def test_bert_masks_the_positions_that_the_default_does():
    """Random tokens take numbers of their own: they change nothing of what is drawn."""
    examples = _examples([128, 60, 30])
    bert = _collator(masking="bert", vocab_size=100)(examples)
    default = _collator()(examples)
    assert torch.equal(bert["masked_lm_positions"], default["masked_lm_positions"])
    assert not torch.equal(bert["input_ids"], default["input_ids"])


def test_empty_examples_take_part_in_nothing():
    full = _examples([12])
    empty = {"input_ids": np.zeros(0, dtype=np.int64), "first_length": 0, "epoch": 0, "index": -1}
    full[0]["next_sentence_label"] = 1
    batch = _collator()([*full, empty])
    assert batch["attention_mask"].sum(1).tolist() == [12, 0]
    assert batch["masked_lm_weights"].sum(1).tolist() == [2, 0]
    assert batch["next_sentence_label"].tolist() == [1, -100]
    assert _collator()([empty])["input_ids"].shape == (1, 1)
