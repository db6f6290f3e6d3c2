"""One evaluation of a plan as the study records it."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial, TrialState

from bertkernels.models.supernet import Path

Key = Hashable
RUNNING, COMPLETE, FAILED = "running", "complete", "failed"
# why an evaluation failed that says nothing about its plan
KILLED, DUPLICATE, SURPLUS = "killed", "duplicate", "surplus"
BASELINE, RANDOM_ORDER = "baseline", "random order"  # origins beside the sampler's
COMPARED = (BASELINE, RANDOM_ORDER)


class FailedEvaluation(Exception):
    """A candidate that cannot be measured, however often it is tried; says why."""


@dataclass(frozen=True)
class Evaluation:
    """A trial of the study.

    Attributes:
        number: of the trial, in the order in which they were begun.
        path: of the plan, a kind for each slot; or a genotype, an expression for each block. key: the same for paths
            that are the same candidate.
        origin: how the plan came about: one of the sampler's words, or of `COMPARED`. name: of one to compare with.
        state: `RUNNING`, `COMPLETE` or `FAILED`. why: it failed.
        worker: who evaluates it. beat: what it last wrote to say that it is alive.
        metrics: everything that was measured; fitness is one of these, the more the better.
    """

    trial_id: int
    number: int
    path: Path
    origin: str
    name: str | None
    state: str
    worker: dict
    beat: float
    fitness: float | None = None
    why: str | None = None
    seconds: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    key: Key = ()

    @property
    def compared(self) -> bool:
        """Whether it stands beside the search and not in it."""
        return self.origin in COMPARED


def read_trial(trial: FrozenTrial) -> Evaluation:
    """What a trial says."""
    attributes = trial.user_attrs
    path = tuple(attributes["path"])
    state = {TrialState.RUNNING: RUNNING, TrialState.COMPLETE: COMPLETE}.get(trial.state, FAILED)
    return Evaluation(
        trial_id=trial._trial_id,
        number=trial.number,
        path=path,
        origin=attributes["origin"],
        name=attributes.get("name"),
        state=state,
        worker=attributes["worker"],
        beat=attributes.get("beat", 0.0),
        fitness=trial.value if state == COMPLETE else None,
        why=attributes.get("why", "unknown") if state == FAILED else None,
        seconds=attributes.get("seconds"),
        metrics=attributes.get("metrics", {}),
        key=attributes.get("key", path),
    )
