"""What tracked hidden states look like: how narrow their cones are, and how alike they are to each other."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from pathlib import Path

from bertkernels.analysis.cka import CKA
from bertkernels.analysis.cone import Cone, normalized
from bertkernels.analysis.track import read_track
from bertkernels.data.prepared.folder import write_json

SUMMARY = "summary.json"


@dataclass(frozen=True)
class TrackSummary:
    """Of S states.

    Attributes:
        states: their names, "block.site".
        tokens: how many tokens there are.
        cone_size, mean_length: [S], the latter the mean of ‖x‖.
        cosine: [S, S], the mean over tokens of the cosine between a token's two states; None of different widths.
        cka: [S, S], by `cka.CKA`.
    """

    states: list[str]
    tokens: int
    cone_size: list[float]
    mean_length: list[float]
    cosine: list[list[float | None]]
    cka: list[list[float]]


def summarize_track(folder: str | Path) -> TrackSummary:
    """Goes once through a folder of `track_states`, and writes what it returns to its summary.json too."""
    cones: dict[str, Cone] = {}
    lengths: dict[str, float] = {}
    cosines: dict[tuple[str, str], float] = {}
    cka = CKA()
    for rows in read_track(folder):
        states = {name: x.double() for name, x in rows.states.items()}
        cka.add(states)
        for name, x in states.items():
            cones.setdefault(name, Cone()).add(x)
            lengths[name] = lengths.get(name, 0.0) + x.norm(dim=1).sum().item()
        directions = {name: normalized(x) for name, x in states.items()}
        for one, other in itertools.product(states, repeat=2):
            if states[one].shape == states[other].shape:
                total = (directions[one] * directions[other]).sum().item()
                cosines[one, other] = cosines.get((one, other), 0.0) + total
    names, tokens = list(cones), cka.count
    summary = TrackSummary(
        states=names,
        tokens=tokens,
        cone_size=[cones[name].size for name in names],
        mean_length=[lengths[name] / tokens for name in names],
        cosine=[
            [cosines[one, other] / tokens if (one, other) in cosines else None for other in names] for one in names
        ],
        cka=cka.matrix().tolist(),
    )
    write_json(Path(folder) / SUMMARY, asdict(summary))
    return summary
