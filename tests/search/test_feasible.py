"""Limits: which plans keep within them, and what is said where none does."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.cost import costs, forward_flops, parameters
from bertkernels.models.supernet import plan_of
from bertkernels.search.feasible import FeasiblePlans
from bertkernels.search.limits import Figures, KindFigures, Limits, parse_counts
from bertkernels.search.orders import named_orders
from bertkernels.search.plan_figures import kind_figures, measure_latencies

KINDS, SLOTS = ("a", "b", "c"), 5
FIGURES = KindFigures(
    Figures(100, 1000, 1.0), {"a": Figures(10, 300, 2.0), "b": Figures(20, 200, 1.0), "c": Figures(40, 100, 0.5)}
)
ALL = list(product(KINDS, repeat=SLOTS))
LIMITS = {
    "none": Limits(),
    "parameters": Limits(max_parameters=200),
    "flops": Limits(max_flops=1900),
    "latency": Limits(max_latency_ms=6.0),
    "counts": Limits(counts={"a": (2, 2), "b": (0, 1)}),
    "all": Limits(220, 2100, 7.5, {"c": (1, 2)}),
}


def keeps(path, limits):
    counts, figures = Counter(path), FIGURES.of(Counter(path))
    return (
        (limits.max_parameters is None or figures.parameters <= limits.max_parameters)
        and (limits.max_flops is None or figures.flops <= limits.max_flops)
        and (limits.max_latency_ms is None or figures.latency_ms <= limits.max_latency_ms)
        and all(low <= counts[kind] <= high for kind, (low, high) in limits.counts.items())
    )


@pytest.mark.parametrize("name", LIMITS)
def test_the_feasible_plans_are_those_within_the_limits(name):
    plans = FeasiblePlans(KINDS, SLOTS, LIMITS[name], FIGURES)
    expected = {path for path in ALL if keeps(path, LIMITS[name])}
    assert plans.size == len(expected) and (name == "none") == (len(expected) == len(ALL))
    assert {path for path in ALL if plans.allows(path)} == expected

    rng = np.random.default_rng(0)
    drawn = Counter(plans.random(rng) for _ in range(40 * plans.size))
    assert set(drawn) == expected
    spread = 6 * 40**0.5  # a binomial's, at six standard deviations
    assert all(abs(count - 40) < spread for count in drawn.values()), "any as likely as another"


@pytest.mark.parametrize("name", LIMITS)
def test_the_nearest_plan_changes_as_few_slots_as_can_be(name):
    plans = FeasiblePlans(KINDS, SLOTS, LIMITS[name], FIGURES)
    expected = [path for path in ALL if keeps(path, LIMITS[name])]
    rng = np.random.default_rng(0)
    for path in ALL[::7]:
        near = plans.nearest(path, rng)
        changed = sum(ours != theirs for ours, theirs in zip(path, near, strict=True))
        least = min(sum(a != b for a, b in zip(path, other, strict=True)) for other in expected)
        assert near in expected and changed == least


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_parameters=149), "--max_parameters 149: the nearest plan has 150 (5*a, in any order)"),
        (Limits(max_flops=1400.0), "--max_flops 1,400.0: the nearest plan has 1,500 (5*c, in any order)"),
        (Limits(max_latency_ms=1.0), "--max_latency_ms 1.0: the nearest plan has 3.500 (5*c"),
        (
            Limits(max_parameters=200, counts={"c": (3, 5)}),
            "--max_parameters 200: the nearest plan that keeps within the other limits has 240 (2*a 3*c",
        ),
        (Limits(counts={"a": (3, 5), "b": (3, 5)}), "at least 6 sub-layers: 5 are feasible"),
        (Limits(counts={"a": (0, 1), "b": (0, 1), "c": (0, 1)}), "at most 3 sub-layers: 5 are feasible"),
    ],
)
def test_infeasible_limits_name_the_nearest_figure(limits, message):
    with pytest.raises(InputError) as caught:
        FeasiblePlans(KINDS, SLOTS, limits, FIGURES)
    assert message in str(caught.value)


def test_counts_are_read():
    assert parse_counts(["a=2", "b=1-3", "c=-4"], KINDS, 5) == {"a": (2, 2), "b": (1, 3), "c": (0, 4)}
    assert parse_counts(["ffn[groups=2]=2-"], ("ffn[groups=2]",), 5) == {"ffn[groups=2]": (2, 5)}
    for text, message in (
        ("a", "expected a kind with a number"),
        ("a=-", "expected a kind with a number"),
        ("d=1", "the supernet has no d; it has a, b, c"),
        ("a=3-2", "the range is empty"),
    ):
        with pytest.raises(InputError, match=message):
            parse_counts([text], KINDS, 5)
    with pytest.raises(InputError, match="twice"):
        parse_counts(["a=1", "a=2"], KINDS, 5)


def test_figures_of_plans_are_those_of_the_cost_model(supernet_config):
    """As sums over slots, in whatever order, they are what the whole encoder's are."""
    figures = kind_figures(supernet_config, tokens=20)
    plans = FeasiblePlans(supernet_config.supernet_kinds, 6, Limits(), figures)
    for path in (("ffn",) * 6, ("attention", "ffn", "dynamic_conv", "ffn", "ffn", "attention")):
        plain = EncoderConfig(
            **supernet_config.to_dict() | {"plan": str(plan_of(supernet_config, path)), "supernet_kinds": None}
        )
        found = plans.figures_of(path)
        assert found == Figures(parameters(plain), forward_flops(plain, 20), None)
        assert found.parameters == sum(cost.parameters for cost in costs(plain, 20).values())


def test_latencies_are_measured(supernet_config):
    times = measure_latencies(supernet_config, tokens=16, batch=2, device="cpu")
    assert set(times) == {"encoder", *supernet_config.supernet_kinds}
    assert times["encoder"] >= 0 and all(times[kind] > 0 for kind in supernet_config.supernet_kinds)
    figures = kind_figures(supernet_config, 16, times)
    plans = FeasiblePlans(supernet_config.supernet_kinds, 6, Limits(), figures)
    assert plans.figures_of(("ffn",) * 6).latency_ms == pytest.approx(times["encoder"] + 6 * times["ffn"])


def test_named_orders():
    orders = named_orders(("attention", "ffn", "dynamic_conv"), 12)
    assert orders["interleaved attention"] == ("attention", "ffn") * 6
    assert orders["sandwich attention"] == ("attention",) * 2 + ("attention", "ffn") * 4 + ("ffn",) * 2
    assert orders["interleaved dynamic_conv"] == ("dynamic_conv", "ffn") * 6
    assert orders["interleaved all"] == ("attention", "ffn", "dynamic_conv") * 4
    assert len(orders) == 5 and all(len(order) == 12 for order in orders.values())
    assert list(named_orders(("attention", "ffn"), 4)) == ["interleaved attention", "sandwich attention"]
    assert named_orders(("attention", "mixed"), 3) == {"interleaved all": ("attention", "mixed", "attention")}
    assert len(named_orders(("attention", "ffn"), 1)["interleaved attention"]) == 1
