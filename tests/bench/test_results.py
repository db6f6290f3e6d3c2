import pytest

from bertkernels.bench import environment, results
from bertkernels.bench.case import Case
from bertkernels.bench.measure import Measurement
from bertkernels.bench.timing import Timing
from bertkernels.errors import InputError


@pytest.fixture
def measurement() -> Measurement:
    timings = {
        "Hugging Face": Timing(90, 100, 110, 20),
        "bertkernels (cpu)": Timing(4, 5, 6, 200),
        "copy of the same bytes": Timing(1, 2, 3, 400),
    }
    return Measurement(Case("light_conv", "base", 8, 128), timings, frozenset({"copy of the same bytes"}), {})


def test_rows_are_written_and_read_back(measurement, tmp_path):
    rows = results.to_rows(measurement, environment.describe("cpu"))
    path = tmp_path / "folder" / "cpu.jsonl"
    results.write(path, rows)
    assert results.read(path) == rows
    assert list(path.parent.iterdir()) == [path]

    ours = rows[1]
    assert (ours["peer"], ours["p20_us"], ours["p50_us"], ours["p80_us"], ours["calls"]) == (
        "bertkernels (cpu)", 4, 5, 6, 200,
    )  # fmt: skip
    assert ours["percent_of_copy_bandwidth"] == 40
    assert ours["bytes"] == 4 * 8 * 128 * 6 * (64 + 9 + 64)
    assert ours["versions"]["torch"] and ours["device_name"] and ours["threads"] >= 1
    assert [row["floor"] for row in rows] == [False, False, True]


def test_ratio(measurement):
    assert measurement.ratio("Hugging Face", "bertkernels (cpu)") == 20


def test_a_case_measured_anew_replaces_all_its_rows(make_row):
    old = [make_row("Hugging Face", 1), make_row("gone", 2), make_row("Hugging Face", 3, tokens=512)]
    new = [make_row("Hugging Face", 4)]
    assert results.merged(old, new) == [old[2], new[0]]


def test_another_machine_or_number_of_threads_is_another_case(make_row):
    rows = [make_row("x", 1), make_row("x", 1, threads=1), make_row("x", 1, device_name="Other CPU")]
    assert results.merged(rows[:2], rows[2:]) == rows


def test_source_hash_changes_with_the_sources(tmp_path, monkeypatch):
    for folder in ("csrc", "kernels", "bertkernels/ops"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "setup.py").touch()
    package = tmp_path / "bertkernels" / "__init__.py"
    package.touch()
    monkeypatch.setattr(environment.bertkernels, "__file__", str(package))
    (tmp_path / "csrc" / "a.cpp").write_text("1")
    first = environment.source_hash()
    assert environment.source_hash() == first
    (tmp_path / "csrc" / "a.cpp").write_text("2")
    assert environment.source_hash() != first
    (tmp_path / "setup.py").unlink()
    assert environment.source_hash() is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: expected an object"),
        ('{"op": "light_conv"}', "line 2: field 'size' is missing"),
    ],
)
def test_a_bad_line_is_named(line, message, make_row, tmp_path):
    path = tmp_path / "bad.jsonl"
    results.write(path, [make_row("x", 1)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        results.read(path)


@pytest.mark.parametrize("change", [{"p50_us": "fast"}, {"p50_us": 0}, {"batch": None}, {"versions": []}])
def test_a_bad_value_is_named(change, make_row, tmp_path):
    path = tmp_path / "bad.jsonl"
    results.write(path, [make_row("x", 1) | change])
    with pytest.raises(InputError, match=f"bad.jsonl, line 1: field {next(iter(change))!r}"):
        results.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="nowhere.jsonl"):
        results.read(tmp_path / "nowhere.jsonl")


def test_a_place_that_cannot_be_written_to_is_named(make_row, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="out.jsonl"):
        results.write(tmp_path / "file" / "out.jsonl", [make_row("x", 1)])
