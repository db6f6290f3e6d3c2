"""Results of one case side by side: who is ours, who is fastest, how far it is to the floor."""

from collections.abc import Iterable
from dataclasses import dataclass

from . import OPS
from .case import BACKWARD, BOTH, FORWARD, TIMES
from .encoder import PATCHED
from .padded_batch import UNPADDED
from .results import Row, case_of
from .select import SIZES

MODES = (FORWARD, BACKWARD, BOTH)
_OURS = ("bertkernels", "patched")  # how names begin of ours under other names


@dataclass(frozen=True)
class Comparison:
    """All rows of one case, by peer."""

    rows: dict[str, Row]

    @property
    def row(self) -> Row:
        """Any of them: fields that they share."""
        return next(iter(self.rows.values()))

    @property
    def whole(self) -> dict[str, float]:
        """Median times in microseconds of the peers that do the whole work."""
        return {peer: row["p50_us"] for peer, row in self.rows.items() if not (row["floor"] or row["easier"])}

    @property
    def ours(self) -> str | None:
        """The peer that is ours, as users get it: a patched model, or the op on its best implementation."""
        return next(
            (peer for peer in self.whole if peer in (PATCHED, UNPADDED) or peer.startswith("bertkernels (")), None
        )

    @property
    def fastest(self) -> str | None:
        return min(self.whole, key=self.whole.get, default=None)

    @property
    def rival(self) -> str | None:
        """The fastest other way of the same work."""
        others = {peer: time for peer, time in self.whole.items() if not peer.startswith(_OURS)}
        return min(others, key=others.get, default=None)

    @property
    def loses(self) -> bool:
        """Whether the rival is faster than ours."""
        return self.ours is not None and self.rival is not None and self.whole[self.rival] < self.whole[self.ours]

    @property
    def floor(self) -> float | None:
        """Time of the part of the work that nobody can leave out: of the slowest floor where there are several."""
        return max((row["p50_us"] for row in self.rows.values() if row["floor"]), default=None)

    @property
    def over_floor(self) -> float | None:
        return None if self.ours is None or self.floor is None else self.whole[self.ours] / self.floor

    def speedup(self, peer: str) -> float | None:
        """How many times as fast as this peer ours is."""
        return None if self.ours is None or peer not in self.whole else self.whole[peer] / self.whole[self.ours]

    @property
    def batch(self) -> str:
        return batch_of(self.row)


def batch_of(row: Row) -> str:
    """The batch, as tables name it."""
    shape = f"B{row['batch']}·T{row['tokens']}"
    return shape if row["text"] is None else f"{row['text']} {shape}"


def comparisons(rows: Iterable[Row]) -> list[Comparison]:
    """One a case whose times there are; by op, size, batch and mode, larger batches first."""
    cases: dict[tuple, dict[str, Row]] = {}
    for row in rows:
        if row["record"] == TIMES:
            cases.setdefault(case_of(row), {})[row["peer"]] = row
    return sorted(map(Comparison, cases.values()), key=lambda comparison: _place(comparison.row))


def _place(row: Row) -> tuple:
    known = {"op": OPS, "size": SIZES, "mode": MODES}
    op, size, mode = (
        (known[field].index(row[field]) if row[field] in known[field] else len(known[field]), row[field])
        for field in known
    )
    return op, size, row["text"] or "", -row["batch"] * row["tokens"], row["tokens"], mode
