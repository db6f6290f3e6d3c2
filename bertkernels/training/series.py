"""Fine-tuning on several tasks, with several seeds each, in one folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

from bertkernels.errors import InputError
from bertkernels.training.finetune import finetune
from bertkernels.training.finetune_arguments import FinetuneArguments
from bertkernels.training.finetuned_folder import RESULTS
from bertkernels.training.finished_run import Train, check_resume, finish
from bertkernels.training.results_file import write_json
from bertkernels.training.results_table import TaskScore, average_scores, write_tsv
from bertkernels.training.seeds import over_seeds, seed_folder
from bertkernels.training.training_arguments import FinetuneRunArguments

Flags = tuple[FinetuneArguments, FinetuneRunArguments]


def check_series(run: FinetuneRunArguments) -> None:
    """Raises InputError where a series may not write into its folder, or cannot go on in it."""
    check_resume(run)
    folder = Path(run.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    keep = run.resume_from_checkpoint is None and not run.overwrite_output_dir
    if keep and run.process_index == 0 and folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"--output_dir {folder} is not empty: choose another, go on with --resume_from_checkpoint, or replace "
            "it with --overwrite_output_dir"
        )


def finetune_seeds(
    seeds: Sequence[int], folder: Path, flags: Callable[[int, Path], Flags], train: Train = finetune
) -> dict[str, object]:
    """Runs each seed in a folder of its own and returns what `over_seeds` says of them, which is written to
    `all_results.json`.

    Args:
        flags: arguments of the run with a seed in a folder.
        train: does a run.
    """
    results = {}
    for seed in seeds:
        arguments, run = flags(seed, folder / seed_folder(seed))
        results[seed] = finish(arguments, run, train)
    summary = over_seeds(results)
    if run.process_index == 0:
        write_json(folder / RESULTS, summary)
    return summary


def finetune_tasks(
    tasks: Sequence[str], folder: Path, finetune_task: Callable[[str, Path], dict[str, object]], first: bool
) -> list[TaskScore]:
    """Runs each task in a folder of its own; writes `all_results.json` and `results.tsv` with the scores of all.

    Args:
        finetune_task: runs a task in a folder and returns its results.
        first: whether this process writes.
    """
    scores = []
    for task in tasks:
        results = finetune_task(task, folder / task)
        scores.append(TaskScore.of(task, results))
        if first:  # after each, so that there is something to see
            write_json(folder / RESULTS, {f"{score.task}_{score.metric}": score.score for score in scores})
    if first:
        single = {f"{score.task}_{score.metric}": score.score for score in scores}
        write_json(folder / RESULTS, single | average_scores(scores))
        write_tsv(folder / "results.tsv", scores)
    return scores
