"""A recipe's values as flags, under those of the command line."""

from collections.abc import Mapping, Sequence

# A flag that stands for the same choice as others of a recipe's: where it is given, those are left out.
_IN_PLACE_OF = {
    "num_train_epochs": ("max_steps", "lr_decay_steps"),
    "max_steps": ("num_train_epochs", "lr_decay_steps"),
    "lr_scheduler_type": ("bert_schedule", "lr_decay_power", "lr_decay_steps"),
    "optim": ("optimizer",),
    "generator_hidden_size": ("generator_size",),
}


def given_flags(argv: Sequence[str]) -> set[str]:
    """Names of the flags of a command line, as the dataclasses' fields are called."""
    names = {part.split("=")[0].lstrip("-").replace("-", "_") for part in argv if part.startswith("--")}
    return names | {name.removeprefix("no_") for name in names}


def recipe_flags(recipe: Mapping[str, object], given: set[str]) -> list[str]:
    """Flags for what the command line leaves to the recipe."""
    replaced = {name for flag in given for name in _IN_PLACE_OF.get(flag, ())} | given
    return [part for name, value in recipe.items() if name not in replaced for part in (f"--{name}", str(value))]


def describe_recipe(
    title: str, recipe: Mapping[str, object], given: set[str], remarks: Mapping[str, str] | None = None
) -> str:
    """All values of a recipe, one a line, with which of them a flag of the command line replaces, or else a remark."""
    replaced = {name: flag for flag in given for name in (*_IN_PLACE_OF.get(flag, ()), flag)}
    said = {**(remarks or {}), **{name: f"replaced by --{flag}" for name, flag in replaced.items()}}
    width = max(map(len, recipe))
    lines = [
        f"  {name:<{width}}  {value}" + (f"  ({said[name]})" if name in said else "") for name, value in recipe.items()
    ]
    return "\n".join([title, *lines])
