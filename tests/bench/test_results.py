from dataclasses import replace

import pytest

from bertkernels.bench import encoder, environment, light_conv, linear, results
from bertkernels.bench.case import BACKWARD, BOTH, FORWARD, Case
from bertkernels.bench.measure import Measurement
from bertkernels.bench.profile import Profile
from bertkernels.bench.timing import Timing
from bertkernels.errors import InputError

MADE_WITH = environment.describe("cpu") | {"effort": "full"}
NAMES = light_conv.BENCH.names(Case("light_conv", "base", 8, 128, FORWARD))


@pytest.fixture
def measurement() -> Measurement:
    timings = {
        "Hugging Face": Timing(90, 100, 110, 20),
        "bertkernels (cpu)": Timing(4, 5, 6, 200),
        "copy of the same bytes": Timing(1, 2, 3, 400),
    }
    return Measurement(Case("light_conv", "base", 8, 128), timings, frozenset({"copy of the same bytes"}), {})


def test_rows_are_written_and_read_back(measurement, tmp_path):
    rows = results.to_rows(measurement, MADE_WITH, {"bertkernels (cpu)": 4_000_000})
    path = tmp_path / "folder" / "cpu.jsonl"
    results.write(path, rows)
    assert results.read(path) == rows
    assert list(path.parent.iterdir()) == [path]

    ours = rows[1]
    assert (ours["peer"], ours["p20_us"], ours["p50_us"], ours["p80_us"], ours["calls"]) == (
        "bertkernels (cpu)", 4, 5, 6, 200,
    )  # fmt: skip
    assert ours["percent_of_copy_bandwidth"] == 40
    assert ours["copy_gb_s"] == round(ours["bytes"] / 2e-6 / 1e9, 2)
    assert ours["operations"] is ours["percent_of_matrix_rate"] is ours["matrix_gflop_s"] is None
    assert [row["peak_bytes"] for row in rows] == [None, 4_000_000, None]
    assert ours["bytes"] == 4 * 8 * 128 * 6 * (64 + 9 + 64)
    assert ours["versions"]["torch"] and ours["device_name"] and ours["threads"] >= 1
    assert [row["floor"] for row in rows] == [False, False, True]


def test_a_case_with_a_backward_pass_has_rows_of_it_alone():
    names = linear.BENCH.names(Case("linear", "base", 8, 128))
    timings = {name: Timing(200, 300, 400, 7, None, Timing(80, 200, 210, 7)) for name in names}
    case = Case("linear", "base", 8, 128, BOTH)
    measurement = Measurement(case, timings, frozenset(names[-2:]), {}, matrix_rate=150e12)
    rows = results.to_rows(measurement, MADE_WITH, {names[0]: 5})
    both, backward = rows[: len(names)], rows[len(names) :]
    assert {row["mode"] for row in both} == {BOTH} and {row["mode"] for row in backward} == {BACKWARD}
    assert both[0]["p50_us"] == 300 and backward[0]["p50_us"] == 200
    operations = 2 * 1024 * 768 * 3072
    assert both[0]["operations"] == 3 * operations and backward[0]["operations"] == 2 * operations
    assert backward[0]["percent_of_matrix_rate"] == round(100 * 2 * operations / 200e-6 / 150e12, 1)
    assert both[0]["matrix_gflop_s"] == 150_000
    assert [row["percent_of_copy_bandwidth"] for row in both] == [100] * (len(names) - 2) + [None, 100]
    assert both[-1]["percent_of_matrix_rate"] is None and both[-2]["percent_of_matrix_rate"] is not None
    assert both[0]["peak_bytes"] == 5 and backward[0]["peak_bytes"] is None


