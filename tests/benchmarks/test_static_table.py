"""The static tables have one format, and a digest that follows the code."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def static_table():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        yield importlib.import_module("static_table")


def test_both_tables_have_the_same_fields(static_table):
    measured = ["registers", "shared_bytes", "stack_bytes", "spill_bytes", "compiler", "source"]
    for path in (static_table.CUDA, static_table.TRITON):
        rows = static_table.read(path)
        assert rows
        keys = [tuple(static_table.key(row).items()) for row in rows]
        assert len(set(keys)) == len(keys)
        for row in rows:
            assert list(row)[:3] == ["op", "kernel", "target"] and list(row)[-6:] == measured
            assert row["target"] in static_table.TARGETS and 0 < row["registers"] <= 255


def test_reads_what_it_writes(static_table, tmp_path):
    rows = static_table.read(static_table.TRITON)
    static_table.write(tmp_path / "table.jsonl", rows)
    assert (tmp_path / "table.jsonl").read_bytes() == static_table.TRITON.read_bytes()


@pytest.mark.parametrize(
    "files, comment",
    [
        (
            {"a.py": "from . import b, c\n", "b.py": "from .d import x\n", "c.py": "1\n", "d.py": "2\n"},
            "  # a comment\n",
        ),
        (
            {"a.cu": '#include "b.h"\n#include "c.h"\n', "b.h": '#include "d.h"\n', "c.h": "1\n", "d.h": "2\n"},
            "// one\n",
        ),
    ],
    ids=["python", "cuda"],
)
def test_digest_follows_the_code_and_not_its_comments(static_table, tmp_path, files, comment):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    first = next(iter(files))
    (tmp_path / f"unrelated{Path(first).suffix}").write_text("1\n")
    seen = {static_table.source_digest(tmp_path / first)}
    for name in files:
        with (tmp_path / name).open("a") as file:
            file.write(comment)
        assert static_table.source_digest(tmp_path / first) in seen
        with (tmp_path / name).open("a") as file:
            file.write("3\n")
        digest = static_table.source_digest(tmp_path / first)
        assert digest not in seen, name
        seen = {digest}
    (tmp_path / f"unrelated{Path(first).suffix}").write_text("2\n")
    assert static_table.source_digest(tmp_path / first) in seen
