"""Samplers of orders: what they promise, counted."""

import itertools
from collections import Counter

import pytest

from bertkernels.analysis import orders
from bertkernels.errors import InputError


def test_swaps():
    assert len(orders.all_swaps(12)) == 66 and len(set(orders.all_swaps(12))) == 66
    assert all(orders.fixed_points(order) == 10 for order in orders.all_swaps(12))
    assert orders.adjacent_swaps(3) == [(1, 0, 2), (0, 2, 1)]
    assert orders.mirrored_swaps(5) == [(4, 1, 2, 3, 0), (0, 3, 2, 1, 4)]
    assert orders.reversals(4, 3) == [(2, 1, 0, 3), (0, 3, 2, 1)]


@pytest.mark.parametrize("blocks, count", [(6, 10), (6, 1000), (12, 30), (24, 30)])
def test_fixed_points_are_exact_and_orders_differ(blocks, count):
    """Whether orders are listed or drawn; where there are fewer than asked for, all come."""
    for fixed in (0, 1, blocks // 2, blocks - 2, blocks):
        found = orders.with_fixed(blocks, fixed, count, seed=3)
        assert len(found) == len(set(found)) == min(count, orders.count_with_fixed(blocks, fixed))
        assert all(sorted(order) == list(range(blocks)) for order in found)
        assert {orders.fixed_points(order) for order in found} == {fixed}
        assert found == orders.with_fixed(blocks, fixed, count, seed=3)
    if count < orders.count_with_fixed(blocks, 0):
        assert orders.with_fixed(blocks, 0, count, seed=3) != orders.with_fixed(blocks, 0, count, seed=4)


def test_counts_of_orders_add_up():
    """All orders of five blocks, by their fixed points; all but one in its place there is none."""
    counted = Counter(orders.fixed_points(order) for order in itertools.permutations(range(5)))
    assert {fixed: orders.count_with_fixed(5, fixed) for fixed in counted} == counted
    with pytest.raises(InputError, match="exactly 4"):
        orders.with_fixed(5, 4, 1, seed=0)


def test_drawn_orders_are_uniform(monkeypatch):
    """Drawn, not listed: each of the nine derangements of four blocks comes first about equally often."""
    monkeypatch.setattr(orders, "_LISTED", 0)
    first = Counter(orders.with_fixed(4, 0, 1, seed=seed)[0] for seed in range(1800))
    assert len(first) == 9 and all(150 < count < 250 for count in first.values())


def test_all_orders_come_where_more_are_asked_for(monkeypatch):
    monkeypatch.setattr(orders, "_LISTED", 0)
    assert len(orders.with_fixed(4, 0, 100, seed=0)) == 9
    assert len(orders.group_shuffles(6, [(0, 1), (3, 4, 5)], 100, seed=0)) == 11


@pytest.mark.parametrize("listed", [0, 50_000])
def test_groups(listed, monkeypatch):
    monkeypatch.setattr(orders, "_LISTED", listed)
    found = orders.group_shuffles(6, [(0, 1), (3, 4, 5)], 8, seed=0)
    assert len(set(found)) == 8 and orders.identity(6) not in found
    assert all(order[2] == 2 and set(order[:2]) == {0, 1} and set(order[3:]) == {3, 4, 5} for order in found)
    with pytest.raises(InputError, match="nothing to shuffle"):
        orders.group_shuffles(6, [(0,), (3,)], 8, seed=0)
    with pytest.raises(InputError, match="different positions"):
        orders.group_shuffles(6, [(0, 1), (1, 2)], 8, seed=0)


def test_repeats():
    assert orders.repeated(3, 1) == (1, 1, 1) and orders.periodic(5, (0, 2)) == (0, 2, 0, 2, 0)
    assert orders.read_order("0,0,2", 3, repeats=True) == (0, 0, 2)


@pytest.mark.parametrize("text", ["0,0,2", "0,1", "0,1,3", "0,1,x", "0,1,-1", ""])
def test_what_is_no_order(text):
    with pytest.raises(InputError, match="order"):
        orders.read_order(text, 3)
