"""Questions with several answers to choose from: SWAG's and RACE's files, records of other sets, hub names."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import datasets

from bertkernels.data.hub import load_splits
from bertkernels.data.tables import Record, read_table
from bertkernels.errors import InputError

_ENDING = re.compile(r"ending(\d+)")
_ANSWER_NAMES = ("label", "answer", "answerKey")
_BLANK = re.compile(r"(?<!\w)_+(?!\w)")  # where the answer belongs in a question of RACE's


@dataclass(frozen=True)
class ChoiceQuestion:
    """A text, and what may come with it.

    Attributes:
        id: what predictions are told apart by.
        context: the text that all choices share, perhaps empty.
        choices: each choice whole: SWAG's beginning and ending, RACE's question and answer.
        names: what the set calls the choices, in their order: "0", "1" ... or "A", "B" ...
        answer: the number of the right one; None where it is unknown.
        place: where it stands, for messages.
    """

    id: str
    context: str
    choices: list[str]
    names: list[str]
    answer: int | None
    place: str


@dataclass(frozen=True)
class ChoiceQuestions:
    """Questions that all have one number of choices."""

    questions: list[ChoiceQuestion]

    def __len__(self) -> int:
        return len(self.questions)

    def part(self, begin: int, end: int) -> "ChoiceQuestions":
        """The questions from number `begin` to before `end`."""
        return ChoiceQuestions(self.questions[begin:end])


def read_choices(path: str | Path, labelled: bool = True) -> ChoiceQuestions:
    """Reads a table (.csv, .tsv, .json, .jsonl), or a folder of RACE's, whose .txt files at any depth are JSON objects.

    What a record holds, its fields tell:
        SWAG: sent1, sent2, ending0, ending1 ... and label, a number from 0.
        RACE: article, and a question, its options and answer (A, B ...), or lists: questions, options, answers.
        others: choices (a list, or {"text": [], "label": []}), perhaps context and question, and a label, answer or
            answerKey: a choice's number from 0, its name under "label", or a letter.
    A `_` in a question stands for the answer.

    Args:
        labelled: False: answers are not asked for.

    Raises InputError naming file and record for what is missing or of another form, an answer that is none of the
    choices, and questions with different numbers of choices.
    """
    path = Path(path)
    records = _race_folder(path) if path.is_dir() else read_table(path)
    return _questions(str(path), records, labelled)


def read_choices_hub(name: str, config: str | None) -> tuple[ChoiceQuestions, dict[str, ChoiceQuestions]]:
    """Training questions, and evaluation questions by split, of a hub data set; errors as `read_choices`."""
    sets = {
        split: _questions(f"{name}/{split}", _hub_records(f"{name}/{split}", data), labelled=True)
        for split, data in load_splits(name, config).items()
    }
    return sets.pop("train"), sets


def _hub_records(source: str, data: datasets.Dataset) -> Iterator[Record]:
    for number, row in enumerate(data):
        yield Record(f"{source}, row {number}", row)


def _race_folder(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.rglob("*.txt")):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: not valid JSON ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: expected a JSON object, found {type(content).__name__}")
        yield Record(str(path), {"id": str(path.relative_to(folder))} | content)


def _questions(source: str, records: Iterable[Record], labelled: bool) -> ChoiceQuestions:
    questions = [
        question for number, record in enumerate(records) for question in _of_record(record, str(number), labelled)
    ]
    if not questions:
        raise InputError(f"{source} holds no questions")
    for question in questions:
        if len(question.choices) != len(questions[0].choices):
            raise InputError(
                f"{question.place}: {len(question.choices)} choices, but {len(questions[0].choices)} at "
                f"{questions[0].place}; all questions must have one number of them"
            )
    return ChoiceQuestions(questions)


def _of_record(record: Record, number: str, labelled: bool) -> Iterator[ChoiceQuestion]:
    fields = record.fields
    endings = sorted((name for name in fields if _ENDING.fullmatch(name)), key=lambda name: int(name[6:]))
    if endings:
        begin = _text(record, "sent2")
        choices = [f"{begin} {_text(record, ending)}".strip() for ending in endings]
        yield _question(record, number, _text(record, "sent1"), choices, None, fields.get("label"), labelled)
    elif "article" in fields and "questions" in fields:
        yield from _race_article(record, labelled)
    elif "article" in fields:
        choices = _joined(_text(record, "question"), _texts(record, "options"))
        id, article = f"{fields.get('example_id', number)}-{number}", _text(record, "article")
        yield _question(record, id, article, choices, _letters(choices), fields.get("answer"), labelled)
    else:
        yield _general(record, number, labelled)


def _race_article(record: Record, labelled: bool) -> Iterator[ChoiceQuestion]:
    """The questions on one of RACE's texts."""
    article, asked = _text(record, "article"), _texts(record, "questions")
    options = record.fields.get("options")
    answers = record.fields.get("answers") if labelled else [None] * len(asked)
    for name, values in (("options", options), ("answers", answers)):
        if not isinstance(values, list) or len(values) != len(asked):
            raise InputError(f"{record.place}: {name!r} must be a list of {len(asked)}, one for each question")
    for number, (question, texts, answer) in enumerate(zip(asked, options, answers, strict=True)):
        own = Record(f"{record.place}, question {number + 1}", {"options": texts})
        choices = _joined(question, _texts(own, "options"))
        id = f"{record.fields.get('id', record.place)}-{number}"
        yield _question(own, id, article, choices, _letters(choices), answer, labelled)


