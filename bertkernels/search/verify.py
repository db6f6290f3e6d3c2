"""Is it true? Plans trained alone, to see whether inherited weights order them as training does."""

import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path as File

import torch
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from bertkernels.data.prepared.folder import Prepared, open_prepared
from bertkernels.errors import InputError, OutputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig
from bertkernels.models.supernet import Path, plain_config, plan_of
from bertkernels.processes.share import end_with, share, threads_each
from bertkernels.search.alone import Job, MakeRun, finished_run, train_alone
from bertkernels.search.chosen_plans import chosen_plans, read_search
from bertkernels.search.fitness import InheritedFitness, check_held_out, check_metric, fitness_of, read_supernet
from bertkernels.search.verify_arguments import VerifyArguments, check_verify_arguments
from bertkernels.search.verify_report import write_verification
from bertkernels.training.training_arguments import PretrainRunArguments


def verify(arguments: VerifyArguments, run: PretrainRunArguments, make_run: MakeRun) -> dict:
    """Trains each plan alone with each seed, and reports how that orders them beside inherited weights.

    Into `run.output_dir`: a folder for each run, `verification.md`, `.json` and `.png`. Runs that are finished there
    are not done again, one that was cut short goes on. A finished run keeps its model, without checkpoints.

    Args:
        run: the settings of the runs; its seed is the first of `arguments.num_seeds`.
        make_run: the same settings for another folder and seed; can be pickled.

    Raises:
        InputError: flags or plans do not fit, before any training; or a finished run had other settings.
        OutputError: a process was killed.
    """
    check_verify_arguments(arguments)
    report = None if arguments.search_dir is None else read_search(arguments.search_dir)
    supernet = arguments.supernet or report["supernet"]
    prepared = open_prepared(arguments.prepared_dir or report["prepared_dir"])
    objective, config = read_supernet(supernet)
    check_held_out(prepared, config)
    asked = arguments.fitness or (report["settings"]["fitness"] if report else None)
    metric = check_metric(asked, objective, config)
    plans = chosen_plans(arguments, report, config)

    folder = File(run.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    examples = report["settings"]["fitness_examples"] if report else len(prepared.validation)
    inherited = _inherited(plans, supernet, prepared, metric, examples, run)
    jobs = [
        Job(name, seed, str(place / f"seed-{seed}"), objective, str(place / "config.json"), str(prepared.folder))
        for name, place in ((name, folder / _folder_name(name)) for name in plans)
        for seed in range(run.seed, run.seed + arguments.num_seeds)
    ]
    _write_configs(jobs, plans, config)
    alone: dict[str, dict[int, float]] = {name: {} for name in plans}
    for job, metrics in _train_all(jobs, make_run, arguments.workers, run.disable_tqdm):
        alone[job.name][job.seed] = fitness_of(metrics, metric)
    ordered = {name: dict(sorted(values.items())) for name, values in alone.items()}
    texts = {name: str(plan_of(config, path)) for name, path in plans.items()}
    return write_verification(folder, metric, texts, inherited, ordered, _for_the_reader(run, prepared.manifest))


def _inherited(
    plans: dict[str, Path], supernet: str, prepared: Prepared, metric: str, examples: int, run: PretrainRunArguments
) -> dict[str, float]:
    fitness = InheritedFitness(
        supernet, prepared, metric, examples, File(run.output_dir), run.per_device_eval_batch_size, run.use_cpu
    )
    return {name: fitness(path)[0] for name, path in plans.items()}


def _folder_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=-]+", "-", name).strip("-.") or "plan"


def _write_configs(jobs: list[Job], plans: dict[str, Path], config: EncoderConfig | ElectraConfig) -> None:
    """Beside the runs of each plan. Raises InputError where a folder is another plan's."""
    for job in jobs:
        text = plain_config(config, plans[job.name]).to_json_string(use_diff=False)
        file = File(job.config_file)
        if file.is_file() and file.read_text(encoding="utf-8") != text:
            raise InputError(f"{file.parent} holds runs of another plan: choose another --output_dir")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _train_all(jobs: list[Job], make_run: MakeRun, workers: int, quiet: bool) -> Iterator[tuple[Job, dict]]:
    """Yields jobs with their metrics: those that are finished, then others as they end."""
    finished = [(job, finished_run(job, make_run)) for job in jobs]
    with tqdm(total=len(jobs), unit="run", desc="training alone", disable=quiet) as bar:
        for job, metrics in finished:
            if metrics is not None:
                bar.update()
                yield job, metrics
        left = [job for job, metrics in finished if metrics is None]
        for job, metrics in _train(left, make_run, workers) if left else ():
            bar.update()
            yield job, metrics


def _train(jobs: list[Job], make_run: MakeRun, workers: int) -> Iterator[tuple[Job, dict]]:
    """Trains in so many processes at a time."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, context, _begin_process, (threads_each(workers), theirs))
    done = False
    try:
        futures: dict[Future, Job] = {}
        for number, job in enumerate(jobs):
            with share(number, workers):  # a process is started with each of the first
                futures[pool.submit(train_alone, job, make_run)] = job
        for future in as_completed(futures):
            yield futures[future], future.result()
        done = True
    except BrokenProcessPool as error:
        raise OutputError("a process that trained was killed; the same command goes on from its checkpoint") from error
    finally:
        if not done:
            pool.shutdown(wait=False, cancel_futures=True)
            ours.close()  # which ends processes that still train
        pool.shutdown()


def _begin_process(threads: int, parent: Connection) -> None:
    end_with(parent)
    torch.set_num_threads(threads)
    disable_progress_bar()


def _for_the_reader(run: PretrainRunArguments, manifest: dict) -> dict:
    names = ("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps")
    names += ("learning_rate", "warmup_steps", "lr_scheduler_type", "weight_decay", "optimizer", "bert_schedule")
    values = {name: getattr(run, name) for name in names}
    return {
        **{name: value if value is None else str(value) for name, value in values.items()},
        "text": manifest["text"],
    }
