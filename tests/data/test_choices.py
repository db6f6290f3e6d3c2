import json

import datasets
import pytest

from bertkernels.data import choices
from bertkernels.data.choices import read_choices, read_choices_hub
from bertkernels.data.lengths import example_lengths
from bertkernels.errors import InputError

ARTICLE = {
    "article": "Ann has a cat.",
    "questions": ["What has Ann?", "Ann has a _ ."],
    "options": [["a dog", "a cat"], ["cat", "dog"]],
    "answers": ["B", "A"],
    "id": "middle1.txt",
}


@pytest.fixture
def write(tmp_path):
    def to_file(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


def test_swag(write):
    rows = [
        ",video-id,sent1,sent2,gold-source,ending0,ending1,ending2,label",
        '0,v1,"A man sits, and waits.",He,gold,stands up.,flies.,"sings, badly.",2',
        "1,v2,A dog runs.,It,gold,barks.,reads.,writes.,0",
    ]
    found = read_choices(write("train.csv", "\n".join(rows) + "\n")).questions
    assert found[0].context == "A man sits, and waits."
    assert found[0].choices == ["He stands up.", "He flies.", "He sings, badly."]
    assert [question.answer for question in found] == [2, 0] and found[1].names == ["0", "1", "2"]
    unlabelled = [row.rsplit(",", 1)[0] for row in rows]
    path = write("test.csv", "\n".join(unlabelled) + "\n")
    assert [question.answer for question in read_choices(path, labelled=False).questions] == [None, None]
    with pytest.raises(InputError, match="test.csv, line 2: the answer must be one of 0, 1, 2, found None"):
        read_choices(path)


def test_race_in_a_folder_and_in_lines(write, tmp_path):
    write("race/middle/1.txt", ARTICLE)
    write("race/high/7.txt", {**ARTICLE, "id": "high7.txt"})
    found = read_choices(tmp_path / "race").questions
    assert [question.id for question in found] == ["high7.txt-0", "high7.txt-1", "middle1.txt-0", "middle1.txt-1"]
    assert found[0].choices == ["What has Ann? a dog", "What has Ann? a cat"]
    assert found[1].choices == ["Ann has a cat .", "Ann has a dog ."]
    assert [question.answer for question in found] == [1, 0, 1, 0] and found[0].names == ["A", "B"]
    lines = write("dev.jsonl", json.dumps(ARTICLE) + "\n")
    assert [question.choices for question in read_choices(lines).questions] == [q.choices for q in found[:2]]
    hidden = {key: value for key, value in ARTICLE.items() if key != "answers"}
    found = read_choices(write("test.jsonl", json.dumps(hidden) + "\n"), labelled=False).questions
    assert [question.answer for question in found] == [None, None] and found[0].names == ["A", "B"]
    one = {"example_id": "high7.txt", "article": "x", "question": "y", "options": ["p", "q"], "answer": "B"}
    found = read_choices(write("one.json", [one])).questions
    assert found[0].answer == 1 and found[0].choices == ["y p", "y q"]


def test_blanks_stand_for_answers(write):
    texts = {}
    for question in ("He likes _.", "_ and ___ ?", "What is snake_case"):
        row = {"context": "c", "question": question, "choices": ["x", "\\1"], "label": 0}
        texts[question] = read_choices(write("rows.jsonl", json.dumps(row) + "\n")).questions[0].choices
    assert list(texts.values()) == [
        ["He likes x.", "He likes \\1."],
        ["x and x ?", "\\1 and \\1 ?"],
        ["What is snake_case x", "What is snake_case \\1"],
    ]


@pytest.mark.parametrize(
    ("row", "context", "texts", "answer"),
    [
        ({"context": "c", "question": "q", "choices": ["x", "y"], "label": 1}, "c", ["q x", "q y"], 1),
        ({"question": "q", "choices": ["x", "y"], "answer": "B"}, "q", ["x", "y"], 1),
        ({"context": "c", "choices": ["x", "y"], "label": "0"}, "c", ["x", "y"], 0),
        ({"choices": ["x", "y"], "label": 0}, "", ["x", "y"], 0),
        ({"question": "q", "choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, "q", ["x", "y"], 1),
    ],
)
def test_other_records(write, row, context, texts, answer):
    found = read_choices(write("rows.jsonl", json.dumps(row) + "\n")).questions[0]
    assert (found.context, found.choices, found.answer) == (context, texts, answer)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "a"}], "record 1: no choices .* among text"),
        ([{"choices": ["x"], "label": 0}], "record 1: 1 choices, expected at least 2"),
        ([{"choices": ["x", 2], "label": 0}], "'choices' must be a list of texts"),
        ([{"choices": ["x", "y"], "label": 2}], "the answer must be one of 0, 1, found 2"),
        ([{"choices": ["x", "y"], "label": -1}], "the answer must be one of 0, 1, found -1"),
        ([{"choices": ["x", "y"], "label": True}], "the answer must be one of 0, 1, found True"),
        ([{"choices": {"text": ["x", "y"], "label": ["A"]}, "label": "A"}], "2 choices but 1 labels of them"),
        (
            [{"choices": ["x", "y"], "label": 0}, {"choices": ["x", "y", "z"], "label": 0}],
            "record 2: 3 choices, but 2 at .*record 1; all questions must have one number of them",
        ),
        ([{**ARTICLE, "answers": ["B"]}], "'answers' must be a list of 2, one for each question"),
        ([{**ARTICLE, "answers": ["B", "C"]}], "record 1, question 2: the answer must be one of A, B, found 'C'"),
        ([{**ARTICLE, "questions": [], "options": [], "answers": []}], "holds no questions"),
    ],
)
def test_bad_records_are_named(write, rows, message):
    with pytest.raises(InputError, match=message):
        read_choices(write("rows.json", rows))


def test_bad_folders_are_named(write, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no questions"):
        read_choices(tmp_path / "empty")
    write("race/1.txt", "{")
    with pytest.raises(InputError, match="1.txt: not valid JSON"):
        read_choices(tmp_path / "race")


def test_hub_sets(monkeypatch):
    rows = [{"sent1": "a", "sent2": "b", "ending0": "c", "ending1": "d", "label": 1}]
    monkeypatch.setattr(choices, "load_splits", lambda name, config: {"train": rows, "validation": rows})
    train, evaluation = read_choices_hub("some/set", None)
    assert train.questions[0].choices == ["b c", "b d"] and evaluation["validation"].questions[0].answer == 1


def test_lengths_of_nested_examples():
    nested = datasets.Dataset.from_dict({"input_ids": [[[1, 2], [3]], [[4], [5, 6, 7]], [[8], [9]]]})
    assert example_lengths(nested).tolist() == [3, 4, 2]
    assert example_lengths(nested.select([2, 0])).tolist() == [2, 3]
    flat = datasets.Dataset.from_dict({"input_ids": [[1, 2], [3]]})
    assert example_lengths(flat).tolist() == [2, 1]
    both = datasets.concatenate_datasets([nested, nested])
    assert example_lengths(both).tolist() == [3, 4, 2] * 2
