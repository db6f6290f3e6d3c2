"""A compression's grid over learning rate, first replacing rate and its rise, kept as an Optuna study."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from bertkernels.errors import InputError
from bertkernels.search.grid_arguments import GridArguments
from bertkernels.search.journal import open_journal
from bertkernels.training.finetuned_folder import BEST_MODEL, RESULTS
from bertkernels.training.results_file import write_json

JOURNAL, TABLE, STUDY = "grid.journal", "grid.md", "grid"
RunPoint = Callable[[list[str], Path], Mapping[str, object]]  # (flags, folder) → results with `main_score`


@dataclass(frozen=True)
class Point:
    """A combination of the grid; `steps` until the rate is 1."""

    learning_rate: float
    replacing_rate: float
    steps: int

    @property
    def k(self) -> float:
        return (1 - self.replacing_rate) / self.steps

    @property
    def folder(self) -> str:
        return f"rate-{self.learning_rate:g}_b-{self.replacing_rate:g}_steps-{self.steps}"

    def flags(self) -> list[str]:
        """Those of a run."""
        values = {
            "learning_rate": self.learning_rate,
            "replacing_rate": self.replacing_rate,
            "scheduler_type": "linear",
            "scheduler_linear_k": self.k,
        }
        return [part for name, value in values.items() for part in (f"--{name}", str(value))]


def search_grid(arguments: GridArguments, folder: Path, run_point: RunPoint, first: bool, anew: bool) -> dict:
    """Runs each point in a folder of its own and returns the results of the best, with where that is.

    Writes `grid.md`, `all_results.json` and the study's journal. Every process must call it.

    Args:
        run_point: does a run, or reads the results of one that is finished.
        first: whether this process writes.
        anew: drop an earlier study of this folder.

    Raises InputError for lists without values or with values out of range, and for runs without an evaluation.
    """
    points = grid_points(arguments)
    study = _open_study(folder, anew) if first else None
    done: dict[Point, Mapping[str, object]] = {}
    for point in points:
        done[point] = run_point(point.flags(), folder / point.folder)
        if "main_score" not in done[point]:
            raise InputError("--grid needs evaluation rows: add --validation_file")
        if study is not None:
            _record(study, arguments, point, float(done[point]["main_score"]))
    best = max(points, key=lambda point: done[point]["main_score"])
    results = {**done[best], BEST_MODEL: best.folder}
    if first:
        write_json(folder / RESULTS, results)
        (folder / TABLE).write_text(_table(done, best), encoding="utf-8")
    return results


def grid_points(arguments: GridArguments) -> list[Point]:
    """All combinations. Raises InputError for what is no grid."""
    lists = {name: getattr(arguments, name) for name in ("grid_learning_rates", "grid_replacing_rates", "grid_steps")}
    for name, values in lists.items():
        if not values or len(set(values)) < len(values):
            raise InputError(f"--{name} must be different values, got {values}")
        if not all(value > 0 for value in values):
            raise InputError(f"--{name} must be above 0, got {values}")
    if any(rate > 1 for rate in arguments.grid_replacing_rates):
        raise InputError(f"--grid_replacing_rates must be at most 1, got {arguments.grid_replacing_rates}")
    return [Point(*values) for values in itertools.product(*lists.values())]


def _open_study(folder: Path, anew: bool) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / JOURNAL
    if anew:
        journal.unlink(missing_ok=True)
    return optuna.create_study(
        storage=open_journal(journal), study_name=STUDY, direction="maximize", load_if_exists=True
    )


def _record(study: optuna.Study, arguments: GridArguments, point: Point, score: float) -> None:
    """Adds a trial that is complete, once."""
    params = {"learning_rate": point.learning_rate, "replacing_rate": point.replacing_rate, "steps": point.steps}
    if any(trial.params == params for trial in study.trials):
        return
    distributions = {
        "learning_rate": CategoricalDistribution(arguments.grid_learning_rates),
        "replacing_rate": CategoricalDistribution(arguments.grid_replacing_rates),
        "steps": CategoricalDistribution(arguments.grid_steps),
    }
    study.add_trial(
        create_trial(params=params, distributions=distributions, value=score, user_attrs={"folder": point.folder})
    )


def _table(done: Mapping[Point, Mapping[str, object]], best: Point) -> str:
    metric = done[best]["main_metric"]
    lines = [f"| learning rate | b | steps to 1 | k | {metric} |", "| ---: | ---: | ---: | ---: | ---: |"]
    for point, results in sorted(done.items(), key=lambda item: -item[1]["main_score"]):
        lines.append(
            f"| {point.learning_rate:g} | {point.replacing_rate:g} | {point.steps} | {point.k:.3g} | "
            f"{results['main_score']:.4f} |"
        )
    return "\n".join([*lines, "", f"The best: `{best.folder}`.", ""])
