"""Runs a search over feed-forward layers on this machine, and each of its workers."""

import shutil
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path as File

from bertkernels.models.genotype import parse_genotype
from bertkernels.models.inheritance import inherited_student
from bertkernels.processes.workers import Workers
from bertkernels.search.evaluation import RUNNING
from bertkernels.search.ffn_fitness import Flags
from bertkernels.search.ffn_report import write_ffn_report
from bertkernels.search.ffn_search import SCRATCH, FfnSearch
from bertkernels.search.ffn_space import SHAPES
from bertkernels.search.found_model import FOUND
from bertkernels.search.run import run_search
from bertkernels.search.worker import begin_worker, work


def search_ffn(flags: Flags) -> dict:
    """Searches, or goes on with a search, or joins one; returns the report.

    Into the output folder: the study's journal, unless it has another storage; `evaluations.jsonl` and `.csv`, plots,
    `report.md` and `report.json`, `hall_of_fame.json`; `genotype.json`, the found one; `found`, its model with
    inherited weights, of several tasks a folder for each inside. Raises InputError as `FfnSearch`, OutputError where
    workers keep dying.
    """
    asked, _, run = flags([])
    search = FfnSearch(flags, anew=run.overwrite_output_dir, check_teacher=asked.stage != SHAPES)
    folder = File(run.output_dir)
    run_search(
        search, folder, Workers(asked.workers, partial(run_ffn_worker, flags), "search worker"), run.disable_tqdm
    )
    report = write_ffn_report(search)
    if report["found"]:
        for name, model in search.models().items():
            found = inherited_student(model, parse_genotype(report["found"]["genotype"]))
            found.save_pretrained(folder / FOUND / name)
            search.data.tokenizer.save_pretrained(folder / FOUND / name)
    if not any(evaluation.state == RUNNING for evaluation in search.study.evaluations()):
        shutil.rmtree(folder / SCRATCH, ignore_errors=True)  # of workers that were killed
    return report


def run_ffn_worker(flags: Flags, threads: int, parent: Connection) -> None:
    """The main function of a worker's process; see `workers.Main`."""
    begin_worker(threads, parent)
    search = FfnSearch(flags)
    work(search.study, search.claims, search.fitness())