@pytest.mark.parametrize(
    ("change", "there"),
    [
        ({}, True),
        ({"source": "other"}, False),
        ({"device_name": "other"}, False),
        ({"threads": 77}, False),
        ({"versions": {"torch": "0"}}, False),
        ({"effort": "quick"}, False),
    ],
)
def test_only_what_was_measured_the_same_way_is_there(measurement, change, there):
    measurement = replace(measurement, timings={name: Timing(1, 1, 1, 1) for name in NAMES})
    rows = results.to_rows(measurement, MADE_WITH | change)
    case = measurement.case
    assert results.is_measured(case, rows, MADE_WITH) == there
    assert (results.found(case, rows, MADE_WITH) == rows) == there
    assert not results.is_measured(replace(case, tokens=512), rows, MADE_WITH)


def test_a_case_is_there_with_all_its_peers_or_the_reason_why_one_is_missing(measurement):
    compiled = replace(measurement.case, compiled=True)
    timings = {name: Timing(1, 1, 1, 1) for name in NAMES}
    rows = results.to_rows(replace(measurement, timings=timings), MADE_WITH)
    assert not results.is_measured(compiled, rows, MADE_WITH)
    left_out = {"Hugging Face, compiled": "no compiler"}
    rows = results.to_rows(replace(measurement, timings=timings, left_out=left_out), MADE_WITH)
    assert results.is_measured(compiled, rows, MADE_WITH)
    assert not results.is_measured(replace(compiled, memory=True), rows, MADE_WITH)
    rows = results.to_rows(replace(measurement, timings=timings, left_out=left_out), MADE_WITH, {NAMES[0]: 1})
    assert results.is_measured(replace(compiled, memory=True), rows, MADE_WITH)
    assert not results.is_measured(replace(compiled, mode=BOTH), rows, MADE_WITH)


def test_a_profile_is_a_row_of_its_case(measurement):
    case = Case("encoder", "small", 8, 128, profile=True)
    timings = {name: Timing(1, 1, 1, 1) for name in encoder.BENCH.names(case)}
    profile = Profile("patched", 100.0, {"matrix products": 80.0}, {"mixed sub-layers": 30.0})
    whole = replace(measurement, case=case, timings=timings, profile=profile)
    rows = results.to_rows(whole, MADE_WITH)
    assert [row["record"] for row in rows] == ["times"] * len(timings) + ["profile"]
    assert rows[-1]["call_us"] == 100 and rows[-1]["kinds_us"] == {"matrix products": 80}
    assert rows[-1]["products_us"] == {"mixed sub-layers": 30} and rows[-1]["peer"] == "patched"
    assert results.found(case, rows, MADE_WITH) == rows and results.is_measured(case, rows, MADE_WITH)
    assert not results.is_measured(case, rows[:-1], MADE_WITH)
    assert results.is_measured(replace(case, profile=False), rows[:-1], MADE_WITH)


def test_records_of_other_kinds_are_cases_of_their_own(make_row):
    growth = Case("light_conv", "base", 1, 256, record="growth")
    row = results.shared_fields(growth, "copy", MADE_WITH) | {"tokens_measured": [128, 256], "times_us": [1.0, 2.0]}
    times = make_row("copy", 1, batch=1, tokens=256, **MADE_WITH)
    assert results.is_measured(growth, [row], MADE_WITH) and not results.is_measured(growth, [times], MADE_WITH)
    assert results.merged([times], [row]) == [times, row]


def test_files_of_before_there_were_other_records_are_read(make_row, tmp_path):
    row = make_row("x", 1)
    path = tmp_path / "old.jsonl"
    results.write(path, [{field: value for field, value in row.items() if field != "record"}])
    assert results.read(path) == [row]


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
        ('{"record": "dreams"}', "line 2: field 'record' must be one of times, growth, memory, profile, got 'dreams'"),
        ('{"record": []}', "line 2: field 'record' must be one of"),
    ],
)
def test_a_bad_line_is_named(line, message, make_row, tmp_path):
    path = tmp_path / "bad.jsonl"
    results.write(path, [make_row("x", 1)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(InputError, match=message):
        results.read(path)


@pytest.mark.parametrize(
    "change", [{"p50_us": "fast"}, {"p50_us": 0}, {"batch": None}, {"versions": []}, {"operations": "many"}]
)
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
