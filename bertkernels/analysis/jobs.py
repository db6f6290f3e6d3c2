"""What an experiment consists of: trials, each of them one job or several."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from bertkernels.data.cache import fingerprint

Change = dict[str, object]  # as `changes` makes them: {"do": name of a change, and its arguments by name}
DIRECT, FINETUNED, MEASURED = "direct", "finetuned", "measured"
UNCHANGED = "unchanged"  # the trial that the others are compared with


@dataclass(frozen=True)
class Trial:
    """One change of the model whose score is asked for.

    Attributes:
        name: for people, and what its jobs have in common; no other trial of the experiment has it.
        labels: what it is about, as plain data: `block`, `site`, `fixed_points`, …; columns of the tables.
        changes: what surgery does to the model.
        freeze: what does not train in fine-tuning, in the grammar of `freezing`.
    """

    name: str
    labels: dict[str, object] = field(default_factory=dict)
    changes: Sequence[Change] = ()
    freeze: str | None = None


@dataclass(frozen=True)
class Job:
    """A piece of work with one line of results.

    Attributes:
        phase: `DIRECT`: the changed model is scored as it is; `FINETUNED`: it is fine-tuned first; `MEASURED`:
            something else is asked of it than its score.
        seed: of the fine-tuning, or of what is random in the change.
    """

    trial: Trial
    phase: str = DIRECT
    seed: int | None = None

    @property
    def key(self) -> str:
        """Tells jobs of an experiment apart, the same in every process."""
        trial = self.trial
        return fingerprint([trial.name, trial.labels, list(trial.changes), trial.freeze, self.phase, self.seed])


def scoring_jobs(trials: Iterable[Trial], direct: bool, seeds: Iterable[int]) -> list[Job]:
    """Jobs that score each trial: directly, and after fine-tuning with each of the seeds.

    What freezes parts of a model changes nothing until that is trained.
    """
    trials = list(trials)
    first = [Job(trial) for trial in trials if trial.freeze is None] if direct else []
    return [*first, *(Job(trial, FINETUNED, seed) for seed in seeds for trial in trials)]
