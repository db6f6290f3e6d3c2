"""What the measurements say of limits that are missed: where the time and the memory go."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from . import ENCODERS
from .case import BACKWARD, BOTH, GROWTH, MEMORY, Case
from .comparison import batch_of
from .limits import OURS, Outcome, Rows, by_case, key, of_peer, profile_key
from .op_bench import COPY, HUGGING_FACE, HUGGING_FACE_COMPILED, KERNEL
from .profile import KINDS
from .report import duration, table
from .results import Row

_LEAST_SHARE = 0.02  # of what is kept, for a shape to have a line of its own


def why(outcomes: Sequence[Outcome], rows: Sequence[Row]) -> Iterator[str]:
    """Markdown of what these rows hold of the cases in which a limit is missed: nothing where there is none."""
    cases = by_case(rows)
    missed = list(dict.fromkeys(outcome.limit.case for outcome in outcomes if outcome.missed))
    for belongs, explain in _EXPLANATIONS:
        chosen = [case for case in missed if belongs(case)]
        if chosen:
            yield from explain(chosen, cases)


def _kernels(missed: Sequence[Case], cases: Mapping[tuple, Rows]) -> Iterator[str]:
    yield (
        "Of the missed: the whole call of the op (of it, the backward pass), its kernel alone, launched without "
        "torch's dispatch into memory that is there, and what it is compared with."
    )
    others = (KERNEL, COPY, HUGGING_FACE, HUGGING_FACE_COMPILED)
    lines = []
    for case in missed:
        rows = cases[key(case)]
        backward = cases.get(key(replace(case, mode=BACKWARD)), {}) if case.mode == BOTH else {}
        times = [of_peer(rows, OURS), of_peer(backward, OURS), *(rows.get(peer) for peer in others)]
        lines.append([f"`{case.op}`", case.size, batch_of(vars(case)), case.mode, *map(_time, times)])
    header = ["", "size", "batch", "mode", "call", "backward", *others]
    yield table(header, 4, lines)


def _profiles(missed: Sequence[Case], cases: Mapping[tuple, Rows]) -> Iterator[str]:
    lines, kinds, parts = [], set(), {}
    profiles = {case: next(iter(cases.get(profile_key(case), {}).values()), None) for case in missed}
    for row in filter(None, profiles.values()):
        kinds |= row["kinds_us"].keys()
        parts |= dict.fromkeys(row["products_us"])
    if not kinds:
        yield "Of the missed no call was profiled."
        return
    kinds = [kind for kind in KINDS if kind in kinds]
    for case, row in profiles.items():
        names = [case.size, batch_of(vars(case))]
        if row is None:
            lines.append([*names, "not profiled", *["–"] * (len(kinds) + len(parts))])
            continue
        shares = [_share(row["kinds_us"].get(kind), row["call_us"]) for kind in kinds]
        products = [_share(row["products_us"].get(part), row["call_us"]) for part in parts]
        lines.append([*names, duration(row["call_us"]), *shares, *products])
    yield (
        "Of the missed: one call of the patched model, of two the faster, under torch's profiler, by kind of work. "
        "What is outside of operators is Python, autograd and the profiler itself."
        + (" Beside it the matrix products alone of what is one op." if parts else "")
    )
    yield table(["size", "batch", "call", *kinds, *(f"{part}: products alone" for part in parts)], 2, lines)


def _kept(missed: Sequence[Case], cases: Mapping[tuple, Rows]) -> Iterator[str]:
    for case in missed:
        rows = cases[key(case)]
        kept = {peer: row["kept_bytes"] for peer, row in rows.items()}
        most = {shape: max(of.get(shape, 0) for of in kept.values()) for shape in set().union(*kept.values())}
        least = _LEAST_SHARE * max(sum(of.values()) for of in kept.values())
        shapes = sorted((shape for shape in most if most[shape] >= least), key=lambda shape: (-most[shape], shape))
        lines = [[shape, *(_megabytes(of.get(shape)) for of in kept.values())] for shape in shapes]
        rest = (sum(of.values()) - sum(of.get(shape, 0) for shape in shapes) for of in kept.values())
        lines += [["all others", *map(_megabytes, rest)]]
        lines += [["peak", *(_megabytes(row["peak_bytes"]) for row in rows.values())]]
        yield (
            f"What is kept from the forward to the backward pass ({case.size} {batch_of(vars(case))}), by shape, and "
            "the peak, which has the gradients too."
        )
        yield table(["shape", *rows], 1, lines)


def _growing(missed: Sequence[Case], cases: Mapping[tuple, Rows]) -> Iterator[str]:
    yield "Of the missed: the call, its kernel alone, launched into memory that is there, and a copy of the same bytes."
    for case in missed:
        rows = cases[key(case)]
        tokens = next(iter(rows.values()))["tokens_measured"]
        lines = [[peer, *map(duration, row["times_us"])] for peer, row in rows.items()]
        yield table([f"`{case.op}`", *(f"T {count:,}" for count in tokens)], 1, lines)


_EXPLANATIONS: tuple[tuple[Callable[[Case], bool], Callable], ...] = (
    (lambda case: case.record == GROWTH, _growing),
    (lambda case: case.record == MEMORY, _kept),
    (lambda case: case.record not in (GROWTH, MEMORY) and case.op in ENCODERS, _profiles),
    (lambda case: case.record not in (GROWTH, MEMORY) and case.op not in ENCODERS, _kernels),
)


def _time(row: Row | None) -> str:
    return "–" if row is None else duration(row["p50_us"])


def _share(time: float | None, whole: float) -> str:
    return "–" if time is None else f"{duration(time)} ({100 * time / whole:.0f} %)"


def _megabytes(size: int | None) -> str:
    return "–" if not size else f"{size / 1e6:.0f} MB"
