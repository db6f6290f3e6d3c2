"""What a recipe is, and how a run takes it: as defaults of flags, which flags on the command line override."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from bertkernels.errors import InputError
from bertkernels.training.training_arguments import RunArguments

# Flags that say the same as others in another way: where one is given, a recipe's value of the others would undo it.
_INSTEAD = {
    "lr_scheduler_type": ("bert_schedule", "lr_decay_power", "lr_decay_steps"),
    "optim": ("optimizer",),
    "num_train_epochs": ("max_steps", "lr_decay_steps"),
    "max_steps": ("num_train_epochs", "lr_decay_steps"),
}


@dataclass(frozen=True)
class Recipe:
    """Values of flags, and where they are from.

    Attributes:
        what: one line for the list of recipes.
        source: publication and released code.
        values: by flag, of any dataclass of the verb.
        batch: examples in a step, over all processes and accumulated batches.
        notes: by flag, what is to be said of its value, such as that it was not published.
        left_out: by flag, why the recipe's value is not used in this run.
    """

    name: str
    what: str
    source: str
    values: Mapping[str, object]
    batch: int | None = None
    notes: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def without(self, names: Collection[str], reason: str) -> "Recipe":
        """The recipe without values for some flags."""
        dropped = {name: reason for name in self.values if name in names}
        kept = {name: value for name, value in self.values.items() if name not in names}
        return replace(self, values=kept, left_out={**self.left_out, **dropped})


def select(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    """Raises InputError, with the closest name, where there is no such recipe."""
    if name not in recipes:
        close = get_close_matches(name, recipes, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(recipes)}"
        raise InputError(f"unknown --recipe {name!r}, {hint}")
    return recipes[name]


def make_room(recipe: Recipe, given: Mapping[str, object]) -> Recipe:
    """The recipe without what flags on the command line say in another way."""
    for flag, names in _INSTEAD.items():
        if flag in given:
            recipe = recipe.without(set(names) - set(given), f"--{flag} is given")
    return recipe


def fit_batch(recipe: Recipe, run: RunArguments, given: Collection[str]) -> None:
    """Sets batch size and accumulation of `run`, as far as they are not given, so that a step has the recipe's examples
    over all processes. Raises InputError where they can't be divided so."""
    if recipe.batch is None or run.tokens_per_batch is not None:
        return
    size, accumulated = "per_device_train_batch_size", "gradient_accumulation_steps"
    fixed = {name: getattr(run, name) for name in (size, accumulated) if name in given}
    parts = _devices(run) * math.prod(fixed.values())
    if len(fixed) == 2:
        return
    if recipe.batch % parts:
        said = "".join(f", --{name} {value}" for name, value in fixed.items())
        raise InputError(
            f"the batch of {recipe.batch} examples of --recipe {recipe.name} can't be divided among {_devices(run)} "
            f"processes{said}: give both --{size} and --{accumulated}"
        )
    if size in fixed:
        run.gradient_accumulation_steps = recipe.batch // parts
    else:
        run.per_device_train_batch_size = recipe.batch // parts
        run.gradient_accumulation_steps = fixed.get(accumulated, 1)


def describe(recipe: Recipe, run: RunArguments, given: Collection[str], *arguments: object) -> str:
    """All values of the recipe as this run has them, with what was given in place of which, and notes.

    Args:
        given: flags on the command line.
        arguments: the verb's other dataclasses.
    """
    rows = [("batch", *_batch(recipe, run))] if recipe.batch is not None else []
    for name, value in recipe.values.items():
        used = next(getattr(holder, name) for holder in (*arguments, run) if hasattr(holder, name))
        remark = recipe.notes.get(name, "")
        if name in given:
            remark = f"given, in place of {_text(value)}" if used != value else "given, as in the recipe"
        rows.append((name, _text(used), remark))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = [f"recipe {recipe.name}: {recipe.what}", f"source: {recipe.source}"]
    lines += [f"  {name:<{widths[0]}}  {value:<{widths[1]}}  {remark}".rstrip() for name, value, remark in rows]
    lines += [f"  {name:<{widths[0]}}  left out: {reason}" for name, reason in recipe.left_out.items()]
    return "\n".join(lines)


def list_of(recipes: Mapping[str, Recipe]) -> str:
    """Names and what they are, a line each."""
    width = max(map(len, recipes))
    return "\n".join(f"{name:<{width}}  {recipe.what}" for name, recipe in recipes.items())


def _batch(recipe: Recipe, run: RunArguments) -> tuple[str, str]:
    if run.tokens_per_batch is not None:
        return f"{run.tokens_per_batch} tokens a process", f"given, in place of {recipe.batch} examples"
    size, accumulated, devices = run.per_device_train_batch_size, run.gradient_accumulation_steps, _devices(run)
    total = size * accumulated * devices
    remark = recipe.notes.get("batch") if total == recipe.batch else f"given, in place of {recipe.batch}"
    parts = f"{size} at once, {accumulated} times, in {devices} process{'es' if devices > 1 else ''}"
    return str(total), f"{parts}; {remark}" if remark else parts


def _devices(run: RunArguments) -> int:
    return run.world_size * max(1, run.n_gpu)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
