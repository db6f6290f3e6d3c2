"""Runs a search on this machine: workers, progress, records, and the report at the end."""

from pathlib import Path as File

from tqdm import tqdm

from bertkernels.search.evaluation import COMPLETE
from bertkernels.search.layer_search import LayerSearch
from bertkernels.search.records import write_records
from bertkernels.search.report import write_report
from bertkernels.search.search_arguments import SearchArguments
from bertkernels.search.standing import Standing
from bertkernels.search.workers import Workers

_LOOK = 1.0  # seconds between looks at the study


def search_layers(arguments: SearchArguments) -> dict:
    """Searches, or goes on with a search, or joins one; returns the report.

    Into `arguments.output_dir`: the study's journal, unless it has another storage; `evaluations.jsonl` and `.csv`;
    plots; `report.md` and `report.json`. Raises InputError as `LayerSearch`, OutputError where workers keep dying.
    """
    search = LayerSearch(arguments, anew=arguments.overwrite_output_dir)
    folder = File(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    total = search.budget.evaluations + len(search.budget.compared)
    with (
        tqdm(total=total, unit="plan", desc="search", disable=arguments.disable_tqdm) as bar,
        Workers(arguments) as workers,
    ):
        while workers.running(_show(search, folder, bar)):
            workers.wait(_LOOK)
        _show(search, folder, bar)
    return write_report(search)


def _show(search: LayerSearch, folder: File, bar: tqdm) -> int:
    """Brings bar and records up to date; returns how many plans are done."""
    evaluations = search.study.evaluations()
    standing = Standing(evaluations)
    done = standing.finished() + sum(evaluation.state == COMPLETE for evaluation in standing.compared())
    if done != bar.n or not (folder / "evaluations.jsonl").is_file():
        write_records(folder, evaluations, search.plan, search.plans.figures_of)
        best = standing.best()
        if best is not None:
            bar.set_postfix_str(f"best {search.metric} {best.fitness:.4f}", refresh=False)
        bar.update(done - bar.n)
    return done
