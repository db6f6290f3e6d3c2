"""Question answering in the form of the MRQA 2019 shared task: JSON lines, a text and its questions on each."""

import json
from pathlib import Path

from bertkernels.data.question_fields import Fields, checked, read_bytes
from bertkernels.data.questions import AnswerSpan, Question, QuestionSet
from bertkernels.errors import InputError


def read_mrqa(path: str | Path, labelled: bool = True) -> QuestionSet:
    """Reads .jsonl or .jsonl.gz: {"context", "qas": [{"qid", "question", "answers", "detected_answers"}]} a line.

    Lines with a "header" are passed over. The answer to learn is the first that was detected, at its first place; the
    accepted ones are "answers". Where `labelled` is False questions need neither. Raises InputError naming file, line
    and question as `read_squad` does.
    """
    contexts: list[str] = []
    questions: list[Question] = []
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            record = Fields(place, json.loads(line))
        except ValueError as error:
            raise InputError(f"{place}: not valid JSON ({error})") from error
        if "header" in record:
            continue
        context = record.text("context")
        for fields in record.objects("qas"):
            fields = fields.called_by("qid", place)
            answers = _answers(fields) if labelled else ()
            span = _detected(fields, context) if labelled else None
            question = Question(
                fields.name("qid"), fields.text("question"), len(contexts), answers, span, False, fields.place
            )
            questions.append(question)
        contexts.append(context)
    return checked(str(path), QuestionSet(contexts, questions))


def _answers(fields: Fields) -> tuple[str, ...]:
    answers = fields.of("answers", list, "a list")
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{fields.place}: 'answers' must hold texts, found {answers!r:.80}")
    return tuple(answers)


def _detected(fields: Fields, context: str) -> AnswerSpan:
    detected = next(fields.objects("detected_answers"))
    spans = detected.of("char_spans", list, "a list")
    span = spans[0] if spans else None
    if not (isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span)):
        raise InputError(f"{detected.place}: 'char_spans' must hold pairs of a first and a last character")
    begin, last = span
    if not 0 <= begin <= last < len(context):
        raise InputError(f"{detected.place}: the span {span} lies outside its text of {len(context)} characters")
    return AnswerSpan(context[begin : last + 1], begin)
