import datasets
import pytest

from bertkernels.data import squad
from bertkernels.data.squad import read_squad, read_squad_hub
from bertkernels.errors import InputError

TEXT = "Rollo led the Normans."


def content(*questions, text=TEXT):
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": text, "qas": list(questions)}]}]}


def question(**changes):
    return {"id": "q1", "question": "Who led?", "answers": [{"text": "Rollo", "answer_start": 0}], **changes}


@pytest.fixture
def write(tmp_path):
    import json

    def make(value):
        path = tmp_path / "train.json"
        path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
        return path

    return make


def test_questions_and_answers(write):
    several = [{"text": "Rollo", "answer_start": 0}, {"text": "the Normans", "answer_start": 10}]
    path = write(content(question(answers=several), question(id="q2")))
    found = read_squad(path, unanswerable=False)
    assert found.contexts == [TEXT] and len(found) == 2 and len(found.part(0, 1)) == 1
    first = found.questions[0]
    assert (first.id, first.text, first.context, first.is_impossible) == ("q1", "Who led?", 0, False)
    assert first.answers == ("Rollo", "the Normans")
    assert (first.span.text, first.span.begin) == ("Rollo", 0)
    assert first.place == f"{path}, question q1"


def test_questions_without_an_answer(write):
    plausible = {"plausible_answers": [{"text": "Rollo", "answer_start": 0}]}
    path = write(content(question(), question(id="q2", answers=[], is_impossible=True, **plausible)))
    answered, impossible = read_squad(path, unanswerable=True).questions
    assert not answered.is_impossible
    assert impossible.is_impossible and impossible.answers == () and impossible.span is None
    with pytest.raises(InputError, match="question q2: is_impossible, which is SQuAD 2.0's"):
        read_squad(path, unanswerable=False)


def test_questions_to_answer(write):
    unlabelled = {"id": "q1", "question": "Who led?"}
    found = read_squad(write(content(unlabelled, question(id="q2"))), unanswerable=True, labelled=False)
    assert [(q.answers, q.span, q.is_impossible) for q in found.questions] == [((), None, False)] * 2
    with pytest.raises(InputError, match="question q1: 'answers' is missing"):
        read_squad(write(content(unlabelled)), unanswerable=False)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "train.json: not valid JSON"),
        ([], "train.json: expected an object, found list"),
        ({}, "train.json: 'data' is missing"),
        ({"data": []}, "train.json holds no questions"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"train.json, data\[0\], paragraphs\[0\]: 'context' is missing"),
        (content(question(), question()), "train.json, question q1: its id comes twice"),
        (content(question(id="")), r"qas\[0\]: 'id' is empty"),
        (content(question(question=7)), "question q1: 'question' must be text, found 7"),
        (content(question(answers="Rollo")), "question q1: 'answers' must be a list"),
        (content(question(answers=[])), "question q1: 'answers' is empty"),
        (content(question(answers=[{"text": "Rollo"}])), r"question q1, answers\[0\]: 'answer_start' is missing"),
        (
            content(question(answers=[{"text": "Rollo", "answer_start": True}])),
            r"answers\[0\]: 'answer_start' must be a whole number, found True",
        ),
        (
            content(question(answers=[{"text": "Rollo", "answer_start": 20}])),
            "'Rollo' at 20 lies outside its text of 22",
        ),
        (content(question(answers=[{"text": "", "answer_start": 0}])), "the answer '' at 0 lies outside"),
    ],
)
def test_bad_files_are_one_sentence(write, value, message):
    with pytest.raises(InputError, match=message) as error:
        read_squad(write(value), unanswerable=False)
    assert "\n" not in str(error.value)


def test_a_question_without_an_answer_must_say_so(write):
    with pytest.raises(InputError, match="question q1: no answers, and it is not called is_impossible"):
        read_squad(write(content(question(answers=[]))), unanswerable=True)


def test_missing_files(tmp_path):
    with pytest.raises(InputError, match="none.json: No such file"):
        read_squad(tmp_path / "none.json", unanswerable=False)


def test_hub(monkeypatch):
    rows = [
        {"id": "a", "context": TEXT, "question": "Who?", "answers": {"text": ["Rollo"], "answer_start": [0]}},
        {"id": "b", "context": TEXT, "question": "When?", "answers": {"text": [], "answer_start": []}},
    ]
    splits = {"train": datasets.Dataset.from_list(rows), "validation": datasets.Dataset.from_list(rows[:1])}
    monkeypatch.setattr(squad, "load_splits", lambda name, config: dict(splits))
    train, evaluation = read_squad_hub("squad_v2", None, unanswerable=True)
    assert train.contexts == [TEXT] and [q.is_impossible for q in train.questions] == [False, True]
    assert train.questions[0].span.text == "Rollo" and list(evaluation) == ["validation"]
    with pytest.raises(InputError, match="squad_v2/train, row 1: no answer"):
        read_squad_hub("squad_v2", None, unanswerable=False)


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_real_files(data_dir, version):
    for split in ("train", "dev"):
        path = data_dir / f"squad_v{version}" / f"{split}-v{version}.json"
        found = read_squad(path, unanswerable=version == "2.0")
        assert any(question.is_impossible for question in found.questions) == (version == "2.0")
        for question in found.questions:
            if question.span:
                begin = question.span.begin
                assert found.contexts[question.context][begin : begin + len(question.span.text)] == question.span.text
