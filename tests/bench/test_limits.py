import pytest

from bertkernels.bench import limits
from bertkernels.bench.limits import LIMITS, OURS, Outcome, check_limits, table
from bertkernels.bench.measure import Measurement
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
    outcomes = list(check_limits())
    assert sorted(map(str, (outcome.limit for outcome in outcomes))) == sorted(map(str, LIMITS))
    small = next(case for case in measured if case.op == "encoder" and case.size == "small")
    assert measured[small] == {"Hugging Face", "patched", "its own matrix products"}
    ratios = {outcome.limit.numerator: outcome.ratio for outcome in outcomes if outcome.limit.case == small}
    assert ratios == {"patched": pytest.approx(3 / 2), "Hugging Face": pytest.approx(1 / 3)}


def test_table():
    outcomes = [Outcome(LIMITS[0], 87.0), Outcome(LIMITS[2], 1.2)]
    first, second = table(outcomes).splitlines()[2:]
    assert first == ("| light_conv base B8·T128 forward float32: Hugging Face ÷ ours | 87.00 | ≥ 50 | ok |")
    assert second.endswith("| 1.20 | ≤ 1.15 | missed |")
