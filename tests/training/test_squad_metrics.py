import itertools
import random

import pytest

from bertkernels.data.questions import Question, QuestionSet
from bertkernels.training.squad_metrics import best_threshold, squad_v1_metrics, squad_v2_metrics, squad_v2_scores


def questions(**answers):
    asked = [Question(i, "?", 0, tuple(given), None, not given, f"file, question {i}") for i, given in answers.items()]
    return QuestionSet([""], asked)


ASKED = questions(a=["the cat", "a black cat"], b=["dog"], c=[], d=[])


def test_missing_predictions_count_as_wrong_and_are_named(caplog):
    metrics = squad_v2_metrics(ASKED, {"a": "cat", "c": ""}, {"a": 0.0, "c": 0.0})
    assert metrics["exact"] == metrics["f1"] == metrics["HasAns_exact"] == metrics["NoAns_exact"] == 50
    assert metrics["total"] == 4 and metrics["best_exact"] == 50
    assert "2 of 4 questions have no prediction and count as wrong, the first is file, question b" in caplog.text
    answered = questions(a=["the cat", "a black cat"], b=["dog"])
    assert squad_v1_metrics(answered, {"a": "black cat"}) == {"exact_match": 50, "f1": 50}
    assert squad_v1_metrics(answered, {}) == {"exact_match": 0, "f1": 0}


def test_best_answer_counts():
    answered = questions(a=["the cat", "a black cat"])
    assert squad_v1_metrics(answered, {"a": "black dog"}) == {"exact_match": 0, "f1": 50}


def test_all_questions_of_one_kind():
    metrics = squad_v2_metrics(questions(a=["cat"]), {"a": "cat"})
    assert set(metrics) == {"exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total"}


def test_best_threshold_is_the_best_of_all_thresholds():
    generator = random.Random(0)
    for _ in range(20):
        asked = questions(**{f"q{i}": generator.choice([["cat"], ["black cat"], []]) for i in range(8)})
        said = {f"q{i}": generator.choice(["cat", "dog", ""]) for i in range(8)}
        odds = {f"q{i}": generator.choice([-2.0, 0.5, 1.0]) + i / 100 for i in range(8)}
        for scores in squad_v2_scores(asked, said):
            best, where = best_threshold(asked, said, scores, odds)

            def at(threshold, scores=scores, asked=asked, odds=odds):
                found = [
                    scores[question.id] if odds[question.id] <= threshold else not question.answers
                    for question in asked.questions
                ]
                return 100 * sum(found) / len(found)

            assert best == pytest.approx(max(map(at, itertools.chain([-9], odds.values()))))
            if best > at(-9):
                assert at(where) == pytest.approx(best)
