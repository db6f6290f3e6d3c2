"""What experiments on a fine-tuned model have in common: an unchanged model to compare with, and scores."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from bertkernels.analysis.arguments import AnalysisArguments
from bertkernels.analysis.changes import Modules
from bertkernels.analysis.experiment import Experiment
from bertkernels.analysis.jobs import FINETUNED, UNCHANGED, Job, Trial, scoring_jobs
from bertkernels.analysis.predictions import save_predictions
from bertkernels.analysis.subjects import Subjects
from bertkernels.errors import InputError
from bertkernels.training.training_arguments import FinetuneRunArguments


class ModelExperiment(Experiment):
    """Trials on a model: each a change whose score is asked for, directly, after fine-tuning, or both.

    Args:
        options: the experiment's own flags.
        seeds: of fine-tuning after a change.

    Class attributes:
        scored: whether the model's head is asked anything.
    """

    scored = True

    def __init__(
        self,
        options: object,
        arguments: AnalysisArguments,
        run: FinetuneRunArguments,
        seeds: Sequence[int],
        subjects: Subjects,
    ) -> None:
        self.options, self.arguments, self.run, self.seeds = options, arguments, run, list(seeds)
        self.folder = Path(run.output_dir)
        self.check()
        self.subject = subjects.open(arguments, run, self.folder, self.scored)

    def check(self) -> None:
        """Raises InputError for flags that are out of range, before anything is read."""
        if self.scored and not (self.arguments.direct or self.run.do_train):
            raise InputError("nothing to do: give --do_train, or leave --direct")

    @abstractmethod
    def trials(self, lines: Sequence[dict]) -> list[Trial]:
        """What is tried; more may come once the lines are there that it follows from."""

    def modules(self) -> Modules | None:
        """What stands in the place of replaced sites."""
        return None

    def own_settings(self) -> dict:
        """Of the experiment's flags those that change what a job gives."""
        return {}

    def settings(self) -> dict:
        return {"experiment": self.name, **self.subject.settings(), **self.own_settings()}

    def jobs(self, lines: Sequence[dict]) -> list[Job]:
        """First the unchanged model, whose score stands in every other line too.

        Raises InputError for trials that don't fit the model.
        """
        trials = self.trials(lines)
        if not lines:
            self.subject.check(change for trial in trials for change in trial.changes)
        first = self.scoring_jobs([Trial(UNCHANGED)])
        done = {line["job"] for line in lines}
        if any(job.key not in done for job in first):
            return first
        return first + self.scoring_jobs(trials)

    def scoring_jobs(self, trials: Sequence[Trial]) -> list[Job]:
        """Of these trials, as the flags ask for."""
        return scoring_jobs(trials, self.arguments.direct, self.seeds if self.run.do_train else ())

    def do(self, job: Job, lines: Sequence[dict]) -> dict:
        """Scores a trial."""
        trial, said = job.trial, {}
        if job.phase == FINETUNED:
            score, said = self.subject.finetuned_score(trial.changes, job.seed, trial.freeze, self.modules())
        else:
            score = self.subject.score(trial.changes, self.modules())
        if self.arguments.save_predictions:
            for split, outputs in score.outputs.items():
                save_predictions(self.folder, job.key, split, outputs)
        return {
            "metric": self.subject.task.metric,
            "before": None if trial.name == UNCHANGED else _before(job, lines),
            "after": score.main,
            "metrics": score.metrics,
            "changes": list(trial.changes),
            **said,
        }


def _before(job: Job, lines: Sequence[dict]) -> float | None:
    """The score of the unchanged model in the same phase, with the same seed."""
    same = [
        line["after"]
        for line in lines
        if line["name"] == UNCHANGED and line["phase"] == job.phase and line["seed"] == job.seed
    ]
    return same[0] if same else None
