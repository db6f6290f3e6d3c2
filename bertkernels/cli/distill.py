"""`bertkernels distill`: a student learns a task, or text, from a teacher."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bertkernels.cli.arguments import expand_file, parse_arguments
from bertkernels.cli.finetune import print_metrics

if TYPE_CHECKING:
    from bertkernels.training.distill_arguments import DistillArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

_DESCRIPTION = (
    "Distils an encoder (--teacher_model_name_or_path) into a student, on a task of fine-tuning or on text that was "
    "prepared (--prepared_dir). Options may also stand in a file. Several tasks of GLUE (but with --multi_task), "
    "several seeds and the phases of a recipe make several runs, each in a folder of its own."
)


def run(argv: list[str]) -> int:
    """Distils as the flags say, once or for several tasks, seeds and phases, and prints the evaluation."""
    from bertkernels.data.glue import TRAINED, check_glue_folders, task_names
    from bertkernels.training.distill import distill
    from bertkernels.training.distill_phases import distill_phases, distill_seeds
    from bertkernels.training.recipes.distillation import RECIPES
    from bertkernels.training.recipes.distillation_flags import recipe_phases
    from bertkernels.training.recipes.names import list_recipes
    from bertkernels.training.results_table import text_table
    from bertkernels.training.series import check_series, finetune_tasks
    from bertkernels.training.series_arguments import chosen_seeds

    argv = expand_file(argv)
    asked, arguments, training = _parse(argv)
    if asked.list_recipes:
        print(list_recipes(RECIPES))
        return 0
    tasks = [arguments.task_name]
    if arguments.task_name and not arguments.multi_task:
        tasks = task_names(arguments.task_name, TRAINED)
    seeds = chosen_seeds(asked, training.seed)
    phases = {task: recipe_phases(asked, replace(arguments, task_name=task)) for task in tasks}
    folder, first = Path(training.output_dir), training.process_index == 0
    if len(tasks) == 1 and seeds is None and phases[tasks[0]] in ([None], [asked.phase]):
        result = distill(*_with_recipe(argv, asked.phase))
        if first:
            print_metrics(result.metrics)
            print(f"Distilled model: {result.output_dir}")
        return 0
    check_series(training)
    if arguments.glue_dir and tasks != [None] and not arguments.multi_task:
        check_glue_folders(arguments.glue_dir, tasks)

    def distill_task(task: str | None, place: Path) -> dict[str, object]:
        named = argv if task is None else [*argv, "--task_name", task]

        def distill_seed(seed: int | None, inner: Path) -> dict[str, object]:
            seeded = named if seed is None else [*named, "--seed", str(seed)]
            return distill_phases(
                phases[task],
                inner,
                lambda phase, own: _with_recipe([*seeded, "--output_dir", str(own)], phase),
            )

        return distill_seed(None, place) if seeds is None else distill_seeds(seeds, place, distill_seed, first)

    if len(tasks) == 1:
        results = distill_task(tasks[0], folder)
        if first:
            print_metrics(results)
            print(f"Distilled models, one a seed or phase: {folder}")
    else:
        scores = finetune_tasks(tasks, folder, distill_task, first)
        if first:
            print(f"{text_table(scores)}\nDistilled models, a folder for each task: {folder}")
    return 0


def _with_recipe(argv: list[str], phase: str | None) -> tuple["DistillArguments", "FinetuneRunArguments"]:
    """The arguments of a run; its recipe, if any, is printed in full."""
    from bertkernels.training.recipes.apply import given_flags
    from bertkernels.training.recipes.distillation_flags import recipe_for_run

    asked, arguments, training = _parse(argv)
    if asked.recipe is not None:
        flags, description = recipe_for_run(asked.recipe, phase, arguments, training, given_flags(argv))
        if training.process_index == 0:
            print(description, flush=True)
        _, arguments, training = _parse([*flags, *argv])
    return arguments, training


def _parse(argv: list[str]) -> tuple:
    from bertkernels.training.distill_arguments import DistillArguments
    from bertkernels.training.recipes.distillation_flags import DistillSeriesArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

    return parse_arguments(
        "distill", _DESCRIPTION, argv, DistillSeriesArguments, DistillArguments, FinetuneRunArguments
    )
