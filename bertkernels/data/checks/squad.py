"""Checks a folder of SQuAD files in their original layout."""

import json
from pathlib import Path

from bertkernels.data.checks.report import FileCheck
from bertkernels.errors import InputError

# Questions of the published files (Rajpurkar et al. 2016, 2018).
PUBLISHED = {
    "train-v1.1.json": 87_599,
    "dev-v1.1.json": 10_570,
    "train-v2.0.json": 130_319,
    "dev-v2.0.json": 11_873,
}


def check_squad(folder: str | Path) -> list[FileCheck]:
    """The four published files (a folder usually has two): questions, and whether answers stand where they say."""
    return [_check(Path(folder) / file, file, published) for file, published in PUBLISHED.items()]


def _check(path: Path, file: str, published: int) -> FileCheck:
    if not path.is_file():
        return FileCheck(file, published=published)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        return FileCheck(file, problem=f"{path}: not valid JSON ({error})")
    except OSError as error:
        return FileCheck(file, problem=f"{path}: {error.strerror}")
    questions = unanswerable = misplaced = paragraphs = 0
    try:
        articles = _field(content, "data", list, str(path))
        for number, article in enumerate(articles, start=1):
            place = f"{path}, article {number}"
            for number, paragraph in enumerate(_field(article, "paragraphs", list, place), start=1):
                paragraphs += 1
                where = f"{place}, paragraph {number}"
                context = _field(paragraph, "context", str, where)
                for question in _field(paragraph, "qas", list, where):
                    questions += 1
                    impossible, wrong = _question(question, context, where)
                    unanswerable += impossible
                    misplaced += wrong
    except InputError as error:
        return FileCheck(file, problem=str(error))
    if not questions:
        return FileCheck(file, problem=f"{path} holds no questions")
    note = f"{len(articles):,} articles, {paragraphs:,} paragraphs"
    note += f", {unanswerable:,} without answer" if unanswerable else ""
    note += f", {misplaced:,} answers are not where answer_start says" if misplaced else ""
    return FileCheck(file, questions, published, note)


def _question(question: object, context: str, where: str) -> tuple[bool, int]:
    """Whether it has no answer, and how many of its answers do not stand where they say."""
    name = _field(question, "id", str, where)
    place = f"{where}, question {name}"
    _field(question, "question", str, place)
    answers = _field(question, "answers", list, place)
    impossible = question.get("is_impossible", False)
    if not answers and not impossible:
        raise InputError(f"{place}: no answers, and is_impossible is not true")
    if impossible:
        return True, 0
    wrong = 0
    for answer in answers:
        text, start = _field(answer, "text", str, place), _field(answer, "answer_start", int, place)
        wrong += context[start : start + len(text)] != text
    return False, wrong


def _field(value: object, name: str, kind: type, place: str):
    if not isinstance(value, dict) or not isinstance(value.get(name), kind):
        raise InputError(f"{place}: expected {name!r} ({kind.__name__})")
    return value[name]
