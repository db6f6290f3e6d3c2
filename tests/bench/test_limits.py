import pytest

from bertkernels.bench import growth, limits
from bertkernels.bench.case import BOTH, Case
from bertkernels.bench.limits import LIMITS, OURS, Bound, Limit, Outcome, check_limits, table
from bertkernels.bench.measure import Measurement
from bertkernels.bench.peak_memory import peak_memory
from bertkernels.bench.select import bench_of
from bertkernels.bench.timing import Timing


@pytest.mark.parametrize(
    ("at_least", "ratio", "reached"), [(True, 50, True), (True, 49.9, False), (False, 50, True), (False, 50.1, False)]
)
def test_reached(at_least, ratio, reached):
    limit = next(limit for limit in LIMITS if limit.at_least == at_least)
    assert Outcome(limit, ratio * limit.bound / 50).reached == reached


def test_every_limit_names_peers_that_there_are():
    for limit in LIMITS:
        bench = bench_of(limit.case)
        names = {bench.best(limit.case) if peer == OURS else peer for peer in (limit.numerator, limit.denominator)}
        assert names <= set(bench.names(limit.case))


def test_each_case_is_measured_once_with_the_peers_its_limits_name(monkeypatch):
    measured = {}

    def fake(case, effort, threads, only):
        assert case not in measured
        measured[case] = set(only)
        return Measurement(case, {peer: Timing(1, 1 + i, 1, 1) for i, peer in enumerate(sorted(only))}, frozenset(), {})

    monkeypatch.setattr(limits, "measure", fake)
    monkeypatch.setattr(limits, "BOUNDS", (Bound("seven", lambda: 7.0, 8, at_least=False),))
    *outcomes, last = check_limits()
    assert sorted(map(str, (outcome.limit for outcome in outcomes))) == sorted(map(str, LIMITS))
    case = Case("encoder", "small", 8, 128, BOTH)
    assert measured[case] == {"Hugging Face", "patched", "bertkernels encoder", "its own matrix products"}
    ratios = {(o.limit.numerator, o.limit.denominator): o.ratio for o in outcomes if o.limit.case == case}
    assert ratios["patched", "its own matrix products"] == pytest.approx(4 / 3)
    assert ratios["Hugging Face", "patched"] == pytest.approx(1 / 4)
    assert last.ratio == 7 and last.reached


def test_a_peer_that_cannot_be_compiled_reaches_no_limit(monkeypatch):
    def fake(case, effort, threads, only):
        timings = {peer: Timing(1, 1, 1, 1) for peer in only if "compiled" not in peer}
        return Measurement(case, timings, frozenset(), {"Hugging Face, compiled": "no compiler"})

    monkeypatch.setattr(limits, "measure", fake)
    monkeypatch.setattr(limits, "BOUNDS", ())
    missed = [outcome for outcome in check_limits() if outcome.ratio != outcome.ratio]
    assert missed and all("compiled" in outcome.limit.numerator and not outcome.reached for outcome in missed)


def test_table():
    at_least, at_most = (Limit(Case("light_conv", "base", 8, 128), "Hugging Face", OURS, 50, way) for way in (1, 0))
    outcomes = [Outcome(at_least, 87.0), Outcome(at_most, 51.2), Outcome(Bound("b", lambda: 2.0, 2, True), 2.0)]
    first, second, third = table(outcomes).splitlines()[2:]
    assert first == ("| light_conv base B8·T128 forward float32: Hugging Face ÷ ours | 87.00 | ≥ 50 | ok |")
    assert second.endswith("| 51.20 | ≤ 50 | missed |")
    assert third == "| b | 2.00 | ≥ 2 | ok |"


def test_growth_of_a_linear_op_is_one(monkeypatch):
    monkeypatch.setattr(
        growth, "interleaved", lambda calls, **_: {name: Timing(1, 3.0 * int(name), 1, 1) for name in calls}
    )
    monkeypatch.setattr(growth, "TOKENS", (2, 4, 8, 16))
    assert growth.growth("depthwise_conv") == pytest.approx(1)


def test_peak_memory_counts_what_a_call_takes():
    """Forward and backward of a small encoder keep at least the activations of its feed-forward layers."""
    case = Case("encoder", "small", 4, 64, BOTH)
    kept = 12 * 4 * 64 * 1024 * 4
    assert kept < peak_memory(case, "patched") < 100 * kept
