"""Runs experiments on this machine, in this process or in several, with progress, and reports."""

import signal
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from bertkernels.analysis.experiment import Experiment
from bertkernels.analysis.results import Results, check_folder, clear_folder, read_lines
from bertkernels.analysis.runner import work
from bertkernels.analysis.subjects import Subjects
from bertkernels.processes.share import end_with
from bertkernels.processes.workers import Workers

_LOOK = 1.0  # seconds between looks at what workers have done
Make = Callable[[Subjects], Experiment]  # makes an experiment in any process: it can be pickled


def run_experiments(makes: Sequence[Make], workers: int = 1, anew: bool = False, quiet: bool = False) -> list[Path]:
    """Does the experiments one after the other, or goes on with them, or joins those that run; returns their folders.

    Everything is checked before any work.

    Args:
        workers: processes on this machine; 1: this one.
        anew: drop earlier results.
        quiet: no progress bar.

    Raises:
        InputError: flags that don't fit a model or data, or a folder that was begun with other settings.
        OutputError: workers keep dying.
    """
    disable_progress_bar()  # of weights that are loaded, again for each fine-tuning
    subjects = Subjects()
    folders, totals = [], []
    for make in makes:
        experiment = make(subjects)
        check_folder(experiment.folder)
        settings = experiment.settings()
        jobs = len(experiment.jobs([] if anew else read_lines(experiment.folder)))
        if anew:
            clear_folder(experiment.folder)
        Results(experiment.folder, settings).close()
        folders.append(experiment.folder)
        totals.append(jobs)
    if workers == 1:
        for make in makes:
            _work_here(make(subjects), quiet)
    else:
        _work_there(makes, workers, folders, sum(totals), quiet)
    return folders


def _work_here(experiment: Experiment, quiet: bool) -> None:
    results = Results(experiment.folder, experiment.settings())
    with tqdm(unit="job", desc=experiment.folder.name, disable=quiet) as bar:

        def show(done: int, known: int) -> None:
            bar.total = known
            bar.update(done - bar.n)

        work(experiment, results, progress=show)
    results.close()


def _work_there(makes: Sequence[Make], workers: int, folders: Sequence[Path], total: int, quiet: bool) -> None:
    def show(bar: tqdm) -> int:
        done = sum(len(read_lines(folder)) for folder in folders)
        bar.total = max(total, done)
        bar.update(done - bar.n)
        return done

    with (
        tqdm(total=total, unit="job", desc="analysis", disable=quiet) as bar,
        Workers(workers, partial(run_worker, list(makes)), "analysis worker") as processes,
    ):
        while processes.running(show(bar)):
            processes.wait(_LOOK)
        show(bar)


def run_worker(makes: Sequence[Make], threads: int, parent: Connection) -> None:
    """The main function of a worker's process; see `Workers`."""
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its workers itself
    torch.set_num_threads(threads)
    disable_progress_bar()
    subjects = Subjects()
    left = [make for make in makes if not _work(make(subjects), wait=False)]
    for make in left:  # others' jobs, which may have to be done again
        _work(make(subjects), wait=True)


def _work(experiment: Experiment, wait: bool) -> bool:
    results = Results(experiment.folder, experiment.settings())
    try:
        return work(experiment, results, wait)
    finally:
        results.close()
