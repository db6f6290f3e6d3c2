"""What a fine-tuning run takes of its recipe."""

from bertkernels.data.glue import glue_task
from bertkernels.errors import InputError
from bertkernels.training.recipes.apply import describe_recipe, recipe_flags
from bertkernels.training.recipes.finetuning import RECIPES, FinetuningRecipe
from bertkernels.training.recipes.names import find_recipe
from bertkernels.training.training_arguments import FinetuneRunArguments

_SIZE = "per_device_train_batch_size"


def recipe_for_run(name: str, task: str | None, run: FinetuneRunArguments, given: set[str]) -> tuple[list[str], str]:
    """The flags that a recipe adds to those of the command line, and all of it in words.

    Args:
        task: of GLUE or another kind; None: the user's own.
        run: of the command line alone.
        given: the flags that stand there.

    Raises InputError for an unknown recipe, one without values for the task, and a batch that can't be divided.
    """
    recipe = find_recipe(RECIPES, name)
    values = {**recipe.values, **recipe.tasks.get(_key(recipe, task), {})}
    if "learning_rate" not in values:
        raise InputError(f"--recipe {name} is for --task_name {', '.join(recipe.tasks)}")
    batch = values.pop("batch", recipe.batch)
    values[_SIZE] = run.per_device_train_batch_size if _SIZE in given else batch_share(name, batch, run)
    remarks = {**recipe.notes, _SIZE: f"{batch} examples in a step of all processes"}
    title = f"Recipe {name}{f' for {task}' if task else ''}: {recipe.what}\n  source: {recipe.source}"
    return recipe_flags(values, given), describe_recipe(title, values, given, remarks)


def _key(recipe: FinetuningRecipe, task: str | None) -> str | None:
    if task is None or task in recipe.tasks:
        return task
    try:
        return glue_task(task).folder
    except InputError:
        return task  # of another kind


def batch_share(name: str, batch: int, run: FinetuneRunArguments) -> int:
    """A process's examples of a step that takes so many."""
    parts = run.world_size * max(1, run.n_gpu) * run.gradient_accumulation_steps
    if batch % parts:
        raise InputError(
            f"the {batch} examples of a step of --recipe {name} can't be divided into {parts} batches (processes × "
            f"--gradient_accumulation_steps): give --{_SIZE}"
        )
    return batch // parts
