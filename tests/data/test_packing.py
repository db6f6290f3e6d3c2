"""Pairs for next-sentence prediction, and full sentences."""

import random

import pytest

from bertkernels.data.full_sentences import FullSentences
from bertkernels.data.packing import PACKINGS, SHORTEST, Packing, make_packer
from bertkernels.data.sentence_pairs import SentencePairs

CLS, SEP = 1, 2


def _documents(seed=0, count=30, longest=40):
    """Documents whose tokens tell where they stand: all are different, and in order."""
    generator = random.Random(seed)
    documents, token = [], 10
    for _ in range(count):
        document = []
        for _ in range(generator.randint(1, 12)):
            size = generator.randint(1, longest)
            document.append(list(range(token, token + size)))
            token += size
        token += 1  # a gap: nothing follows on from the document before
        documents.append(document)
    return documents


def _pack(packer, documents):
    examples = []
    for document in documents:
        for sentence in document:
            examples += packer.add(sentence)
        examples += packer.end_document()
    return [*examples, *packer.end()]


def _segments(example):
    ids, first = example.input_ids, example.first_length
    assert ids[0] == CLS and ids[first - 1] == SEP and ids[-1] == SEP
    return ids[1 : first - 1], ids[first:-1]


@pytest.mark.parametrize("name", PACKINGS)
@pytest.mark.parametrize("max_length", [SHORTEST, 64])
def test_every_packing_fills_examples_and_loses_nothing_unsaid(tmp_path, name, max_length):
    documents = _documents()
    packing = Packing(name, max_length, dupe_factor=1)
    packer = make_packer(packing, CLS, SEP, random.Random(0), tmp_path)
    examples = _pack(packer, documents)
    assert all(3 <= len(example.input_ids) <= max_length for example in examples)
    assert all((example.next_sentence_label is not None) == (name == "bert_pairs") for example in examples)
    if name != "bert_pairs":
        kept = [token for example in examples for token in example.input_ids if token not in (CLS, SEP)]
        total = sum(len(sentence) for document in documents for sentence in document)
        assert len(kept) == len(set(kept)) == total - packer.cut_off
    assert list(tmp_path.iterdir()) == []


def test_pairs_follow_or_come_from_another_document(tmp_path):
    documents = _documents(count=60)
    home = {token: number for number, doc in enumerate(documents) for sentence in doc for token in sentence}
    packer = SentencePairs(64, CLS, SEP, random.Random(0), tmp_path, passes=4, short_seq_prob=0.1)
    examples = _pack(packer, documents)
    chunks = {0: 0, 1: 0}
    for example in examples:
        first, second = _segments(example)
        assert first and second
        assert all(b == a + 1 for part in (first, second) for a, b in zip(part, part[1:], strict=False))
        if example.next_sentence_label == 0:
            assert home[first[0]] == home[second[0]] and second[0] > first[-1]
        else:
            assert home[first[0]] != home[second[0]]
        chunks[example.next_sentence_label] += 1
    # A half at random, and every chunk of one sentence.
    assert 0.5 < chunks[1] / len(examples) < 0.7
    lengths = [len(example.input_ids) for example in examples]
    assert sum(length == 64 for length in lengths) > len(examples) / 3


def test_pairs_that_follow_touch_where_nothing_was_cut(tmp_path):
    packer = SentencePairs(500, CLS, SEP, random.Random(0), tmp_path, passes=3, short_seq_prob=0.0)
    touching = 0
    for example in _pack(packer, _documents(longest=8)):
        first, second = _segments(example)
        if example.next_sentence_label == 0:
            assert second[0] == first[-1] + 1
            touching += 1
    assert touching > 10 and packer.cut_off == 0


def test_every_sentence_is_a_first_or_second_in_each_pass(tmp_path):
    """Sentences that a random second took the place of are used again."""
    documents = _documents(longest=6)
    packer = SentencePairs(40, CLS, SEP, random.Random(1), tmp_path, passes=1, short_seq_prob=0.0)
    seen = set()
    for example in _pack(packer, documents):
        first, second = _segments(example)
        seen.update(first)
        if example.next_sentence_label == 0:
            seen.update(second)
    tokens = sum(len(sentence) for document in documents for sentence in document)
    assert len(seen) >= tokens - packer.cut_off


def test_passes_differ_and_a_seed_repeats_them(tmp_path):
    def make(seed, passes):
        packer = SentencePairs(64, CLS, SEP, random.Random(seed), tmp_path, passes)
        return [example.input_ids for example in _pack(packer, _documents())]

    two = make(0, 2)
    assert two == make(0, 2) != make(1, 2)
    assert two[: len(make(0, 1))] == make(0, 1)
    assert two[len(make(0, 1)) :] != make(0, 1)


def test_short_pairs_are_as_many_as_asked_for(tmp_path):
    documents = [[[10, 11, 12, 13]] * 200 for _ in range(200)]
    lengths = {}
    for share in (0.0, 0.5):
        packer = SentencePairs(64, CLS, SEP, random.Random(0), tmp_path, 1, share)
        lengths[share] = [len(example.input_ids) for example in _pack(packer, documents)]
    assert min(lengths[0.0][:-200]) > 2 and sum(length < 40 for length in lengths[0.0]) < len(lengths[0.0]) / 3
    assert sum(length < 40 for length in lengths[0.5]) > len(lengths[0.5]) / 3


def test_one_document_is_its_own_partner(tmp_path):
    packer = SentencePairs(16, CLS, SEP, random.Random(0), tmp_path, passes=1)
    examples = _pack(packer, [[[10, 11], [12], [13]]])
    assert examples and all(3 <= len(example.input_ids) <= 16 for example in examples)


def test_full_sentences_across_documents_and_within():
    documents = [[[10, 11, 12], [13, 14]], [[15]], [[16, 17]]]
    across = _pack(FullSentences(10, CLS, SEP, across=True), documents)
    assert [example.input_ids for example in across] == [[CLS, 10, 11, 12, 13, 14, SEP, 15, SEP], [CLS, 16, 17, SEP]]
    within = _pack(FullSentences(10, CLS, SEP, across=False), documents)
    assert [example.input_ids for example in within] == [
        [CLS, 10, 11, 12, 13, 14, SEP],
        [CLS, 15, SEP],
        [CLS, 16, 17, SEP],
    ]
    assert all(example.first_length == len(example.input_ids) for example in across + within)


def test_a_sentence_longer_than_an_example_goes_on_in_the_next():
    packed = _pack(FullSentences(8, CLS, SEP, across=True), [[[9], list(range(10, 24))], [[30]]])
    assert [example.input_ids[1:-1] for example in packed] == [
        [9],
        [10, 11, 12, 13, 14, 15],
        [16, 17, 18, 19, 20, 21],
        [22, 23, SEP, 30],
    ]
