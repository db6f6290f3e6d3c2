"""`bertkernels finetune`: an encoder on sentences, pairs of them, or questions on texts."""

from pathlib import Path

from bertkernels.cli.arguments import expand_file, parse_arguments

_DESCRIPTION = (
    "Fine-tunes an encoder on classification or regression of text or on question answering. Options may also stand in "
    "a file. Several tasks of GLUE and several seeds make several runs, each in a folder of its own."
)


def run(argv: list[str]) -> int:
    """Fine-tunes as the flags say, once or for several tasks and seeds, and prints the evaluation."""
    from bertkernels.data.glue import TRAINED, task_names
    from bertkernels.training.series_arguments import chosen_seeds

    argv = expand_file(argv)
    series, arguments, training = _parse(argv)
    tasks = task_names(arguments.task_name, TRAINED) if arguments.task_name else [None]
    seeds = chosen_seeds(series, training.seed)
    first = training.process_index == 0
    if len(tasks) > 1 or seeds is not None:
        return _several(argv, series.recipe, tasks, seeds)
    return _one(_with_recipe(argv, series.recipe, tasks[0], first))


def _one(argv: list[str]) -> int:
    from bertkernels.training.finetune import finetune

    _, arguments, training = _parse(argv)
    result = finetune(arguments, training)
    if training.process_index == 0:
        _print_metrics(result.metrics)
        print(f"Fine-tuned model: {result.output_dir}")
    return 0


def _several(argv: list[str], recipe: str | None, tasks: list[str | None], seeds: list[int] | None) -> int:
    from bertkernels.data.glue import check_glue_folders
    from bertkernels.training.finished_run import finish
    from bertkernels.training.results_table import text_table
    from bertkernels.training.series import check_series, finetune_seeds, finetune_tasks

    _, arguments, training = _parse(argv)
    check_series(training)
    if arguments.glue_dir:
        check_glue_folders(arguments.glue_dir, tasks)
    folder, first = Path(training.output_dir), training.process_index == 0

    def finetune_task(task: str | None, place: Path) -> dict[str, object]:
        named = argv if task is None else [*argv, "--task_name", task]
        flags = _with_recipe(named, recipe, task, first)
        if seeds is None:
            return finish(*_parse([*flags, "--output_dir", str(place)])[1:])
        return finetune_seeds(
            seeds, place, lambda seed, inner: _parse([*flags, "--output_dir", str(inner), "--seed", str(seed)])[1:]
        )

    if len(tasks) == 1:
        results = finetune_task(tasks[0], folder)
        if first:
            _print_metrics(results)
            print(f"Fine-tuned models, one a seed: {folder}")
    else:
        scores = finetune_tasks(tasks, folder, finetune_task, first)
        if first:
            print(f"{text_table(scores)}\nFine-tuned models, one folder a task: {folder}")
    return 0


def _parse(argv: list[str]) -> tuple:
    from bertkernels.training.finetune_arguments import FinetuneArguments
    from bertkernels.training.series_arguments import SeriesArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

    return parse_arguments("finetune", _DESCRIPTION, argv, SeriesArguments, FinetuneArguments, FinetuneRunArguments)


def _with_recipe(argv: list[str], recipe: str | None, task: str | None, first: bool) -> list[str]:
    """The flags with the recipe's before them, which the first process prints in full."""
    if recipe is None:
        return argv
    from bertkernels.training.recipes.apply import describe_recipe, given_flags, recipe_flags
    from bertkernels.training.recipes.finetuning import RECIPES, finetuning_recipe

    values, given = finetuning_recipe(recipe, task), given_flags(argv)
    if first:
        title = f"Recipe {recipe}{f' for {task}' if task else ''}: {RECIPES[recipe].source}"
        print(describe_recipe(title, values, given), flush=True)
    return [*recipe_flags(values, given), *argv]


def _print_metrics(metrics: dict[str, object]) -> None:
    for name, value in sorted(metrics.items()):
        if name.startswith("eval_") and not name.endswith(("_runtime", "_per_second")):
            print(f"{name:>24}: {value:.4f}")
