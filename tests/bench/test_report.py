import pytest

from bertkernels.bench.report import BENCH, LIMITS, duration, markdown, markers, update
from bertkernels.errors import InputError

BEGIN, END = markers(BENCH)


@pytest.fixture
def rows(make_row):
    faster = [
        make_row("Hugging Face", 12_000),
        make_row("bertkernels (cpu)", 150),
        make_row("copy of the same bytes", 30),
    ]
    slower = [make_row("Hugging Face", 100, tokens=8), make_row("bertkernels (cpu)", 125, tokens=8)]
    return faster + slower


def test_table_shows_times_and_ratios_also_where_ours_loses(rows):
    lines = markdown(rows).splitlines()
    header = next(line for line in lines if line.startswith("| size"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| base")]
    assert [cell.strip() for cell in header.strip("|").split("|")][3:] == [
        "Hugging Face", "bertkernels (cpu)", "copy of the same bytes", "ours / floor",
    ]  # fmt: skip
    assert cells == [
        ["base", "B8·T128", "forward", "12.0 ms", "**150 µs (80.0×)**", "30.0 µs (400×)", "5.00"],
        ["base", "B8·T8", "forward", "**100 µs**", "125 µs (0.80×) ▼", "–", "–"],
    ]


def test_what_is_less_than_the_whole_work_is_never_the_fastest(make_row):
    rows = [make_row("Hugging Face", 100), make_row("bertkernels (cpu)", 50), make_row("static conv1d", 10)]
    assert markdown(rows).splitlines()[-1] == (
        "| base | B8·T128 | forward | 100 µs | **50.0 µs (2.00×)** | 10.0 µs (10.0×) | – |"
    )


def test_says_what_it_was_measured_with(rows):
    text = markdown(rows)
    for fact in ("Some CPU, 2 cores", "2 threads", "float32", "torch 2.9.0", "0123456789ab", "2026-01-02"):
        assert fact in text


def test_names_the_command(make_row):
    quick = make_row("Hugging Face", 10, effort="quick")
    on_gpu = make_row("Hugging Face", 10, device="cuda", device_name="H200", threads=None)
    assert "by `bertkernels bench --quick`:" in markdown([quick])
    text = markdown([make_row("Hugging Face", 10), on_gpu])
    assert "by `bertkernels bench`:" in text and "by `bertkernels bench --device cuda`:" in text
    assert "### H200, float32" in text and "### Some CPU, 2 cores, 2 threads, float32" in text


def test_rows_of_different_sources_are_seen_to_be(rows, make_row):
    text = markdown([*rows, make_row("Hugging Face", 9, batch=1, source="fedcba987654")])
    assert "sources 0123456789ab and fedcba987654" in text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (3.14159, "3.14 µs"),
        (27.36, "27.4 µs"),
        (999.4, "999 µs"),
        (1000, "1.00 ms"),
        (2.5e6, "2.50 s"),
        (99.96, "100 µs"),
    ],
)
def test_duration(microseconds, text):
    assert duration(microseconds) == text


def test_update_replaces_what_stands_between_the_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    update(path, "new\n")
    update(path, "newer\n")
    assert path.read_text() == f"before\n{BEGIN}\nnewer\n{END}\nafter\n"


def test_each_pair_of_markers_is_its_own(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("{}\n{}\n".format(*markers(LIMITS)) + f"{BEGIN}\nkept\n{END}\n")
    update(path, "reached\n", LIMITS)
    assert path.read_text() == "{}\nreached\n{}\n".format(*markers(LIMITS)) + f"{BEGIN}\nkept\n{END}\n"


@pytest.mark.parametrize("content", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_update_wants_one_pair_of_markers(content, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(content)
    with pytest.raises(InputError, match="expected one line"):
        update(path, "new\n")
    assert path.read_text() == content
