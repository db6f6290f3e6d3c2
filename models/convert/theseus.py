"""Checkpoints of BERT-of-Theseus's released code: a BERT that holds a successor's layers beside its own.

`bert.encoder.layer.N` is the predecessor, `bert.encoder.scc_layer.N` its successor; the configuration only knows of the
predecessor, so that other programs read such a checkpoint as if nothing had been compressed.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

PREDECESSOR, SUCCESSOR = "predecessor", "successor"
_SUCCESSOR = re.compile(r"((?:.*\.)?encoder)\.scc_layer\.(\d+)\.")
_PREDECESSOR = re.compile(r"(?:.*\.)?encoder\.layer\.\d+\.")

Item = TypeVar("Item")


def successor_layers(names: Mapping[str, object]) -> int:
    """How many layers the successor in a checkpoint with these names has; 0 where there is none."""
    return max((int(found[2]) + 1 for name in names if (found := _SUCCESSOR.match(name))), default=0)


def half_of(weights: Mapping[str, Item], half: str) -> dict[str, Item]:
    """The weights of one of the two models, under the names that BERT gives them."""
    if half == PREDECESSOR:
        return {name: weight for name, weight in weights.items() if not _SUCCESSOR.match(name)}
    return {
        _SUCCESSOR.sub(r"\1.layer.\2.", name): weight
        for name, weight in weights.items()
        if not _PREDECESSOR.match(name)
    }
