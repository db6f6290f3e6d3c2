"""The report of the static tables is the committed one, and says what a reader should not overlook."""

import pytest


@pytest.fixture(scope="module")
def static_report(import_benchmark):
    return import_benchmark("static_report")


@pytest.fixture(scope="module")
def tables(static_report):
    table = static_report.static_table
    return {"Triton": table.read(table.TRITON), "CUDA": table.read(table.CUDA)}


def test_committed_report_is_what_the_tables_say(static_report, tables):
    assert static_report.REPORT.read_text(encoding="utf-8") == static_report.render(tables), "run: make static"


def test_every_line_of_the_tables_is_in_the_report_once(static_report, tables):
    lines = static_report.render(tables).splitlines()
    of_kernels = [line for line in lines if line.startswith("| `")]
    assert len(of_kernels) == len(set(of_kernels)) == sum(map(len, tables.values()))
    headings = [line for line in lines if line.startswith("## ")]
    assert len(headings) == len(set(headings)) == sum(len({row["op"] for row in rows}) for rows in tables.values())
    columns = 0
    for line in lines:
        if line.startswith("| kernel"):
            columns = line.count("|")
        assert not line.startswith("|") or line.count("|") == columns, line


ROW = {
    "op": "demo",
    "kernel": "demo_fwd",
    "target": 90,
    "dtype": "bfloat16",
    "dropout": False,
    "totals": 1,
    "threads": 256,
    "registers": 128,
    "shared_bytes": 1024,
    "columns": 0,
    "stack_bytes": 0,
    "spill_bytes": 0,
    "blocks": 2,
    "warps": 16,
    "limited_by": "registers, shared memory",
    "tensor": {"HGMMA": 12},
    "loads": {"16": 6, "2": 1},
    "stores": {},
    "copies": {"LDGSTS.16": 40},
    "atomics": 0,
    "compiler": "demo 1",
    "source": "0",
}


def test_a_line(static_report):
    head, _, line = [line for line in static_report.render({"Demo": [ROW]}).splitlines() if line.startswith("|")]
    titles, cells = ([cell.strip() for cell in text.strip("|").split("|")] for text in (head, line))
    assert dict(zip(titles, cells, strict=True)) == {
        "kernel": "`demo_fwd`",
        "sm": "90",
        "dtype": "bfloat16",
        "dropout": "no",
        "totals": "1",
        "registers": "128",
        "shared": "1024",
        "spills": "0",
        "held": "2 × 8",
        "limited by": "registers, shared memory",
        "tensor": "12 HGMMA",
        "copies": "40 × 16",
        "loads": "6 × 16, 1 × 2",
        "stores": "none",
        "remarks": "",
    }


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, []),
        ({"spill_bytes": 8, "stack_bytes": 16}, ["spills"]),
        ({"warps": 8}, ["8 warps"]),
        ({"warps": 9}, []),
        ({"tensor": {"HMMA": 3}}, ["HMMA only, not Hopper's HGMMA"]),
        ({"tensor": {"HGMMA": 1, "HMMA": 3}}, ["HMMA beside HGMMA"]),
        ({"tensor": {"HMMA": 3}, "target": 80}, []),
        ({"tensor": {"HMMA": 3}, "target": 100}, ["HMMA only, not Blackwell's UTCHMMA"]),
        ({"tensor": {"DMMA": 3}}, []),
    ],
)
def test_remarks(static_report, changes, expected):
    assert static_report.remarks({**ROW, **changes}) == expected
