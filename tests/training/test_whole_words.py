import random

import numpy as np
import pytest
import torch

from bertkernels.data.tokenizer import tokenizer_from_vocabulary
from bertkernels.errors import InputError
from bertkernels.training.masking import uniforms
from bertkernels.training.masking_collator import MaskingCollator
from bertkernels.training.whole_words import choose_words, continuation_pieces

PAD, CLS, SEP, MASK = 0, 2, 3, 4
INSIDE = np.arange(100) >= 60  # ids that are pieces inside of words


def _row(generator, length):
    ids = [CLS, *(generator.randint(5, 99) for _ in range(length - 2)), SEP]
    ids[length // 2] = SEP
    return ids


def _words(ids, candidates):
    """Lists of positions, by a plain loop."""
    words = []
    for place, token in enumerate(ids):
        if not candidates[place]:
            continue
        if INSIDE[token] and place and candidates[place - 1]:
            words[-1].append(place)
        else:
            words.append([place])
    return words


def _chosen(words, order, count):
    """Positions as BERT's program takes them: words in order, none that is too long for the room left."""
    taken = []
    for word in order:
        if len(taken) >= count:
            break
        if len(taken) + len(words[word]) <= count:
            taken += words[word]
    return taken


@pytest.mark.parametrize("with_replacement", [False, True])
def test_words_are_taken_as_by_a_plain_loop(with_replacement):
    generator = random.Random(0)
    rows, width, slots = 200, 40, 9
    ids = np.array([_row(generator, width) for _ in range(rows)])
    candidates = ~np.isin(ids, (CLS, SEP))
    candidates[:, 35:] = False  # padding
    candidates[7] = False  # nothing to predict
    counts = np.array([generator.randint(1, slots) for _ in range(rows)])
    numbers = uniforms(0, np.zeros(rows, dtype=np.int64), np.arange(rows), slots if with_replacement else width)
    found, number = choose_words(candidates, INSIDE[ids], numbers, counts, slots, with_replacement)
    assert found.shape == (rows, slots)
    for row in range(rows):
        words = _words(ids[row], candidates[row])
        if with_replacement:
            order = [int(value * len(words)) for value in numbers[row]] if words else []
        else:
            order = sorted(range(len(words)), key=lambda word: numbers[row, words[word][0]])
        wanted = _chosen(words, order, counts[row])
        assert found[row, : number[row]].tolist() == wanted
        assert (found[row, number[row] :] == 0).all()
    assert number[7] == 0 and (number < counts).any() and (number == counts).any()


@pytest.mark.parametrize("masking", ["without_replacement", "electra", "bert"])
def test_all_pieces_of_a_word_are_predicted_or_none(masking):
    generator = random.Random(1)
    lengths = [64, 40, 17, 64]
    rows = [_row(generator, length) for length in lengths]
    examples = [
        {"input_ids": np.array(ids), "first_length": len(ids) // 2 + 1, "epoch": 0, "index": index}
        for index, ids in enumerate(rows)
    ]
    settings = {"pad_id": PAD, "cls_id": CLS, "sep_id": SEP, "mask_id": MASK, "max_length": 64, "seed": 3}
    collator = MaskingCollator(**settings, masking=masking, vocab_size=100, inside_words=INSIDE)
    batch = collator(examples)
    alone = collator(examples[2:3])
    assert torch.equal(alone["masked_lm_positions"][0], batch["masked_lm_positions"][2]), "whatever its neighbours"
    for row, ids in enumerate(rows):
        drawn = batch["masked_lm_positions"][row][batch["masked_lm_weights"][row] > 0].tolist()
        words = _words(ids, [token not in (CLS, SEP) for token in ids])
        assert 0 < len(drawn) <= max(1, round(0.15 * len(ids)))
        for word in words:
            assert len({drawn.count(place) for place in word}) == 1, word
        if masking != "electra":
            assert len(set(drawn)) == len(drawn)


def test_continuation_pieces_of_a_tokenizer():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "run", "##ning", "#", "##s"]
    tokenizer = tokenizer_from_vocabulary({token: number for number, token in enumerate(vocabulary)})
    assert continuation_pieces(tokenizer).nonzero()[0].tolist() == [6, 8]
    tokenizer = tokenizer_from_vocabulary({token: number for number, token in enumerate(vocabulary[:6])})
    with pytest.raises(InputError, match="--whole_word_masking needs a vocabulary of word pieces"):
        continuation_pieces(tokenizer)
