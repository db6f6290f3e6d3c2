"""Limits are evaluated from rows of results, and shown with what was measured of those that are missed."""

import pytest

from bertkernels.bench import growth
from bertkernels.bench.case import BACKWARD, BOTH, FORWARD, Case
from bertkernels.bench.limits import (
    OURS,
    Limit,
    evaluate,
    growth_slope,
    memory_over,
    memory_ratio,
    over_matrix_rate,
    time_ratio,
)
from bertkernels.bench.limits_table import LIMITS, check, counted, markdown
from bertkernels.bench.select import bench_of, select_cases
from bertkernels.bench.timing import Timing

CASE = Case("light_conv", "base", 8, 128)


def limit(bound: float, at_least: bool) -> Limit:
    return Limit("Convolutions", "how fast", CASE, bound, at_least, time_ratio("Hugging Face", OURS))


@pytest.mark.parametrize(
    ("at_least", "time", "reached"), [(True, 2, True), (True, 2.1, False), (False, 2, True), (False, 1.9, False)]
)
def test_reached(make_row, at_least, time, reached):
    rows = [make_row("Hugging Face", 100), make_row("bertkernels (cpu)", time)]
    (outcome,) = evaluate([limit(50, at_least)], rows)
    assert outcome.measured == 100 / time and outcome.reached == reached and outcome.missed != reached


def test_what_is_not_there_is_neither_reached_nor_missed(make_row):
    rows = [make_row("bertkernels (cpu)", 1), make_row("Hugging Face", 9, tokens=512)]
    (outcome,) = evaluate([limit(1, True)], rows)
    assert outcome.measured is None and not outcome.reached and not outcome.missed


def test_figures(make_row):
    rows = {
        "bertkernels (cuda)": make_row("a", 2.0, peak_bytes=30, operations=4_000_000, matrix_gflop_s=5000.0),
        "bertkernels (triton)": make_row("b", 1.0),
        "Hugging Face": make_row("c", 8.0, peak_bytes=60),
    }
    assert time_ratio("Hugging Face", OURS)(rows) == 4
    assert memory_ratio(OURS, "Hugging Face")(rows) == 0.5
    assert memory_ratio("bertkernels (triton)", "Hugging Face")(rows) is None
    assert memory_over(OURS, 15)(rows) == 0.5  # of 4 bytes each
    assert memory_over("bertkernels (triton)", 15)(rows) is None
    assert over_matrix_rate(OURS)(rows) == pytest.approx(2.5)  # 4e6 operations take 0.8 µs at 5 TFLOP/s
    assert over_matrix_rate("Hugging Face")(rows) is None
    grown = {"bertkernels (cpu)": {"tokens_measured": [128, 256, 512], "times_us": [3.0, 12.0, 48.0]}}
    assert growth_slope(OURS)(grown) == pytest.approx(2)
    assert growth_slope("copy")(grown) is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_run_measures_what_every_limit_asks_for(device):
    """Each limit's case is one of a full run's, and its figure can be had from the peers of that case."""
    cases = {
        (c.record, c.op, c.size, c.batch, c.tokens, c.text, c.mode, c.dtype): c for c in select_cases(device=device)
    }
    for each in LIMITS[device]:
        c = each.case
        case = cases[c.record, c.op, c.size, c.batch, c.tokens, c.text, c.mode, c.dtype]
        row = {"p50_us": 1.0, "peak_bytes": 1, "operations": 1, "matrix_gflop_s": 1.0, "dtype": case.dtype}
        grown = {"tokens_measured": [1, 2], "times_us": [1.0, 2.0]}
        assert each.figure({name: row | grown for name in bench_of(case).names(case)}) is not None, each


def test_each_machine_has_its_own(make_row):
    times = {"Hugging Face": 100.0, "bertkernels (cpu)": 0.5}
    rows = [make_row(peer, time, threads=threads) for threads in (1, 2) for peer, time in times.items()]
    groups = check(rows)
    assert [group[0]["threads"] for group, _ in groups] == [1, 2]
    assert all(sum(outcome.reached for outcome in outcomes) == 1 for _, outcomes in groups)
    assert counted(groups[0][1]).startswith(f"Of {len(LIMITS['cpu'])} limits 1 are reached, 0 missed, ")


