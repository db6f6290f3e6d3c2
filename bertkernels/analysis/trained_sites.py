"""Trained probes of an encoder's sites: all of them learn from the same passes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bertkernels.analysis.capture import Place
from bertkernels.analysis.probe_scores import ProbeScores
from bertkernels.analysis.token_pairs import token_pairs
from bertkernels.analysis.trained_probe import TrainedProbe
from bertkernels.errors import InputError

if TYPE_CHECKING:
    from bertkernels.analysis.layers import LayeredModel

Batches = Iterable[Mapping[str, torch.Tensor]]


@dataclass(frozen=True)
class TrainedSite:
    """A site's probe, and its scores on held-out tokens."""

    probe: TrainedProbe
    scores: ProbeScores


def trained_sites(
    layered: LayeredModel,
    train: Batches,
    held_out: Batches,
    places: Collection[Place],
    kind: str = "linear",
    loss: str = "cosine",
    epochs: int = 3,
    learning_rate: float = 1e-3,
    dropout: float = 0.0,
    seed: int = 0,
) -> dict[Place, TrainedSite]:
    """Trains a `TrainedProbe` for each place, one step a batch; the defaults are the paper's.

    Args:
        train: batches of the model's arguments, which can be gone through `epochs` times, such as a data loader, which
            should shuffle them.
        held_out: others, gone through once.

    Raises:
        InputError: no training or held-out tokens, or a site that is not there.
        ValueError: an unknown kind or loss, or an iterator where there are more epochs.
    """
    if epochs > 1 and iter(train) is train:
        raise ValueError(f"{epochs} epochs need batches that can be gone through again, got an iterator")
    probes: dict[Place, TrainedProbe] = {}
    for _ in range(epochs):
        for found in token_pairs(layered, train, places):
            for place, pairs in found.items():
                if place not in probes:
                    widths = pairs.x.shape[1], pairs.y.shape[1]
                    probes[place] = TrainedProbe(
                        *widths, kind, loss, learning_rate, dropout, seed=seed, device=pairs.x.device
                    )
                probes[place].step(pairs.x, pairs.y)
    scoring = {place: probe.scoring() for place, probe in probes.items()}
    for found in token_pairs(layered, held_out, scoring):
        for place, pairs in found.items():
            scoring[place].add(pairs.y, probes[place](pairs.x))
    if not all(place in scoring and scoring[place].tokens for place in places):
        raise InputError("trained probes need training and held-out tokens, got none")
    return {place: TrainedSite(probes[place], score.scores()) for place, score in scoring.items()}
