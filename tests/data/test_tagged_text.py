import json

import datasets
import pytest

from bertkernels.data import tagged_text
from bertkernels.data.tagged_text import read_tagged_hub, read_tagged_records
from bertkernels.errors import InputError


@pytest.fixture
def write(tmp_path):
    def to_file(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    return to_file


def test_records(write):
    path = write({"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}, {"tokens": ["c"], "ner_tags": ["O"]})
    text = read_tagged_records(path, None, None)
    assert [sentence.words for sentence in text.sentences] == [["a", "b"], ["c"]]
    assert [sentence.tags for sentence in text.sentences] == [["O", "B-X"], ["O"]]
    assert text.sentences[0].columns == [["a", "O"], ["b", "B-X"]]
    assert text.sentences[0].place(1) == f"{path}, line 1, word 2"
    assert len(text.part(0, 1)) == 1
    path = write({"text": ["a"], "y": ["O"]})
    assert read_tagged_records(path, "text", "y").sentences[0].tags == ["O"]
    assert read_tagged_records(path, "text", None, labelled=False).sentences[0].tags is None


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a"]}, "line 1: no list of tags called tags or .* among tokens"),
        ({"tags": ["a"]}, "line 1: no list of words called tokens or words among tags"),
        ({"tokens": "a", "tags": ["O"]}, "line 1: 'tokens' must be a list of words, found 'a'"),
        ({"tokens": ["a"], "tags": [1]}, r"line 1: 'tags' must be a list of tags, found \[1\]"),
        ({"tokens": ["a", "b"], "tags": ["O"]}, "line 1: 2 words but 1 tags"),
        ({"tokens": [], "tags": []}, "line 1: a sentence without words"),
    ],
)
def test_bad_records_are_named(write, row, message):
    with pytest.raises(InputError, match=message):
        read_tagged_records(write(row), None, None)


def test_hub_sets_have_names_for_numbers(monkeypatch):
    names = datasets.Sequence(datasets.ClassLabel(names=["O", "B-X"]))
    features = datasets.Features(tokens=datasets.Sequence(datasets.Value("string")), ner_tags=names)
    data = datasets.Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[1, 0]]}, features=features)
    monkeypatch.setattr(tagged_text, "load_splits", lambda name, config: {"train": data, "validation": data})
    train, evaluation = read_tagged_hub("some/set", None, None, ("ner_tags",))
    assert train.sentences[0].tags == ["B-X", "O"] and list(evaluation) == ["validation"]
    with pytest.raises(InputError, match="some/set/train, row 0: no list of tags called chunk_tags among tokens"):
        read_tagged_hub("some/set", None, None, ("chunk_tags",))
