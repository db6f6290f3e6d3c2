import gzip
import json

import pytest

from bertkernels.data.mrqa import read_mrqa
from bertkernels.errors import InputError

TEXT = "Rollo led the Normans. Rollo swore fealty."


def question(**changes):
    detected = [{"text": "Rollo", "char_spans": [[0, 4], [23, 27]], "token_spans": [[0, 0]]}]
    return {
        "qid": "q1",
        "question": "Who led?",
        "answers": ["rollo", "Rollo I"],
        "detected_answers": detected,
    } | changes


def lines(*questions):
    header = {"header": {"dataset": "NewsQA", "split": "train"}}
    return [header, {"id": "", "context": TEXT, "qas": list(questions)}]


@pytest.fixture
def write(tmp_path):
    def make(rows, name="train.jsonl"):
        text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
        data = text.encode()
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return tmp_path / name

    return make


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_questions_and_answers(write, name):
    path = write(lines(question(), question(qid="q2")), name)
    found = read_mrqa(path)
    assert found.contexts == [TEXT] and len(found) == 2
    first = found.questions[0]
    assert (first.id, first.answers, first.is_impossible) == ("q1", ("rollo", "Rollo I"), False)
    assert (first.span.text, first.span.begin) == ("Rollo", 0)
    assert first.place == f"{path}, line 2, question q1"


def test_questions_to_answer(write):
    found = read_mrqa(write(lines({"qid": "q1", "question": "Who?"})), labelled=False)
    assert (found.questions[0].answers, found.questions[0].span) == ((), None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["{"], "train.jsonl, line 1: not valid JSON"),
        (["[]"], "train.jsonl, line 1: expected an object, found list"),
        ([{"header": {}}], "train.jsonl holds no questions"),
        ([{"context": TEXT}], "line 1: 'qas' is missing"),
        (lines(question(), question()), "line 2, question q1: its id comes twice"),
        (lines(question(answers=[3])), "line 2, question q1: 'answers' must hold texts"),
        (lines(question(detected_answers=[])), "question q1: 'detected_answers' is empty"),
        (lines(question(detected_answers=[{"char_spans": [[0]]}])), "must hold pairs of a first and a last character"),
        (
            lines(question(detected_answers=[{"char_spans": [[40, 50]]}])),
            r"the span \[40, 50\] lies outside its text of 42",
        ),
    ],
)
def test_bad_files_are_one_sentence(write, rows, message):
    with pytest.raises(InputError, match=message):
        read_mrqa(write(rows))


def test_damaged_archives(tmp_path):
    (tmp_path / "train.jsonl.gz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="train.jsonl.gz: Not a gzipped file"):
        read_mrqa(tmp_path / "train.jsonl.gz")
