"""SQuAD 1.1 and 2.0 from their JSON files, read strictly, and from the hub."""

import json
from pathlib import Path

from bertkernels.data.hub import load_splits
from bertkernels.data.question_fields import Fields, checked, read_bytes
from bertkernels.data.questions import AnswerSpan, Question, QuestionSet
from bertkernels.errors import InputError


def read_squad(path: str | Path, unanswerable: bool, labelled: bool = True) -> QuestionSet:
    """Reads {"data": [{"paragraphs": [{"context", "qas": [{"id", "question", "answers", "is_impossible"}]}]}]}.

    Args:
        unanswerable: whether questions may have no answer (2.0); otherwise (1.1) each must have one.
        labelled: False: questions need no answers, and those there are are left out.

    Raises InputError naming file and question (or the place in the file) for a file that is missing, empty or not of
    this form, an id that comes twice, and an answer outside its text.
    """
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error
    contexts: list[str] = []
    questions: list[Question] = []
    for article in Fields(str(path), content).objects("data", may_be_empty=True):
        for paragraph in article.objects("paragraphs", may_be_empty=True):
            text = paragraph.text("context")
            for fields in paragraph.objects("qas", may_be_empty=True):
                fields = fields.called_by("id", str(path))
                spans, impossible = _labelled(fields, unanswerable) if labelled else ([], False)
                questions.append(_question(fields, text, len(contexts), spans, impossible))
            contexts.append(text)
    return checked(str(path), QuestionSet(contexts, questions))


def read_squad_hub(name: str, config: str | None, unanswerable: bool) -> tuple[QuestionSet, dict[str, QuestionSet]]:
    """Training questions, and evaluation questions by split, of a hub data set with SQuAD's columns."""
    sets = {}
    for split, data in load_splits(name, config).items():
        contexts: dict[str, int] = {}
        questions = []
        for number, row in enumerate(data):
            fields = Fields(f"{name}/{split}, row {number}", row)
            context = contexts.setdefault(fields.text("context"), len(contexts))
            answers = Fields(fields.place, fields.of("answers", dict, "an object"))
            texts, begins = answers.of("text", list, "a list"), answers.of("answer_start", list, "a list")
            spans = [AnswerSpan(text, begin) for text, begin in zip(texts, begins, strict=True)]
            if not spans and not unanswerable:
                raise InputError(f"{fields.place}: no answer, which is SQuAD 2.0's (--task_name squad_v2)")
            questions.append(_question(fields, fields.text("context"), context, spans, not spans))
        sets[split] = checked(f"{name}/{split}", QuestionSet(list(contexts), questions))
    return sets.pop("train"), sets


def _labelled(fields: Fields, unanswerable: bool) -> tuple[list[AnswerSpan], bool]:
    impossible = fields.flag("is_impossible")
    if impossible and not unanswerable:
        raise InputError(f"{fields.place}: is_impossible, which is SQuAD 2.0's (--task_name squad_v2)")
    answers = fields.objects("answers", may_be_empty=unanswerable)
    spans = [AnswerSpan(answer.text("text"), answer.number("answer_start")) for answer in answers]
    if not spans and not impossible:
        raise InputError(f"{fields.place}: no answers, and it is not called is_impossible")
    return ([] if impossible else spans), impossible  # the answers of impossible questions are only plausible


def _question(fields: Fields, text: str, context: int, spans: list[AnswerSpan], impossible: bool) -> Question:
    for span in spans:
        if not span.text or not 0 <= span.begin <= len(text) - len(span.text):
            raise InputError(
                f"{fields.place}: the answer {span.text!r:.80} at {span.begin} lies outside its text of {len(text)} "
                "characters"
            )
    answers = tuple(span.text for span in spans)
    first = spans[0] if spans else None
    return Question(fields.name("id"), fields.text("question"), context, answers, first, impossible, fields.place)
