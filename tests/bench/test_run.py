import pytest

from bertkernels.bench import growth, measure, results, run
from bertkernels.bench.case import BACKWARD, BOTH, FORWARD, Case, Disagreement
from bertkernels.bench.measure import FULL, QUICK, Measurement
from bertkernels.bench.select import bench_of
from bertkernels.bench.timing import Timing

CASES = [Case("light_conv", "small", 1, tokens, mode) for tokens in (8, 16) for mode in (FORWARD, BOTH)]


@pytest.fixture
def measured(monkeypatch) -> list[Case]:
    """Cases that were measured; none takes any time."""
    cases = []

    def fake(case, effort):
        cases.append(case)
        second = Timing(1, 1, 1, 1) if case.mode == BOTH else None
        names = bench_of(case).names(case)
        return Measurement(case, {name: Timing(1, 2, 3, 4, None, second) for name in names}, frozenset(names[-1:]), {})

    monkeypatch.setattr(measure, "measure", fake)
    return cases


def test_what_is_there_is_not_measured_again_unless_asked_for(measured, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    first = run.run(CASES, FULL, "cpu", path)
    assert measured == CASES and {row["mode"] for row in first.rows} == {FORWARD, BACKWARD, BOTH}
    again = run.run([*CASES, Case("light_conv", "small", 1, 32)], FULL, "cpu", path)
    assert measured[len(CASES) :] == [Case("light_conv", "small", 1, 32)]
    assert again.rows[: len(first.rows)] == first.rows
    assert f"4 of 5 cases are in {path} already (--fresh measures them anew)" in capsys.readouterr().err
    run.run(CASES, FULL, "cpu", path, fresh=True)
    assert measured[len(CASES) + 1 :] == CASES


def test_what_was_measured_otherwise_is_measured_again(measured, tmp_path, monkeypatch):
    path = tmp_path / "out.jsonl"
    run.run(CASES, QUICK, "cpu", path)
    run.run(CASES, FULL, "cpu", path)
    assert len(measured) == 2 * len(CASES)
    monkeypatch.setattr(run.environment, "source_hash", lambda: "other sources")
    outcome = run.run(CASES, FULL, "cpu", path)
    assert len(measured) == 3 * len(CASES)
    assert {row["source"] for row in outcome.rows} == {row["source"] for row in results.read(path)} == {"other sources"}


def test_an_interrupted_run_has_lost_nothing_and_goes_on(measured, tmp_path, monkeypatch):
    path, whole = tmp_path / "out.jsonl", measure.measure

    def interrupted(case, effort):
        if case is CASES[2]:
            raise KeyboardInterrupt
        return whole(case, effort)

    monkeypatch.setattr(measure, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.run(CASES, FULL, "cpu", path)
    assert {row["tokens"] for row in results.read(path)} == {8}
    monkeypatch.setattr(measure, "measure", whole)
    run.run(CASES, FULL, "cpu", path)
    assert measured == CASES


def test_says_how_far_it_is(measured, capsys):
    run.run(CASES, FULL, "cpu")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(
        "[1/4, less than a minute left] light_conv small B1·T8 forward float32: Hugging Face 2.00 µs"
    )
    assert lines[3].startswith("[4/4, ")
    assert run.remaining(150) == "about 2 min left"


def test_other_rows_of_the_file_are_kept(measured, make_row, tmp_path):
    path = tmp_path / "out.jsonl"
    results.write(path, [make_row("Hugging Face", 1, tokens=77)])
    outcome = run.run(CASES, FULL, "cpu", path)
    assert {row["tokens"] for row in results.read(path)} == {8, 16, 77}
    assert {row["tokens"] for row in outcome.rows} == {8, 16}


def test_a_case_whose_peers_disagree_has_no_rows_and_the_others_have(measured, tmp_path, monkeypatch):
    path, whole = tmp_path / "out.jsonl", measure.measure

    def disagree(case, effort):
        if case is CASES[0]:
            raise Disagreement("result 0 is wrong")
        return whole(case, effort)

    monkeypatch.setattr(measure, "measure", disagree)
    outcome = run.run(CASES, FULL, "cpu", path)
    assert outcome.disagreements == 1 and {row["tokens"] for row in outcome.rows if row["mode"] == FORWARD} == {16}


@pytest.mark.skipif(not run.can_measure(), reason="this system does not tell a process its peak memory")
def test_memory_is_measured_where_a_case_asks_for_it(measured):
    outcome = run.run([Case("light_conv", "base", 8, 128, memory=True)], FULL, "cpu")
    peaks = {row["peer"]: row["peak_bytes"] for row in outcome.rows}
    values = 4 * 8 * 128 * 6 * 64
    assert values - 2**18 < peaks["bertkernels (cpu)"] < 2 * values
    assert peaks["Hugging Face"] > 9 * values
    assert peaks["copy of the same bytes"] is None


def test_a_figure_of_memory_that_cannot_be_had_does_not_end_the_run(measured, monkeypatch, capsys):
    def fail(self, case, peer):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(run.Gauge, "peak", fail)
    monkeypatch.setattr(run, "can_measure", lambda: True)
    outcome = run.run([Case("light_conv", "base", 8, 128, memory=True)], FULL, "cpu")
    assert outcome.rows and "no figures: out of memory" in capsys.readouterr().err


@pytest.mark.skipif(not run.can_measure(), reason="this system does not tell a process its peak memory")
def test_growth_and_memory_are_records_of_their_own(monkeypatch, tmp_path):
    monkeypatch.setattr(growth, "_SECONDS", 0.0)
    cases = [
        Case("depthwise_conv", "small", 1, 256, record="growth"),
        Case("encoder", "small", 1, 16, BOTH, record="memory"),
    ]
    path = tmp_path / "out.jsonl"
    outcome = run.run(cases, QUICK, "cpu", path)
    assert results.read(path) == outcome.rows
    grown = {row["peer"]: row for row in outcome.rows if row["record"] == "growth"}
    assert all(row["tokens_measured"] == [128, 256] and min(row["times_us"]) > 0 for row in grown.values())
    ours = bench_of(cases[0]).best(cases[0])
    assert grown.keys() == {ours, "our kernel alone", "copy of the same bytes"}
    assert grown[ours]["peak_bytes"] is not None and grown["our kernel alone"]["peak_bytes"] is None
    memory = {row["peer"]: row for row in outcome.rows if row["record"] == "memory"}
    assert memory.keys() == {"Hugging Face", "patched"}
    assert all(0 < sum(row["kept_bytes"].values()) and row["peak_bytes"] > 0 for row in memory.values())
    assert run.run(cases, QUICK, "cpu", path).rows == outcome.rows  # not measured again
