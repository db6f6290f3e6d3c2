"""Recipes by their names."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from bertkernels.errors import InputError

Recipe = TypeVar("Recipe")


def list_recipes(recipes: Mapping[str, Recipe]) -> str:
    """Names and what they are, a line each."""
    width = max(map(len, recipes))
    return "\n".join(f"{name:<{width}}  {recipe.what}" for name, recipe in recipes.items())


def find_recipe(recipes: Mapping[str, Recipe], name: str) -> Recipe:
    """Raises InputError for an unknown name, with the nearest."""
    if name not in recipes:
        close = get_close_matches(name, recipes, n=1)
        hint = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(recipes)}"
        raise InputError(f"unknown --recipe {name!r}, {hint}")
    return recipes[name]