def test_table_and_the_kernels_of_what_is_missed(make_row):
    rows = [
        make_row("Hugging Face", 16_000.0),
        make_row("bertkernels (cpu)", 119.0),
        make_row("our kernel alone", 61.5),
        make_row("copy of the same bytes", 34.0),
        make_row("Hugging Face", 90.0, mode=BOTH),
        make_row("bertkernels (cpu)", 3.0, mode=BOTH),
        make_row("bertkernels (cpu)", 2.0, mode=BACKWARD),
    ]
    lines = markdown(rows).splitlines()
    what = "`light_conv` forward: time ÷ copy of the same bytes"
    assert f"| {what} | base | ≤ 2.5 | **3.50** (40 % over) | not measured | not measured |" in lines
    assert (
        "| `light_conv` forward: times as fast as Hugging Face | base | ≥ 100 | 134 | not measured | not measured |"
        in lines
    )
    what = "`light_conv` forward+backward: times as fast as Hugging Face"
    assert f"| {what} | base | ≥ 40 | **30.0** (25 % short) | not measured | not measured |" in lines
    assert "| `light_conv` | base | B8·T128 | forward | 119 µs | – | 61.5 µs | 34.0 µs | 16.0 ms | – |" in lines
    assert "| `light_conv` | base | B8·T128 | forward+backward | 3.00 µs | 2.00 µs | – | – | 90.0 µs | – |" in lines


def test_little_is_lacking_with_a_digit_more(make_row):
    rows = [make_row("bertkernels (cpu)", 2.51), make_row("copy of the same bytes", 1.0)]
    assert "**2.51** (0.4 % over)" in markdown(rows)


def test_the_profile_of_an_encoder_that_is_too_slow(make_row):
    fields = {"op": "encoder", "size": "small"}
    profile = make_row("patched", 1.0, record="profile", **fields) | {
        "call_us": 1000.0,
        "kinds_us": {"feed-forward sub-layers in one op": 700.0, "outside of operators": 300.0},
        "products_us": {"feed-forward sub-layers": 500.0},
    }
    rows = [make_row("patched", 900.0, **fields), make_row("its own matrix products", 500.0, **fields)]
    lines = markdown([*rows, profile]).splitlines()
    header = "| size | batch | call | feed-forward sub-layers in one op | outside of operators |"
    assert f"{header} feed-forward sub-layers: products alone |" in lines
    assert "| small | B8·T128 | 1.00 ms | 700 µs (70 %) | 300 µs (30 %) | 500 µs (50 %) |" in lines
    assert "Of the missed no call was profiled." in markdown(rows)


def test_memory_and_growth_that_are_too_much(make_row):
    memory = {"record": "memory", "op": "encoder", "mode": BOTH, "tokens": 512}
    kept = {"Hugging Face": {"8×512×9": 400_000_000, "2": 1_000_000}, "patched": {"8×512×768": 250_000_000}}
    rows = [
        make_row(peer, 1.0, peak_bytes=peak, **memory) | {"kept_bytes": kept[peer]}
        for peer, peak in (("Hugging Face", 500_000_000), ("patched", 400_000_000))
    ]
    grown = {"tokens_measured": [128, 256], "times_us": [10.0, 40.0], "peak_bytes": 4 * 65536 * 384}
    rows.append(make_row("bertkernels (cpu)", 1.0, record="growth", batch=1, tokens=2**16) | grown)
    lines = markdown(rows).splitlines()
    assert "| patched: peak memory ÷ Hugging Face | base | ≤ 0.6 | **0.80** (33 % over) |" in lines
    at = lines.index("| 8×512×9 | 400 MB | – |")
    assert lines[at + 1 : at + 4] == [
        "| 8×512×768 | – | 250 MB |", "| all others | 1 MB | – |", "| peak | 500 MB | 400 MB |",
    ]  # fmt: skip
    assert "| `light_conv`: log-log slope of time | base | ≤ 1.05 | **2.00** (90 % over) |" in lines
    assert "| `light_conv`: peak memory ÷ that of K·T·C numbers | base | ≤ 1 | 0.11 |" in lines
    at = lines.index("| `light_conv` | T 128 | T 256 |")
    assert lines[at + 2] == "| bertkernels (cpu) | 10.0 µs | 40.0 µs |"


def test_nothing_is_said_of_what_is_reached(make_row):
    rows = [make_row("Hugging Face", 16_000.0), make_row("bertkernels (cpu)", 1.0)]
    assert "Of the missed" not in markdown(rows)


def test_growth_takes_ours_its_kernel_and_a_copy(monkeypatch):
    monkeypatch.setattr(growth, "interleaved", lambda calls, **_: {k: Timing(1, 3.0 * k[1], 1, 1) for k in calls})
    times = growth.measure_growth(Case("depthwise_conv", "base", 1, 512, FORWARD, record="growth"))
    assert list(times)[1:] == ["our kernel alone", "copy of the same bytes"] and len(times) == 3
    assert all(of_peer == [384, 768, 1536] for of_peer in times.values())
    assert growth.slope([128, 256, 512], times["our kernel alone"]) == pytest.approx(1)
