"""The static tables have one format, and a digest that follows the code."""

import pytest


@pytest.fixture(scope="module")
def static_table(import_benchmark):
    return import_benchmark("static_table")


def test_both_tables_have_the_same_fields(static_table):
    figures = [*static_table.FIGURES, *static_table.MADE_WITH]
    for path in (static_table.CUDA, static_table.TRITON):
        rows = static_table.read(path)
        assert rows
        keys = [tuple(static_table.key(row).items()) for row in rows]
        assert len(set(keys)) == len(keys)
        for row in rows:
            assert list(row)[:3] == ["op", "kernel", "target"] and list(row)[-len(figures) :] == figures
            assert row["target"] in static_table.TARGETS and 0 < row["registers"] <= 255
            assert row["threads"] % 32 == 0 < row["blocks"] and row["warps"] == row["blocks"] * row["threads"] // 32
            assert (row["columns"] > 0) == ("UTCHMMA" in row["tensor"])


def test_no_kernel_adds_to_memory_in_any_order(static_table):
    """Results would depend on it."""
    for path in (static_table.CUDA, static_table.TRITON):
        assert [row for row in static_table.read(path) if row["atomics"]] == []


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
        ({"a.py": "from .b import x\n", "b.py": "1\n", "beside.py": "2\n"}, "# one\n"),
    ],
    ids=["python", "cuda", "two files"],
)
def test_digest_follows_the_code_and_not_its_comments(static_table, tmp_path, files, comment):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    sources = [tmp_path / name for name in (next(iter(files)), "beside.py") if name in files]
    unrelated = (tmp_path / "unrelated").with_suffix(sources[0].suffix)
    unrelated.write_text("1\n")
    seen = {static_table.source_digest(*sources)}
    for name in files:
        with (tmp_path / name).open("a") as file:
            file.write(comment)
        assert static_table.source_digest(*sources) in seen
        with (tmp_path / name).open("a") as file:
            file.write("3\n")
        digest = static_table.source_digest(*sources)
        assert digest not in seen, name
        seen = {digest}
    unrelated.write_text("2\n")
    assert static_table.source_digest(*sources) in seen
