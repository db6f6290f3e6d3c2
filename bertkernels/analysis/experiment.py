"""What the runner asks of an experiment."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from bertkernels.analysis.jobs import Job


class Experiment(ABC):
    """Jobs, and how one of them is done. Each process makes its own; what is expensive is made when it is needed.

    Attributes:
        name: of the kind of experiment: swap, shuffle, …
        folder: where its results go.
    """

    name: str
    folder: Path

    @abstractmethod
    def settings(self) -> dict:
        """What makes results comparable, as plain data: the model, the data, how it is trained and measured. Which
        jobs there are is no part of it: more may be asked for later.

        Raises InputError for flags that don't fit, before any work.
        """

    @abstractmethod
    def jobs(self, lines: Sequence[dict]) -> list[Job]:
        """The jobs that follow from the flags and from what is done so far, in order.

        It is asked again after each job; jobs that wait for the results of others come once these are there.
        """

    @abstractmethod
    def do(self, job: Job, lines: Sequence[dict]) -> dict:
        """Does a job and returns what its line holds, beside what it is about and how long it took."""
