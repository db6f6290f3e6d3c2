"""Schedules of the replacing rate beyond the recorded ones, and gates."""

import numpy as np
import pytest

from bertkernels.errors import InputError
from bertkernels.training.theseus.arguments import TheseusArguments, replacement_rate
from bertkernels.training.theseus.gates import draw_gates
from bertkernels.training.theseus.rates import (
    AntiCurriculumRate,
    ConstantRate,
    LinearRate,
    first_full_step,
    read_listed_rates,
)


def test_anti_curriculum_is_one_less_the_linear_and_then_one():
    linear, anti = LinearRate(0.25, 0.125), AntiCurriculumRate(0.25, 0.125)
    assert [anti(step) for step in range(6)] == [1 - linear(step) for step in range(6)]
    assert [anti(step) for step in (6, 7, 100)] == [1, 1, 1]


def test_listed_rates():
    rate = read_listed_rates(["0:0.3", "2:0.6", "5:1"])
    assert [rate(step) for step in range(7)] == [0.3, 0.3, 0.6, 0.6, 0.6, 1, 1]
    assert rate.describe() == "0.3 from step 0, 0.6 from step 2, 1 from step 5"


@pytest.mark.parametrize(
    ("rate", "steps", "found"),
    [
        (LinearRate(0.3, 0.1), 20, 7),
        (LinearRate(0.3, 0.1), 7, None),
        (ConstantRate(0.5), 100, None),
        (ConstantRate(0.5, 30), 100, 30),
        (ConstantRate(1.0), 5, 0),
        (read_listed_rates(["0:1", "3:0.5", "6:1"]), 9, 6),
    ],
)
def test_where_the_successor_is_alone(rate, steps, found):
    assert first_full_step(rate, steps) == found


def flags(**values):
    return replacement_rate(TheseusArguments(**values))


def test_flags():
    assert flags(replacing_rate=0.5) == ConstantRate(0.5)
    # the released program's own flags
    assert flags(replacing_rate=0.5, scheduler_type="none", steps_for_replacing=2500) == ConstantRate(0.5, 2500)
    assert flags(replacing_rate=0.3, scheduler_type="linear", scheduler_linear_k=0.0006) == LinearRate(0.3, 0.0006)
    assert flags(replacing_rate=0.5, scheduler_type="linear", steps_for_replacing=10) == LinearRate(0.5, 0.05)
    assert flags(scheduler_type="list", replacing_rates=["0:0.5"])(9) == 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "--replacing_rate is missing"),
        ({"replacing_rate": 0.0}, "replacing_rate must be above 0 and at most 1, got 0"),
        ({"replacing_rate": 1.5}, "replacing_rate must be above 0 and at most 1, got 1.5"),
        ({"replacing_rate": float("nan")}, "above 0 and at most 1, got nan"),
        ({"replacing_rate": 0.5, "steps_for_replacing": 0}, "in the released code 0, its default, is one step"),
        ({"replacing_rate": 0.5, "scheduler_linear_k": 0.1}, "--scheduler_linear_k goes with"),
        ({"replacing_rate": 0.5, "scheduler_type": "linear"}, "needs --scheduler_linear_k or --steps_for_replacing"),
        (
            {"replacing_rate": 0.5, "scheduler_type": "linear", "scheduler_linear_k": -0.1},
            "scheduler_linear_k must not be negative, got -0.1: the rate would fall to 0",
        ),
        (
            {"replacing_rate": 0.5, "scheduler_type": "linear", "scheduler_linear_k": 0.1, "steps_for_replacing": 5},
            "one of them",
        ),
        (
            {"replacing_rate": 1.0, "scheduler_type": "anti_curriculum", "scheduler_linear_k": 0.1},
            "its first rate would be 0",
        ),
        ({"scheduler_type": "list"}, "needs --replacing_rates"),
        ({"scheduler_type": "list", "replacing_rates": ["0:0.5"], "replacing_rate": 0.5}, "does not go with"),
        ({"scheduler_type": "list", "replacing_rates": ["0:0.5", "x"]}, "expected a step and a rate .*, got 'x'"),
        ({"scheduler_type": "list", "replacing_rates": ["0:0.5", "9:2"]}, "replacing_rates at step 9 must be above 0"),
        ({"scheduler_type": "list", "replacing_rates": ["5:0.5"]}, "must begin with step 0"),
        ({"scheduler_type": "list", "replacing_rates": ["0:0.5", "0:0.6"]}, "rising steps, got 0, 0"),
        ({"replacing_rate": 0.5, "replacing_rates": ["0:0.5"]}, "goes with --scheduler_type list"),
    ],
)
def test_bad_flags(values, message):
    with pytest.raises(InputError, match=message):
        flags(**values)


def test_gates_depend_on_seed_step_and_micro_batch_alone():
    drawn = {key: draw_gates(*key, 0.5, 32) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}
    assert len(set(drawn.values())) == len(drawn)
    assert all(draw_gates(*key, 0.5, 32) == gates for key, gates in drawn.items())


def test_gates_are_open_as_often_as_the_rate_says_and_independent():
    drawn = np.array([draw_gates(0, step, 0, 0.3, 4) for step in range(4000)])  # [steps, modules]
    np.testing.assert_allclose(drawn.mean(0), 0.3, atol=0.03)
    np.testing.assert_allclose(np.corrcoef(drawn.T), np.eye(4), atol=0.06)
    assert all(all(draw_gates(0, step, 0, 1.0, 4)) for step in range(200))
    higher = np.array([draw_gates(0, step, 0, 0.6, 4) for step in range(200)])
    assert not (drawn[:200] & ~higher).any(), "a higher rate replaces whatever a lower one does"
