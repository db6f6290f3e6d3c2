"""What a run of distillation takes of its recipe."""

from dataclasses import dataclass, field

from bertkernels.data.glue import glue_task
from bertkernels.errors import InputError
from bertkernels.training.distill_arguments import DistillArguments
from bertkernels.training.recipes.apply import describe_recipe, recipe_flags
from bertkernels.training.recipes.distillation import RECIPES, DistillationRecipe, Values
from bertkernels.training.recipes.finetuning_flags import batch_share
from bertkernels.training.recipes.names import find_recipe
from bertkernels.training.series_arguments import SeriesArguments
from bertkernels.training.tasks.select import OTHER_TASKS
from bertkernels.training.training_arguments import FinetuneRunArguments

_SIZE = "per_device_train_batch_size"
_DESCRIBES = ("model_name_or_path", "preset", "plan")  # flags that say what the student is


@dataclass
class DistillSeriesArguments(SeriesArguments):
    """Published hyper-parameters, which phase of theirs, and how many runs."""

    recipe: str | None = field(
        default=None,
        metadata={
            "help": "Published hyper-parameters by name (tinybert-4, efficientbert-tiny, ...), for the task or text at "
            "hand; any other flag overrides its value, in every phase."
        },
    )
    phase: str | None = field(
        default=None, metadata={"help": "Only this phase of a recipe of several: intermediate or prediction."}
    )


def recipe_phases(asked: DistillSeriesArguments, arguments: DistillArguments) -> list[str | None]:
    """The phases of a run in order; of a run that is one, a single None.

    Raises InputError for an unknown recipe or phase, and for a recipe without values for the task or text.
    """
    if asked.recipe is None:
        if asked.phase is not None:
            raise InputError("--phase is of a --recipe")
        return [None]
    recipe = find_recipe(RECIPES, asked.recipe)
    _differences(recipe, arguments)
    phases = [] if arguments.prepared_dir is not None else [name for name in recipe.phases if name]
    if asked.phase is not None:
        if asked.phase not in phases:
            known = f"only {', '.join(phases)}" if phases else "it is one here"
            raise InputError(f"--recipe {asked.recipe} has no --phase {asked.phase}, {known}")
        return [asked.phase]
    return [*phases] or [None]


def recipe_for_run(
    name: str, phase: str | None, arguments: DistillArguments, run: FinetuneRunArguments, given: set[str]
) -> tuple[list[str], str]:
    """The flags that a recipe adds to those of the command line, and all of it in words.

    Args:
        arguments, run: of the command line alone.
        given: the flags that stand there.
    """
    recipe = find_recipe(RECIPES, name)
    on_text = arguments.prepared_dir is not None
    values = dict(recipe.text if on_text else recipe.phases[phase or ""]) | _differences(recipe, arguments)
    batch = values.pop("batch")
    values[_SIZE] = run.per_device_train_batch_size if _SIZE in given else batch_share(name, batch, run)
    described = next((flag for flag in _DESCRIBES if flag in given), None)
    student = {} if described else recipe.student
    remarks = {**recipe.notes, _SIZE: f"{batch} examples in a step of all processes"}
    remarks |= {flag: f"not used: the student is that of --{described}" for flag in recipe.student if described}
    on = "text" if on_text else arguments.task_name or "the task"
    title = f"Recipe {name} on {on}{f', {phase}' if phase else ''}: {recipe.what}\n  source: {recipe.source}"
    said = describe_recipe(title, {**recipe.student, **values}, given, remarks)
    return recipe_flags({**student, **values}, given), said


def _differences(recipe: DistillationRecipe, arguments: DistillArguments) -> Values:
    """What a task changes in a recipe. Raises InputError where the recipe is not for it."""
    if arguments.prepared_dir is not None:
        if recipe.text is None:
            raise InputError(f"--recipe {recipe.name} has no values for text: it is for tasks")
        return {}
    if arguments.multi_task:  # what is for one task is not for all of them
        return {}
    task = arguments.task_name
    if task is None or task in recipe.tasks:
        return recipe.tasks.get(task, {})
    if task in OTHER_TASKS:
        raise InputError(f"--recipe {recipe.name} has no values for --task_name {task}")
    return recipe.tasks.get(glue_task(task).folder, {})
