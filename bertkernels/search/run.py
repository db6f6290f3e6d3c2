"""Runs a search on this machine: workers, progress, records, and the report at the end."""

from functools import partial
from pathlib import Path as File
from typing import Protocol

from tqdm import tqdm

from bertkernels.models.supernet import Path
from bertkernels.processes.workers import Workers
from bertkernels.search.claims import Budget
from bertkernels.search.evaluation import COMPLETE
from bertkernels.search.found_model import FOUND, save_found
from bertkernels.search.layer_search import LayerSearch
from bertkernels.search.limits import Figures
from bertkernels.search.records import write_records
from bertkernels.search.report import write_report
from bertkernels.search.search_arguments import SearchArguments
from bertkernels.search.standing import Standing
from bertkernels.search.study import SearchStudy
from bertkernels.search.worker import run_worker


class Search(Protocol):
    """What is shown of a search while it runs."""

    study: SearchStudy
    budget: Budget
    metric: str

    def plan(self, path: Path) -> str: ...

    def figures(self, path: Path) -> Figures: ...


_LOOK = 1.0  # seconds between looks at the study


def search_layers(arguments: SearchArguments) -> dict:
    """Searches, or goes on with a search, or joins one; returns the report.

    Into `arguments.output_dir`: the study's journal, unless it has another storage; `evaluations.jsonl` and `.csv`;
    plots; `report.md` and `report.json`; `found`, the found plan's model with inherited weights. Raises InputError as
    `LayerSearch`, OutputError where workers keep dying.
    """
    search = LayerSearch(arguments, anew=arguments.overwrite_output_dir)
    folder = File(arguments.output_dir)
    workers = Workers(arguments.workers, partial(run_worker, arguments), "search worker")
    run_search(search, folder, workers, arguments.disable_tqdm)
    report = write_report(search)
    if report["found"]:
        save_found(arguments.supernet, report["found"]["plan"], search.prepared.tokenizer(), folder / FOUND)
    return report


def run_search(search: Search, folder: File, workers: Workers, quiet: bool) -> None:
    """Has workers search to the end, and shows how far they are, also as records in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    total = search.budget.evaluations + len(search.budget.compared)
    with tqdm(total=total, unit="plan", desc="search", disable=quiet) as bar:
        with workers:
            done = _show(search, folder, bar, -1)
            while workers.running(done):
                workers.wait(_LOOK)
                done = _show(search, folder, bar, done)
        _show(search, folder, bar, -1)


def _show(search: Search, folder: File, bar: tqdm, before: int) -> int:
    """Brings bar and records up to date, unless as many plans are done as before; returns how many."""
    evaluations = search.study.evaluations()
    standing = Standing(evaluations)
    done = standing.finished() + sum(evaluation.state == COMPLETE for evaluation in standing.compared())
    if done != before:
        write_records(folder, evaluations, search.plan, search.figures)
        best = standing.best()
        if best is not None:
            bar.set_postfix_str(f"best {search.metric} {best.fitness:.4f}", refresh=False)
        bar.update(done - bar.n)
    return done
