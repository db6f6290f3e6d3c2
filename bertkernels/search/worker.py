"""A worker: reserves evaluations, does them, until there is nothing left to begin."""

import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path as File

import torch
from transformers.utils.logging import disable_progress_bar

from bertkernels.models.supernet import Path
from bertkernels.processes.share import end_with
from bertkernels.search.claims import Claims
from bertkernels.search.evaluation import KILLED, RUNNING, FailedEvaluation
from bertkernels.search.fitness import InheritedFitness
from bertkernels.search.layer_search import LayerSearch
from bertkernels.search.search_arguments import SearchArguments
from bertkernels.search.study import SearchStudy

_WAIT = 0.5  # seconds between looks at what others are doing

Fitness = Callable[[Path], tuple[float, dict[str, float]]]


def work(study: SearchStudy, claims: Claims, fitness: Fitness) -> int:
    """Evaluates until no evaluation is left and none runs anywhere, since one that runs may have to be done again.

    Returns how many this worker did. An evaluation that ends with an exception is marked as killed, so that it is done
    again, and the exception goes on.
    """
    done = 0
    while True:
        evaluation = claims.next()
        if evaluation is None:
            if not any(other.state == RUNNING for other in study.evaluations()):
                return done
            time.sleep(_WAIT)
            continue
        began = time.perf_counter()
        try:
            with study.alive(evaluation):
                value, metrics = fitness(evaluation.path)
        except FailedEvaluation as error:
            study.fail(evaluation, str(error))
            continue
        except BaseException:
            study.fail(evaluation, KILLED)
            raise
        study.complete(evaluation, value, metrics, time.perf_counter() - began)
        done += 1


def begin_worker(threads: int, parent: Connection) -> None:
    """What a worker's process does first."""
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command ends its workers itself
    torch.set_num_threads(threads)
    disable_progress_bar()


def run_worker(arguments: SearchArguments, threads: int, parent: Connection) -> None:
    """The main function of a worker's process.

    Args:
        threads: torch's, of this process.
        parent: a pipe that closes when the command ends, however it ends; so does the worker then.
    """
    begin_worker(threads, parent)
    search = LayerSearch(arguments)
    fitness = InheritedFitness(
        arguments.supernet,
        search.prepared,
        search.metric,
        arguments.fitness_examples,
        File(arguments.output_dir),
        arguments.per_device_eval_batch_size,
        arguments.use_cpu,
    )
    work(search.study, search.claims, fitness)
