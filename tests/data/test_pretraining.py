import pytest

from bertkernels.data.example_builder import ExampleBuilder
from bertkernels.data.packing import Packing
from bertkernels.data.pretraining import pretraining_examples
from bertkernels.data.text_source import file_source
from bertkernels.data.tokenizer import train_tokenizer
from bertkernels.errors import InputError

SENTENCES = [f"row {i} of the table is read and then written" for i in range(300)]


@pytest.fixture
def tokenizer(tmp_path, monkeypatch):
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))
    return train_tokenizer(SENTENCES, 200, "rows")


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join("\n".join(SENTENCES[i : i + 7]) for i in range(0, 300, 7)))
    return file_source([str(path)])


def test_examples_hold_all_text_in_their_form(source, tokenizer, tmp_path):
    prepared = pretraining_examples(source, tokenizer, Packing(max_length=24))
    examples = prepared.train
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for example in examples:
        ids, first = example["input_ids"], example["first_length"]
        assert 2 < len(ids) <= 24
        assert ids[0] == cls and ids[-1] == sep and ids[first - 1] == sep
        assert ids.count(sep) == 1 + (first < len(ids))
    total = sum(len(example["input_ids"]) for example in examples)
    assert prepared.summary["splits"]["train"]["example_tokens"] == total
    two = sum(example["first_length"] < len(example["input_ids"]) for example in examples)
    assert 0.5 < two / len(examples) < 1


def test_examples_are_kept_by_all_that_shapes_them(source, tokenizer, tmp_path):
    def files():
        return set((tmp_path / "kept").iterdir())

    def make(packing="electra", max_length=24, seed=0):
        packing = Packing(packing, max_length)
        return pretraining_examples(source, tokenizer, packing, seed=seed, folder=tmp_path / "kept").train

    (tmp_path / "kept").mkdir()
    first = make()
    assert len(files()) == 1
    assert make()["input_ids"] == first["input_ids"] and len(files()) == 1
    for number, changes in enumerate(({"max_length": 32}, {"packing": "convbert"}, {"seed": 1}), start=2):
        assert make(**changes)["input_ids"] != first["input_ids"]
        assert len(files()) == number


def test_bad_sources(tokenizer, tmp_path):
    with pytest.raises(InputError, match="no such text file"):
        file_source([str(tmp_path / "absent.txt")])
    path = tmp_path / "empty.txt"
    path.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        pretraining_examples(file_source([str(path)]), tokenizer, Packing(max_length=24))


@pytest.mark.parametrize(("changes", "message"), [({"packing": "other"}, "packing"), ({"max_length": 4}, "max_length")])
def test_bad_builder_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        ExampleBuilder(**{"max_length": 16, "cls_id": 2, "sep_id": 3, "generator": None} | changes)
