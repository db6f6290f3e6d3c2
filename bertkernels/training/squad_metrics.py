"""The official metrics of SQuAD 1.1, SQuAD 2.0 and MRQA: exact match and F1 of words, in percent."""

import logging
import re
import string
from collections import Counter
from collections.abc import Mapping

from bertkernels.data.questions import QuestionSet

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_logger = logging.getLogger(__name__)


def normalize_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, one space between words."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> int:
    """1 where both are the same once normalised, else 0."""
    return int(normalize_answer(prediction) == normalize_answer(answer))


def f1(prediction: str, answer: str, empty: float) -> float:
    """The words' F1, each counted as often as it occurs; `empty` where neither has any (1 in SQuAD 2.0, else 0)."""
    said, true = normalize_answer(prediction).split(), normalize_answer(answer).split()
    if not said and not true:
        return empty
    common = sum((Counter(said) & Counter(true)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(said), common / len(true)
    return 2 * precision * recall / (precision + recall)


def squad_v1_metrics(questions: QuestionSet, predictions: Mapping[str, str]) -> dict[str, float]:
    """`exact_match` and `f1`, the mean over questions of the best over their answers; SQuAD 1.1 and MRQA.

    A question without a prediction counts as wrong, with a warning.
    """
    _warn_of_missing(questions, predictions)
    exact = total = 0.0
    for question in questions.questions:
        if question.id in predictions:
            said = predictions[question.id]
            exact += max(exact_match(said, answer) for answer in question.answers)
            total += max(f1(said, answer, empty=0) for answer in question.answers)
    count = max(len(questions), 1)
    return {"exact_match": 100 * exact / count, "f1": 100 * total / count}


def squad_v2_scores(
    questions: QuestionSet, predictions: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, float]]:
    """Exact match and F1 of each question with a prediction, by id: the best over its answers, 0 to 1.

    The answer to a question without one is an empty text.
    """
    exact, overlap = {}, {}
    for question in questions.questions:
        if question.id in predictions:
            said = predictions[question.id]
            answers = [answer for answer in question.answers if normalize_answer(answer)] or [""]
            exact[question.id] = max(exact_match(said, answer) for answer in answers)
            overlap[question.id] = max(f1(said, answer, empty=1) for answer in answers)
    return exact, overlap


def squad_v2_metrics(
    questions: QuestionSet,
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> dict[str, float]:
    """SQuAD 2.0's: `exact`, `f1`, `total`, those of questions with (`HasAns_`) and without an answer (`NoAns_`).

    A question without a prediction counts as wrong, with a warning, where the official script stops with an error.

    Args:
        predictions: an answer's text by question, empty for none.
        null_odds: adds `best_exact`, `best_f1` and the thresholds that give them (`_thresh`).
        threshold: with null odds above it a prediction counts as none.
    """
    _warn_of_missing(questions, predictions)
    odds = {question: 0.0 for question in predictions} if null_odds is None else null_odds
    scores = squad_v2_scores(questions, predictions)
    exact, overlap = (_thresholded(questions, raw, odds, threshold) for raw in scores)
    with_answer = [question.id for question in questions.questions if question.answers]
    without = [question.id for question in questions.questions if not question.answers]
    metrics = _means(exact, overlap, "")
    for prefix, ids in (("HasAns_", with_answer), ("NoAns_", without)):
        if ids:
            metrics |= _means({i: exact[i] for i in ids}, {i: overlap[i] for i in ids}, prefix)
    if null_odds is not None:
        for name, raw in zip(("exact", "f1"), scores, strict=True):
            best, where = best_threshold(questions, predictions, raw, null_odds)
            metrics |= {f"best_{name}": best, f"best_{name}_thresh": where}
    return metrics


def best_threshold(
    questions: QuestionSet, predictions: Mapping[str, str], scores: Mapping[str, float], null_odds: Mapping[str, float]
) -> tuple[float, float]:
    """The best mean score, in percent, that a threshold on null odds can give, and the lowest such threshold.

    Args:
        scores: of each prediction by itself, 0 to 1.
    """
    has_answer = {question.id: bool(question.answers) for question in questions.questions}
    answered = [question for question in has_answer if question in predictions]
    # below every threshold all are unanswered, which is right for those that have no answer
    score = best = float(sum(not has_answer[question] for question in answered))
    where = 0.0
    for question in sorted(answered, key=lambda question: null_odds[question]):
        if has_answer[question]:
            score += scores[question]
        elif predictions[question]:
            score -= 1
        if score > best:
            best, where = score, null_odds[question]
    return 100 * best / max(len(has_answer), 1), where


def _thresholded(
    questions: QuestionSet, scores: Mapping[str, float], null_odds: Mapping[str, float], threshold: float
) -> dict[str, float]:
    """Scores once predictions with higher odds count as none; 0 where there is no prediction."""
    found = {}
    for question in questions.questions:
        score = scores.get(question.id, 0)
        if question.id in scores and null_odds[question.id] > threshold:
            score = float(not question.answers)
        found[question.id] = score
    return found


def _means(exact: Mapping[str, float], overlap: Mapping[str, float], prefix: str) -> dict[str, float]:
    count = len(exact)
    return {
        f"{prefix}exact": 100 * sum(exact.values()) / count,
        f"{prefix}f1": 100 * sum(overlap.values()) / count,
        f"{prefix}total": count,
    }


def _warn_of_missing(questions: QuestionSet, predictions: Mapping[str, str]) -> None:
    missing = [question for question in questions.questions if question.id not in predictions]
    if missing:
        _logger.warning(
            "%d of %d questions have no prediction and count as wrong, the first is %s",
            len(missing),
            len(questions),
            missing[0].place,
        )
