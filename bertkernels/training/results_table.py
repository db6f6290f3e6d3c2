"""The table of several tasks' scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertkernels.errors import InputError

_COLUMNS = ("task", "metric", "score", "min", "max", "std", "runs")


@dataclass(frozen=True)
class TaskScore:
    """A task's main metric: of one run, or the median, lowest, highest and standard deviation of several."""

    task: str
    metric: str
    score: float
    lowest: float
    highest: float
    deviation: float
    runs: int

    @classmethod
    def of(cls, task: str, results: Mapping[str, object]) -> "TaskScore":
        """From the results of a run or of `over_seeds`."""
        if "main_score" not in results:
            raise InputError(f"{task} was not evaluated: it has no score to compare")
        score = results["main_score"]
        return cls(
            task,
            results["main_metric"],
            score,
            results.get("main_score_min", score),
            results.get("main_score_max", score),
            results.get("main_score_std", 0.0),
            len(results.get("seeds", [None])),
        )


def average_scores(scores: Sequence[TaskScore]) -> dict[str, float]:
    """`average` over the tasks; where WNLI is one, `average_without_WNLI` too, which is what most papers report."""
    found = {"average": _mean(scores)}
    others = [score for score in scores if score.task != "WNLI"]
    if others and len(others) < len(scores):
        found["average_without_WNLI"] = _mean(others)
    return found


def text_table(scores: Sequence[TaskScore]) -> str:
    """For a terminal, scores in percent."""
    rows = [_COLUMNS, *(_row(score) for score in scores)]
    rows += [(name, "", _percent(value), "", "", "", "") for name, value in average_scores(scores).items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        words = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2], strict=True)]
        numbers = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*words, *numbers]).rstrip())
    return "\n".join(lines)


def write_tsv(path: Path, scores: Sequence[TaskScore]) -> None:
    """The same rows, tab-separated."""
    rows = [_COLUMNS, *(_row(score) for score in scores)]
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")


def _row(score: TaskScore) -> tuple[str, ...]:
    values = (score.score, score.lowest, score.highest, score.deviation)
    return (score.task, score.metric, *map(_percent, values), str(score.runs))


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _mean(scores: Sequence[TaskScore]) -> float:
    return sum(score.score for score in scores) / len(scores)
