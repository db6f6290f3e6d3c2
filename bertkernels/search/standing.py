"""What is known of each plan, of all evaluations so far."""

from collections import Counter
from collections.abc import Iterable

from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import COMPLETE, DUPLICATE, FAILED, KILLED, SURPLUS, Evaluation

MOST_KILLS = 3  # of evaluations of a plan, before it is given up


class Standing:
    """Evaluations by plan.

    Attributes:
        known: for each plan the evaluation that counts: one that runs, is complete, or failed for good.
        killed: plans whose evaluation was cut short and must be done again, with what was begun first.
        ranks: for each plan that the search proposed, how many others it had proposed before.
    """

    def __init__(self, evaluations: Iterable[Evaluation]) -> None:
        self.known: dict[Path, Evaluation] = {}
        self.killed: dict[Path, Evaluation] = {}
        self.ranks: dict[Path, int] = {}
        kills: Counter[Path] = Counter()
        for evaluation in sorted(evaluations, key=lambda evaluation: evaluation.number):
            path = evaluation.path
            if evaluation.state == FAILED and evaluation.why in (DUPLICATE, SURPLUS):
                continue
            if not evaluation.compared:
                self.ranks.setdefault(path, len(self.ranks))
            if evaluation.state == FAILED and evaluation.why == KILLED:
                kills[path] += 1
                if kills[path] < MOST_KILLS:
                    self.killed.setdefault(path, evaluation)
                    continue
            self.known.setdefault(path, evaluation)
        for path in self.known:
            self.killed.pop(path, None)

    @property
    def taken(self) -> set[Path]:
        """Plans that need no proposal."""
        return {*self.known, *self.killed}

    def scored(self, before: int | None = None) -> list[Evaluation]:
        """Complete evaluations of the search; of its first `before` plans only, if that is given."""
        return [
            evaluation
            for path, evaluation in self.known.items()
            if evaluation.state == COMPLETE
            and not evaluation.compared
            and (before is None or self.ranks[path] < before)
        ]

    def compared(self) -> list[Evaluation]:
        """Evaluations beside the search, of whatever state."""
        return [evaluation for evaluation in self.known.values() if evaluation.compared]

    def finished(self) -> int:
        """Plans of the search that are done, well or badly."""
        done = (evaluation for evaluation in self.known.values() if evaluation.state in (COMPLETE, FAILED))
        return sum(not evaluation.compared for evaluation in done)

    def best(self) -> Evaluation | None:
        """The search's best; the earlier of two that are alike."""
        return max(self.scored(), key=lambda evaluation: (evaluation.fitness, -evaluation.number), default=None)
