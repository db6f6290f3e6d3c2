"""An experiment's results as reports look at them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertkernels.analysis.jobs import DIRECT, FINETUNED, UNCHANGED
from bertkernels.analysis.results import read_lines, read_settings

PHASES = (DIRECT, FINETUNED)


@dataclass(frozen=True)
class Scored:
    """A trial's score in a phase, the mean over seeds.

    Attributes:
        labels: the line of one of its jobs.
        scores: of each seed, by which the unchanged model's are subtracted for `changes`.
    """

    name: str
    labels: dict
    scores: tuple[float, ...]
    changes: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(np.mean(self.scores))

    @property
    def std(self) -> float | None:
        return float(np.std(self.scores, ddof=1)) if len(self.scores) > 1 else None

    @property
    def change(self) -> float:
        """Of the score, from the unchanged model's."""
        return float(np.mean(self.changes)) if self.changes else float("nan")


@dataclass(frozen=True)
class Found:
    """The results in an experiment's folder. `name`: of the folder, by which plots are called."""

    name: str
    folder: Path
    settings: dict
    lines: list[dict]

    @property
    def experiment(self) -> str:
        return self.settings["experiment"]

    @property
    def metric(self) -> str:
        return next((line["metric"] for line in self.lines if "metric" in line), "score")

    def scored(self, phase: str, where: Callable[[dict], bool] = lambda line: True) -> list[Scored]:
        """The trials of a phase, in the order in which they were begun."""
        groups: dict[str, list[dict]] = {}
        for line in self.lines:
            if line["phase"] == phase and line["name"] != UNCHANGED and where(line):
                groups.setdefault(line["name"], []).append(line)
        return [
            Scored(
                name,
                lines[0],
                tuple(line["after"] for line in lines),
                tuple(line["after"] - line["before"] for line in lines if line["before"] is not None),
            )
            for name, lines in groups.items()
        ]

    def unchanged(self, phase: str) -> Scored | None:
        """The model that nothing was done to; None where it was not scored in this phase."""
        lines = [line for line in self.lines if line["phase"] == phase and line["name"] == UNCHANGED]
        return Scored(UNCHANGED, lines[0], tuple(line["after"] for line in lines), ()) if lines else None


def read_found(folder: Path) -> Found:
    """The results of a folder that holds an experiment."""
    return Found(folder.name, folder, read_settings(folder), read_lines(folder))
