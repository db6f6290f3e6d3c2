"""Which sub-layers the layers of a TensorFlow checkpoint have, by the names of its variables.

A layer of BERT, ELECTRA and ConvBERT is attention (in ConvBERT mixed with a convolution) and a feed-forward. A layer of
LV-BERT is two submodules, either of which may be of any kind; which one, nothing but the variables in it tells.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bertkernels.errors import InputError

_SUBMODULES = ("first_submodule", "second_submodule")
# what the variables of a submodule start with → its kind
_PARTS = {"dynamic_convolution_layer": "dynamic_conv", "attention": "attention", "intermediate": "ffn", "output": "ffn"}


@dataclass(frozen=True)
class Place:
    """A sub-layer: its kind, and the scope that holds its variables."""

    kind: str
    scope: str


def find_layers(scope: str, variables: Iterable[str]) -> list[list[Place]]:
    """The sub-layers of each layer of the encoder in `scope`, from layer 0 to the highest number in a name.

    Raises:
        InputError: submodules that hold no kind or several, all of them.
    """
    pattern = re.compile(rf"({re.escape(scope)}/encoder/layer_(\d+))/(.+)")
    names: dict[int, list[str]] = {}  # by layer, within it
    for name in variables:
        if match := pattern.match(name):
            names.setdefault(int(match[2]), []).append(match[3])
    layers = [
        (f"{scope}/encoder/layer_{number}", names.get(number, [])) for number in range(max(names, default=-1) + 1)
    ]
    if not any(name.startswith(_SUBMODULES) for _, within in layers for name in within):
        return [_fixed_layer(layer, within) for layer, within in layers]
    problems: list[str] = []
    found = [
        [_submodule(f"{layer}/{part}", within, part, problems) for part in _SUBMODULES] for layer, within in layers
    ]
    if problems:
        raise InputError(f"not one kind of sub-layer in each place: {'; '.join(problems)}")
    return found


def _fixed_layer(layer: str, names: list[str]) -> list[Place]:
    mixed = any(name.startswith("attention/self/conv_attn_") for name in names)
    return [Place("mixed" if mixed else "attention", layer), Place("ffn", layer)]


def _submodule(scope: str, names: list[str], part: str, problems: list[str]) -> Place:
    within = {name.split("/")[1] for name in names if name.startswith(f"{part}/")}
    kinds = sorted({_PARTS[first] for first in within if first in _PARTS})
    if len(kinds) != 1:
        problems.append(f"{scope} holds {' and '.join(kinds) or 'none'}")
    return Place(kinds[0] if kinds else "", scope)
