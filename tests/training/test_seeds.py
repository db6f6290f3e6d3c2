import math
import statistics

import pytest

from bertkernels.training.results_table import TaskScore, average_scores, text_table, write_tsv
from bertkernels.training.seeds import over_seeds


def _run(score, **more):
    return {"eval_accuracy": score, "main_metric": "accuracy", "main_score": score, "eval_runtime": 1.0, **more}


def test_median_spread_and_best():
    scores = {3: 0.5, 4: 0.9, 5: 0.8, 6: 0.9}
    found = over_seeds({seed: _run(score) for seed, score in scores.items()})
    assert found["seeds"] == [3, 4, 5, 6]
    assert found["eval_accuracy"] == found["main_score"] == pytest.approx(0.85)
    assert (found["eval_accuracy_min"], found["eval_accuracy_max"]) == (0.5, 0.9)
    assert found["eval_accuracy_std"] == pytest.approx(statistics.stdev(scores.values()))
    assert (found["best_seed"], found["best_model"], found["main_metric"]) == (4, "seed-4", "accuracy")
    assert not any(name.startswith("eval_runtime") for name in found)


def test_one_seed_and_a_run_that_failed():
    assert over_seeds({1: _run(0.7)})["main_score_std"] == 0.0
    assert over_seeds({1: _run(math.nan), 2: _run(0.1)})["best_seed"] == 2


def test_table_of_tasks(tmp_path):
    several = over_seeds({1: _run(0.5), 2: _run(0.7), 3: _run(0.6)})
    scores = [TaskScore.of("RTE", several), TaskScore.of("WNLI", _run(0.4)), TaskScore.of("QNLI", _run(0.8))]
    assert average_scores(scores) == {
        "average": pytest.approx((0.6 + 0.4 + 0.8) / 3),
        "average_without_WNLI": pytest.approx(0.7),
    }
    assert list(average_scores(scores[:1])) == ["average"]
    lines = text_table(scores).splitlines()
    assert lines[1].split() == ["RTE", "accuracy", "60.00", "50.00", "70.00", "10.00", "3"]
    assert lines[-1].split() == ["average_without_WNLI", "70.00"]
    write_tsv(tmp_path / "table.tsv", scores)
    rows = [line.split("\t") for line in (tmp_path / "table.tsv").read_text().splitlines()]
    assert rows[0] == ["task", "metric", "score", "min", "max", "std", "runs"]
    assert rows[2] == ["WNLI", "accuracy", "40.00", "40.00", "40.00", "0.00", "1"]
