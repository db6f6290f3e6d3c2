"""Renders the static tables as one Markdown file: `python benchmarks/static_report.py` writes results/static.md."""

from collections.abc import Iterable, Mapping

import static_table
from static_table import Row

REPORT = static_table.ROOT / "benchmarks" / "results" / "static.md"
FEW_WARPS = 8  # of the 64 that a multiprocessor can hold: two for each of its schedulers
NEWER = {90: ("HGMMA", "Hopper's"), 100: ("UTCHMMA", "Blackwell's")}

HEAD = """\
# GPU kernels as compiled

`python benchmarks/static_report.py` writes this file from `static_triton.jsonl` and `static_cuda.jsonl`. All of it is
what compilers say; nothing here was measured on a GPU.

- registers: a thread's. shared: bytes a block. spills: bytes that a thread stores to memory of its own and loads again.
- held: as many blocks × warps a block as a multiprocessor holds at once, and what keeps it from holding more.
- tensor: instructions on tensor cores. `HMMA` (`mma.sync`) is a warp's, `HGMMA` (`wgmma`) Hopper's, `UTCHMMA`
  (`tcgen05`) Blackwell's; `DMMA` is fp64's.
- copies (`cp.async`, from global to shared memory past the registers), loads, stores (of global memory): so many
  instructions × bytes a thread each.

Instructions are counted where they stand in the code: one in a loop counts once. Remarks: a kernel spills, leaves its
GPU's newer tensor cores unused for some products or all, or a multiprocessor holds 8 of its warps or fewer.
"""


def render(tables: Mapping[str, Iterable[Row]]) -> str:
    """Markdown: a section for each of the tables by name, such as "Triton", and in it a table an op."""
    parts = [HEAD]
    for name, rows in tables.items():
        by_op: dict[str, list[Row]] = {}
        for row in rows:
            by_op.setdefault(row["op"], []).append(row)
        for op, of_op in by_op.items():
            (compiler,) = {row["compiler"] for row in of_op}
            parts.append(f"## {op}, {name}\n\nCompiled with {compiler}.\n\n{_table(of_op)}")
    return "\n".join(parts)


def _table(rows: list[Row]) -> str:
    options = [name for name in static_table.key(rows[0]) if name not in ("op", "kernel", "target")]
    lines = [["kernel", "sm", *options, "registers", "shared", "spills", "held", "limited by"]]
    lines[0] += ["tensor", "copies", "loads", "stores", "remarks"]
    for row in rows:
        line = [f"`{row['kernel']}`", row["target"], *(_option(row[name]) for name in options)]
        line += [row["registers"], row["shared_bytes"], row["spill_bytes"]]
        line += [f"{row['blocks']} × {-(-row['threads'] // 32)}", row["limited_by"]]
        line += [_counts(row["tensor"]), _by_width(_copy_widths(row["copies"])), _by_width(row["loads"])]
        lines.append([*map(str, line), _by_width(row["stores"]), "; ".join(remarks(row))])
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def remarks(row: Row) -> list[str]:
    """What a reader should not overlook."""
    found = []
    if row["spill_bytes"] or row["stack_bytes"]:
        found.append("spills")
    newer, whose = NEWER.get(row["target"], (None, None))
    if newer and "HMMA" in row["tensor"]:
        found.append(f"HMMA beside {newer}" if newer in row["tensor"] else f"HMMA only, not {whose} {newer}")
    if row["warps"] <= FEW_WARPS:
        found.append(f"{row['warps']} warps")
    return found


def _option(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value or "none")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "none"


def _copy_widths(copies: Mapping[str, int]) -> Mapping[str, int]:
    """By bytes a thread; TMA's, of whole tiles, by name."""
    return {name.removeprefix("LDGSTS."): count for name, count in copies.items()}


def _by_width(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} × {width}" for width, count in counts.items()) or "none"


def main() -> None:
    tables = {"Triton": static_table.read(static_table.TRITON), "CUDA": static_table.read(static_table.CUDA)}
    REPORT.write_text(render(tables), encoding="utf-8")


if __name__ == "__main__":
    main()
