"""`bertkernels theseus`: a fine-tuned encoder compressed by progressive module replacing."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bertkernels.cli.arguments import expand_file, parse_arguments

if TYPE_CHECKING:
    from bertkernels.training.theseus.arguments import TheseusArguments, TheseusRunArguments

_DESCRIPTION = (
    "Compresses an encoder that was fine-tuned on a task (BERT-of-Theseus): modules of a smaller successor stand in "
    "for groups of its blocks, at random and ever more often, until the successor is alone. Takes the flags of "
    "`bertkernels finetune`. Several tasks of GLUE and several seeds make several runs; --grid searches rate and "
    "schedule. Options may also stand in a file."
)


def run(argv: list[str]) -> int:
    """Compresses as the flags say, once, for several tasks and seeds or over a grid, and prints the evaluation."""
    from bertkernels.bench.timing import milliseconds
    from bertkernels.cli.finetune import print_metrics
    from bertkernels.data.glue import TRAINED, task_names
    from bertkernels.training.series_arguments import chosen_seeds
    from bertkernels.training.theseus.run import theseus

    argv = expand_file(argv)
    seeds_asked, grid, arguments, training = _parse(argv)
    tasks = task_names(arguments.task_name, TRAINED) if arguments.task_name else [None]
    seeds = chosen_seeds(seeds_asked, training.seed)
    if grid.grid or len(tasks) > 1 or seeds is not None:
        return _several(argv, tasks, seeds)
    result = theseus(arguments, training, measure=milliseconds)
    if training.process_index == 0:
        print_metrics(result.metrics)
        print(f"Successor: {result.output_dir}")
    return 0


def _several(argv: list[str], tasks: list[str | None], seeds: list[int] | None) -> int:
    from bertkernels.bench.timing import milliseconds
    from bertkernels.cli.finetune import print_metrics
    from bertkernels.data.glue import check_glue_folders
    from bertkernels.search.theseus_grid import search_grid
    from bertkernels.training.finished_run import finish
    from bertkernels.training.results_table import text_table
    from bertkernels.training.series import check_series, finetune_seeds, finetune_tasks
    from bertkernels.training.theseus.run import theseus

    _, grid, arguments, training = _parse(argv)
    check_series(training)
    if arguments.glue_dir and tasks != [None]:
        check_glue_folders(arguments.glue_dir, tasks)
    folder, first = Path(training.output_dir), training.process_index == 0
    train = partial(theseus, measure=milliseconds)

    def compress(flags: list[str], place: Path) -> dict[str, object]:
        if seeds is None:
            return finish(*_run_of([*flags, "--output_dir", str(place)]), train)
        return finetune_seeds(
            seeds,
            place,
            lambda seed, inner: _run_of([*flags, "--output_dir", str(inner), "--seed", str(seed)]),
            train,
        )

    def compress_task(task: str | None, place: Path) -> dict[str, object]:
        flags = argv if task is None else [*argv, "--task_name", task]
        if grid.grid:
            return search_grid(
                grid,
                place,
                lambda point, inner: compress([*flags, *point], inner),
                first,
                anew=training.overwrite_output_dir,
            )
        return compress(flags, place)

    if len(tasks) == 1:
        results = compress_task(tasks[0], folder)
        if first:
            print_metrics(results)
            print(f"Successors, each in a folder of its own: {folder}")
    else:
        scores = finetune_tasks(tasks, folder, compress_task, first)
        if first:
            print(f"{text_table(scores)}\nSuccessors, a folder for each task: {folder}")
    return 0


def _run_of(argv: list[str]) -> tuple["TheseusArguments", "TheseusRunArguments"]:
    return _parse(argv)[2:]


def _parse(argv: list[str]) -> tuple:
    from bertkernels.search.grid_arguments import GridArguments
    from bertkernels.training.series_arguments import SeedArguments
    from bertkernels.training.theseus.arguments import TheseusArguments, TheseusRunArguments

    return parse_arguments(
        "theseus", _DESCRIPTION, argv, SeedArguments, GridArguments, TheseusArguments, TheseusRunArguments
    )
