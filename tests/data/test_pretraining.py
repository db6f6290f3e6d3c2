import pytest

from bertkernels.data.example_builder import ExampleBuilder
from bertkernels.data.pretraining import file_source, pretraining_examples, sentence_ids, token_count
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
    examples = pretraining_examples(source, tokenizer, 24)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for example in examples:
        ids, first = example["input_ids"], example["first_length"]
        assert 2 < len(ids) <= 24
        assert ids[0] == cls and ids[-1] == sep and ids[first - 1] == sep
        assert ids.count(sep) == 1 + (first < len(ids))
    assert token_count(examples) == sum(len(example["input_ids"]) for example in examples)
    two = sum(example["first_length"] < len(example["input_ids"]) for example in examples)
    assert 0.5 < two / len(examples) < 1


def test_examples_are_kept_by_all_that_shapes_them(source, tokenizer, tmp_path):
    def files():
        return set((tmp_path / "kept").iterdir())

    def make(**changes):
        settings = {"max_length": 24, "packing": "electra", "seed": 0} | changes
        return pretraining_examples(source, tokenizer, settings.pop("max_length"), folder=tmp_path / "kept", **settings)

    (tmp_path / "kept").mkdir()
    first = make()
    assert len(files()) == 1
    assert make()["input_ids"] == first["input_ids"] and len(files()) == 1
    for number, changes in enumerate(({"max_length": 32}, {"packing": "convbert"}, {"seed": 1}), start=2):
        assert make(**changes)["input_ids"] != first["input_ids"]
        assert len(files()) == number


def test_special_tokens_in_text_are_text(tokenizer):
    (ids,) = sentence_ids(tokenizer, ["[MASK] and [SEP]"])
    assert not {tokenizer.mask_token_id, tokenizer.sep_token_id} & set(ids)


def test_bad_sources(tokenizer, tmp_path):
    with pytest.raises(InputError, match="no such text file"):
        file_source([str(tmp_path / "absent.txt")])
    path = tmp_path / "empty.txt"
    path.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        pretraining_examples(file_source([str(path)]), tokenizer, 24)


@pytest.mark.parametrize(("changes", "message"), [({"packing": "other"}, "packing"), ({"max_length": 4}, "max_length")])
def test_bad_builder_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        ExampleBuilder(**{"max_length": 16, "cls_id": 2, "sep_id": 3, "generator": None} | changes)
