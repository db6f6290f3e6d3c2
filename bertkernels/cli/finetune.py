"""`bertkernels finetune`: an encoder on sentences, pairs of them, questions on texts, words or choices."""

from pathlib import Path
from typing import TYPE_CHECKING

from bertkernels.cli.arguments import expand_file, parse_arguments

if TYPE_CHECKING:
    from bertkernels.training.finetune_arguments import FinetuneArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

_DESCRIPTION = (
    "Fine-tunes an encoder on classification or regression of text, question answering, tagging of words or multiple "
    "choice. Options may also stand in a file. Several tasks of GLUE and several seeds make several runs, each in a "
    "folder of its own."
)


def run(argv: list[str]) -> int:
    """Fine-tunes as the flags say, once or for several tasks and seeds, and prints the evaluation."""
    from bertkernels.data.glue import TRAINED, task_names
    from bertkernels.training.finetune import finetune
    from bertkernels.training.recipes.finetuning import RECIPES
    from bertkernels.training.recipes.names import list_recipes
    from bertkernels.training.series_arguments import chosen_seeds

    argv = expand_file(argv)
    series, arguments, training = _parse(argv)
    if series.list_recipes:
        print(list_recipes(RECIPES))
        return 0
    tasks = task_names(arguments.task_name, TRAINED) if arguments.task_name else [None]
    seeds = chosen_seeds(series, training.seed)
    if len(tasks) > 1 or seeds is not None:
        return _several(argv, arguments, training, tasks, seeds)
    result = finetune(*_with_recipe(argv))
    if training.process_index == 0:
        print_metrics(result.metrics)
        print(f"Fine-tuned model: {result.output_dir}")
    return 0


def _several(
    argv: list[str],
    arguments: "FinetuneArguments",
    training: "FinetuneRunArguments",
    tasks: list[str | None],
    seeds: list[int] | None,
) -> int:
    from bertkernels.data.glue import check_glue_folders
    from bertkernels.training.finished_run import finish
    from bertkernels.training.results_table import text_table
    from bertkernels.training.series import check_series, finetune_seeds, finetune_tasks

    check_series(training)
    if arguments.glue_dir and tasks != [None]:
        check_glue_folders(arguments.glue_dir, tasks)
    folder, first = Path(training.output_dir), training.process_index == 0

    def finetune_task(task: str | None, place: Path) -> dict[str, object]:
        flags = argv if task is None else [*argv, "--task_name", task]
        if seeds is None:
            return finish(*_with_recipe([*flags, "--output_dir", str(place)]))
        return finetune_seeds(
            seeds,
            place,
            lambda seed, inner: _with_recipe([*flags, "--output_dir", str(inner), "--seed", str(seed)]),
        )

    if len(tasks) == 1:
        results = finetune_task(tasks[0], folder)
        if first:
            print_metrics(results)
            print(f"Fine-tuned models, one a seed: {folder}")
    else:
        scores = finetune_tasks(tasks, folder, finetune_task, first)
        if first:
            print(f"{text_table(scores)}\nFine-tuned models, a folder for each task: {folder}")
    return 0


def _with_recipe(argv: list[str]) -> tuple["FinetuneArguments", "FinetuneRunArguments"]:
    """The arguments of a run; its recipe, if any, is printed in full."""
    from bertkernels.training.recipes.apply import given_flags
    from bertkernels.training.recipes.finetuning_flags import recipe_for_run

    series, arguments, training = _parse(argv)
    if series.recipe is not None:
        flags, description = recipe_for_run(series.recipe, arguments.task_name, training, given_flags(argv))
        if training.process_index == 0:
            print(description, flush=True)
        _, arguments, training = _parse([*flags, *argv])
    return arguments, training


def _parse(argv: list[str]) -> tuple:
    from bertkernels.training.finetune_arguments import FinetuneArguments
    from bertkernels.training.series_arguments import SeriesArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

    return parse_arguments("finetune", _DESCRIPTION, argv, SeriesArguments, FinetuneArguments, FinetuneRunArguments)


def print_metrics(metrics: dict[str, object]) -> None:
    """What was evaluated, a line a metric."""
    for name, value in sorted(metrics.items()):
        if name.startswith("eval_") and not name.endswith(("_runtime", "_per_second")):
            print(f"{name:>24}: {value:.4f}")
