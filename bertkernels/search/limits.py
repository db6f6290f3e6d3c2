"""What a plan may cost, and how many sub-layers of each kind it may have."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bertkernels.errors import InputError

_RANGE = re.compile(r"(?P<kind>.+?)=(?:(?P<exact>\d+)|(?P<low>\d*)-(?P<high>\d*))")


@dataclass(frozen=True)
class Limits:
    """None: no limit. counts: for some kinds the least and the greatest number of sub-layers."""

    max_parameters: int | None = None
    max_flops: float | None = None
    max_latency_ms: float | None = None
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """What a plan, or a part of it, costs: parameters of the encoder, floating-point operations of a forward pass over
    one sequence, milliseconds of a forward pass over a batch (None: not measured)."""

    parameters: int
    flops: int
    latency_ms: float | None = None


@dataclass(frozen=True)
class KindFigures:
    """What each kind costs in any slot, and the rest of every plan (embeddings).

    Slots are all alike, so a plan's figures are sums, whatever its order.
    """

    rest: Figures
    kinds: dict[str, Figures]

    def of(self, counts: dict[str, int]) -> Figures:
        """The figures of a plan with so many sub-layers of each kind."""
        parts = [(1, self.rest), *((count, self.kinds[kind]) for kind, count in counts.items())]
        timed = self.rest.latency_ms is not None
        return Figures(
            sum(count * part.parameters for count, part in parts),
            sum(count * part.flops for count, part in parts),
            sum(count * part.latency_ms for count, part in parts) if timed else None,
        )


def parse_counts(texts: Sequence[str], kinds: Sequence[str], slots: int) -> dict[str, tuple[int, int]]:
    """Reads `kind=4`, `kind=2-6`, `kind=2-` or `kind=-6`. Raises InputError for anything else."""
    counts = {}
    for text in texts:
        found = _RANGE.fullmatch(text)
        if found is None or (found["exact"] is None and not found["low"] and not found["high"]):
            raise InputError(f"--counts {text}: expected a kind with a number or a range, such as ffn=4 or ffn=2-6")
        if found["kind"] not in kinds:
            raise InputError(f"--counts {text}: the supernet has no {found['kind']}; it has {', '.join(kinds)}")
        if found["kind"] in counts:
            raise InputError(f"--counts gives {found['kind']} twice")
        exact = found["exact"]
        low, high = int(exact or found["low"] or 0), int(exact or found["high"] or slots)
        if low > high:
            raise InputError(f"--counts {text}: the range is empty")
        counts[found["kind"]] = (low, high)
    return counts
