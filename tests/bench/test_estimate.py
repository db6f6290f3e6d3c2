import pytest

from bertkernels.bench.case import BOTH, FORWARD, Case
from bertkernels.bench.estimate import Clock, expected_seconds
from bertkernels.bench.measure import FULL, QUICK
from bertkernels.bench.select import select_cases


def test_what_is_more_work_is_expected_to_take_longer():
    case = Case("encoder", "small", 8, 128, FORWARD)
    expected = expected_seconds(case, FULL)
    for more in (
        Case("encoder", "base", 8, 128, FORWARD),
        Case("encoder", "small", 8, 128, BOTH),
        Case("encoder", "small", 8, 128, FORWARD, compiled=True),
        Case("encoder", "small", 8, 128, FORWARD, memory=True),
    ):
        assert expected_seconds(more, FULL) > expected
    assert expected_seconds(Case("light_conv", "small", 8, 128, FORWARD), FULL) < expected


def test_a_quick_run_is_expected_to_take_a_minute_and_a_full_one_less_than_half_an_hour():
    """On the machine that it has in mind: two cores of a server."""
    quick, full = (
        sum(expected_seconds(case, effort) for case in select_cases(quick=effort is QUICK)) for effort in (QUICK, FULL)
    )
    assert quick < 60
    assert 10 * 60 < full < 25 * 60


def test_the_clock_learns_the_pace():
    time = 0.0
    clock = Clock([100, 100, 100], now=lambda: time)
    assert clock.left(0) == pytest.approx(300)
    time = 200.0
    assert 200 < clock.left(1) < 400
    time = 400.0
    assert 100 < clock.left(2) < 200
    assert clock.left(3) == 0
