"""Who evaluates what next, with any number of workers and no plan twice."""

from collections.abc import Mapping
from dataclasses import dataclass

from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import BASELINE, DUPLICATE, RANDOM_ORDER, SURPLUS, Evaluation
from bertkernels.search.space import Sampler
from bertkernels.search.standing import Standing
from bertkernels.search.study import SearchStudy


@dataclass(frozen=True)
class Budget:
    """How many candidates the search evaluates, how many are in a generation, and what it is compared with, by name."""

    evaluations: int
    population: int
    compared: Mapping[str, Path]


class Claims:
    """Reserves evaluations of a study for this process.

    Plans whose evaluation was cut short come first, then those to compare with, then what the sampler proposes. Two
    workers may have the same thought at the same moment: after reserving, each looks whether the same plan was reserved
    under a lower number, and gives its own up if so. A plan is known from the moment its number is, so one of them
    always sees the other. In the same way nobody begins more plans than the budget has.
    """

    def __init__(self, study: SearchStudy, sampler: Sampler, budget: Budget) -> None:
        self._study, self._sampler, self._budget = study, sampler, budget

    def next(self) -> Evaluation | None:
        """A reserved evaluation; None where there is nothing left to begin."""
        while True:
            self._study.bury_the_dead()
            offer = self._offer(Standing(self._study.evaluations()))
            if offer is None:
                return None
            mine = self._study.begin(*offer)
            earlier = Standing(e for e in self._study.evaluations() if e.number < mine.number)
            if mine.key in earlier.known:
                self._study.fail(mine, DUPLICATE)
            elif self._is_surplus(mine, earlier):
                self._study.fail(mine, SURPLUS)
            else:
                return mine

    def _is_surplus(self, mine: Evaluation, earlier: Standing) -> bool:
        return not mine.compared and mine.key not in earlier.ranks and len(earlier.ranks) >= self._budget.evaluations

    def _offer(self, standing: Standing) -> tuple[Path, str, str | None] | None:
        for killed in standing.killed.values():
            return killed.path, killed.origin, killed.name
        for name, path in self._budget.compared.items():
            if self._study.key(path) not in standing.known:
                return path, RANDOM_ORDER if name.startswith(RANDOM_ORDER) else BASELINE, name
        number = len(standing.ranks)
        if number >= self._budget.evaluations:
            return None
        parents = standing.scored(before=number // self._budget.population * self._budget.population)
        proposal = self._sampler.propose(
            number, standing.taken, [(evaluation.path, evaluation.fitness) for evaluation in parents]
        )
        return None if proposal is None else (*proposal, None)
