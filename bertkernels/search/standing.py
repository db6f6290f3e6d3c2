"""What is known of each candidate, of all evaluations so far."""

from collections import Counter
from collections.abc import Iterable

from bertkernels.search.evaluation import COMPLETE, DUPLICATE, FAILED, KILLED, SURPLUS, Evaluation, Key

MOST_KILLS = 3  # of evaluations of a plan, before it is given up


class Standing:
    """Evaluations by their candidate's key: of a plan its path.

    Attributes:
        known: for each candidate the evaluation that counts: one that runs, is complete, or failed for good.
        killed: candidates whose evaluation was cut short and must be done again, with what was begun first.
        ranks: for each candidate that the search proposed, how many others it had proposed before.
    """

    def __init__(self, evaluations: Iterable[Evaluation]) -> None:
        self.known: dict[Key, Evaluation] = {}
        self.killed: dict[Key, Evaluation] = {}
        self.ranks: dict[Key, int] = {}
        kills: Counter[Key] = Counter()
        for evaluation in sorted(evaluations, key=lambda evaluation: evaluation.number):
            key = evaluation.key
            if evaluation.state == FAILED and evaluation.why in (DUPLICATE, SURPLUS):
                continue
            if not evaluation.compared:
                self.ranks.setdefault(key, len(self.ranks))
            if evaluation.state == FAILED and evaluation.why == KILLED:
                kills[key] += 1
                if kills[key] < MOST_KILLS:
                    self.killed.setdefault(key, evaluation)
                    continue
            self.known.setdefault(key, evaluation)
        for key in self.known:
            self.killed.pop(key, None)

    @property
    def taken(self) -> set[Key]:
        """Candidates that need no proposal."""
        return {*self.known, *self.killed}

    def scored(self, before: int | None = None) -> list[Evaluation]:
        """Complete evaluations of the search; of its first `before` candidates only, if that is given."""
        return [
            evaluation
            for key, evaluation in self.known.items()
            if evaluation.state == COMPLETE and not evaluation.compared and (before is None or self.ranks[key] < before)
        ]

    def compared(self) -> list[Evaluation]:
        """Evaluations beside the search, of whatever state."""
        return [evaluation for evaluation in self.known.values() if evaluation.compared]

    def finished(self) -> int:
        """Candidates of the search that are done, well or badly."""
        done = (evaluation for evaluation in self.known.values() if evaluation.state in (COMPLETE, FAILED))
        return sum(not evaluation.compared for evaluation in done)

    def best(self) -> Evaluation | None:
        """The search's best; the earlier of two that are alike."""
        return max(self.scored(), key=lambda evaluation: (evaluation.fitness, -evaluation.number), default=None)
