"""Does an experiment's jobs, each once, with any number of processes; what is done already is not done again."""

import time
from collections.abc import Callable, Sequence

from bertkernels.analysis.experiment import Experiment
from bertkernels.analysis.jobs import Job
from bertkernels.analysis.results import Results

_WAIT = 0.3  # seconds between looks at what others are doing
Progress = Callable[[int, int], None]  # (jobs done, jobs known so far)


def work(experiment: Experiment, results: Results, wait: bool = True, progress: Progress | None = None) -> bool:
    """Does jobs until none is left.

    Args:
        wait: for those that other processes do, since they may have to be done again; without it this returns as soon
            as there is nothing left to begin.

    Returns whether all are done. A job that ends with an exception leaves no line.
    """
    while True:
        lines = results.lines()
        jobs, done = experiment.jobs(lines), {line["job"] for line in lines}
        left = [job for job in jobs if job.key not in done]
        if progress is not None:
            progress(len(jobs) - len(left), len(jobs))
        if not left:
            return True
        if not _do_one(experiment, results, left) and results.done() == done:  # all that is left is others'
            if not wait:
                return False
            time.sleep(_WAIT)


def _do_one(experiment: Experiment, results: Results, left: Sequence[Job]) -> bool:
    """Does the first job that nobody else does; False where there is none."""
    for job in left:
        with results.claims.claim(job.key) as mine:
            if not mine:
                continue
            lines = results.lines()
            if any(line["job"] == job.key for line in lines):  # between the look and the claim
                continue
            began = time.perf_counter()
            found = experiment.do(job, lines)
            about = {"experiment": experiment.name, "job": job.key, "name": job.trial.name, "phase": job.phase}
            seconds = round(time.perf_counter() - began, 3)
            results.add({**about, "seed": job.seed, **job.trial.labels, **found, "seconds": seconds})
            return True
    return False