def _general(record: Record, number: str, labelled: bool) -> ChoiceQuestion:
    fields = record.fields
    if "choices" not in fields:
        raise InputError(
            f"{record.place}: no choices (choices, options, or ending0, ending1 ...) among {', '.join(fields)}"
        )
    choices, names = fields["choices"], None
    if isinstance(choices, dict):
        parts = Record(record.place, choices)
        choices, names = _texts(parts, "text"), _texts(parts, "label")
    else:
        choices = _texts(record, "choices")
    context = _text(record, "context") if "context" in fields else ""
    if "question" in fields:
        asked = _text(record, "question")
        if context:
            choices = _joined(asked, choices)
        else:
            context = asked
    answer = next((fields[name] for name in _ANSWER_NAMES if name in fields), None)
    return _question(record, str(fields.get("id", number)), context, choices, names, answer, labelled)


def _question(
    record: Record,
    id: str,
    context: str,
    choices: list[str],
    names: list[str] | None,
    answer: object,
    labelled: bool,
) -> ChoiceQuestion:
    if len(choices) < 2:
        raise InputError(f"{record.place}: {len(choices)} choices, expected at least 2")
    if names is None:
        letters = _letters(choices)
        names = letters if answer in letters else [str(number) for number in range(len(choices))]
    if len(names) != len(choices):
        raise InputError(f"{record.place}: {len(choices)} choices but {len(names)} labels of them")
    if not labelled:
        return ChoiceQuestion(id, context, choices, names, None, record.place)
    if isinstance(answer, bool) or str(answer).strip() not in names:
        raise InputError(f"{record.place}: the answer must be one of {', '.join(names)}, found {answer!r}")
    return ChoiceQuestion(id, context, choices, names, names.index(str(answer).strip()), record.place)


def _letters(choices: list[str]) -> list[str]:
    return [chr(ord("A") + number) for number in range(len(choices))]


def _joined(question: str, answers: list[str]) -> list[str]:
    parts = _BLANK.split(question)
    if len(parts) > 1:
        return [answer.join(parts) for answer in answers]
    return [f"{question} {answer}" for answer in answers]


def _text(record: Record, name: str) -> str:
    value = record.fields.get(name)
    if not isinstance(value, str):
        raise InputError(f"{record.place}: {name!r} must be text, found {value!r:.80}")
    return value


def _texts(record: Record, name: str) -> list[str]:
    value = record.fields.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InputError(f"{record.place}: {name!r} must be a list of texts, found {value!r:.80}")
    return value
