"""What a pre-training run takes of its recipe."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from bertkernels.data.prepared.folder import read_manifest
from bertkernels.errors import InputError
from bertkernels.training.pretrain_arguments import (
    ELECTRA,
    ELECTRA_FIELDS,
    ENCODER_FIELDS,
    GENERATOR_FIELDS,
    PREPARED_FLAGS,
    PretrainArguments,
)
from bertkernels.training.recipes.apply import describe_recipe, recipe_flags
from bertkernels.training.recipes.names import find_recipe
from bertkernels.training.recipes.pretraining import RECIPES, PretrainingRecipe
from bertkernels.training.training_arguments import PretrainRunArguments

_SIZE, _ACCUMULATED = "per_device_train_batch_size", "gradient_accumulation_steps"


@dataclass
class PretrainRecipeArguments:
    """Which recipe, if any."""

    recipe: str | None = field(
        default=None,
        metadata={
            "help": "Published hyper-parameters by name, such as convbert-small; flags beside it win over its values."
        },
    )
    phase: int | None = field(
        default=None, metadata={"help": "Tokens in the examples of a recipe's phase: 512 for its second."}
    )
    list_recipes: bool = field(default=False, metadata={"help": "List the recipes and do nothing else."})


def recipe_for_run(
    asked: PretrainRecipeArguments, arguments: PretrainArguments, run: PretrainRunArguments, given: set[str]
) -> tuple[list[str], str] | None:
    """The flags that the recipe adds to those of the command line, and all of it in words; None without a recipe.

    Args:
        arguments, run: of the command line alone.
        given: the flags that stand there.

    Raises InputError for an unknown recipe, and for one that can't work with what is given.
    """
    recipe = _find(asked, given)
    if recipe is None:
        return None
    unused = _unused(recipe, arguments, given)
    _check_prepared(recipe, arguments, given)
    values = {name: value for name, value in recipe.values.items() if name not in unused}
    batch = _batch(recipe, run, given)
    flags = recipe_flags({**values, **batch}, given)
    remarks = {**recipe.notes, **{name: f"not used: {reason}" for name, reason in unused.items()}}
    remarks["batch"] = _batch_remark(recipe, run, batch)
    title = f"Recipe {recipe.name}: {recipe.what}\n  source: {recipe.source}"
    return flags, describe_recipe(title, {"batch": recipe.batch, **recipe.values}, given, remarks)


def _find(asked: PretrainRecipeArguments, given: set[str]) -> PretrainingRecipe | None:
    name, phase = asked.recipe, asked.phase
    if name is None:
        if phase is not None:
            raise InputError("--phase is of a --recipe")
        return None
    recipe = find_recipe(RECIPES, name)
    if phase not in (None, recipe.values["max_seq_length"]):
        if f"{name}-{phase}" not in RECIPES:
            raise InputError(f"--recipe {name} has no --phase of {phase} tokens")
        recipe = RECIPES[f"{name}-{phase}"]
    if recipe.second and "model_name_or_path" not in given:
        raise InputError(
            f"--recipe {recipe.name} goes on from a first phase: give --model_name_or_path, the folder that it wrote"
        )
    return recipe


def _unused(recipe: PretrainingRecipe, arguments: PretrainArguments, given: set[str]) -> dict[str, str]:
    """Flags of the recipe that the given ones leave no room for, and why."""
    unused: dict[str, str] = {}
    shape = {"preset", *ENCODER_FIELDS, *GENERATOR_FIELDS}
    for flag in ("model_name_or_path", "config_file"):
        if flag in given:
            unused |= dict.fromkeys(shape, f"the model is that of --{flag}")
    if arguments.objective != ELECTRA:
        unused |= dict.fromkeys(ELECTRA_FIELDS, f"--objective {arguments.objective} has no generator")
    if arguments.uniform_generator or not arguments.untied_generator:
        unused |= dict.fromkeys(GENERATOR_FIELDS, "there is no generator of its own")
    for flag in ("prepared_dir", "tokenizer_name", "vocab_file", "model_name_or_path"):
        if flag in given:
            unused["vocab_size"] = f"the vocabulary is that of --{flag}"
    return {name: reason for name, reason in unused.items() if name in recipe.values and name not in given}


def _check_prepared(recipe: PretrainingRecipe, arguments: PretrainArguments, given: set[str]) -> None:
    manifest = read_manifest(Path(arguments.prepared_dir)) if arguments.prepared_dir else None
    packing = manifest["facts"]["packing"] if manifest else {}
    for name, key in PREPARED_FLAGS.items():
        value = getattr(arguments, name) if name in given else recipe.values.get(name)
        if value is not None and key in packing and value != packing[key]:
            raise InputError(
                f"--recipe {recipe.name} has --{name} {value}, --prepared_dir {arguments.prepared_dir} was prepared "
                f"with {packing[key]}: give --{name} {packing[key]} to train on it all the same"
            )


def _batch(recipe: PretrainingRecipe, run: PretrainRunArguments, given: set[str]) -> dict[str, int]:
    """Batch size and accumulation with which all processes together take the recipe's examples in a step."""
    if run.tokens_per_batch is not None or {_SIZE, _ACCUMULATED} <= given:
        return {}
    fixed = {name: getattr(run, name) for name in (_SIZE, _ACCUMULATED) if name in given}
    parts = _devices(run) * math.prod(fixed.values())
    if recipe.batch % parts:
        said = "".join(f" and --{name} {value}" for name, value in fixed.items())
        raise InputError(
            f"the {recipe.batch} examples of a step of --recipe {recipe.name} can't be divided among "
            f"{_processes(run)}{said}: give both --{_SIZE} and --{_ACCUMULATED}"
        )
    rest = recipe.batch // parts
    return {_ACCUMULATED: rest} if _SIZE in fixed else {_SIZE: rest, _ACCUMULATED: fixed.get(_ACCUMULATED, 1)}


def _batch_remark(recipe: PretrainingRecipe, run: PretrainRunArguments, batch: dict[str, int]) -> str:
    if run.tokens_per_batch is not None:
        return f"replaced by --tokens_per_batch {run.tokens_per_batch}"
    size, accumulated = (batch.get(name, getattr(run, name)) for name in (_SIZE, _ACCUMULATED))
    parts = f"{size} at once, {accumulated} times, in {_processes(run)}"
    total = size * accumulated * _devices(run)
    if total != recipe.batch:
        return f"replaced by {total}: {parts}"
    return "; ".join(filter(None, (parts, recipe.notes.get("batch"))))


def _devices(run: PretrainRunArguments) -> int:
    return run.world_size * max(1, run.n_gpu)


def _processes(run: PretrainRunArguments) -> str:
    return f"{_devices(run)} process{'es' if _devices(run) > 1 else ''}"
