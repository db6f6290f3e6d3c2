"""Budgets of shapes: counts, draws, and the nearest figure where there is none."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.genotype import published_size
from bertkernels.models.inheritance import student_config
from bertkernels.models.presets import preset
from bertkernels.models.shape_budget import ALL_SHAPES, ShapeBudget

SIZES = {"vocab_size": 40, "hidden_size": 12, "num_attention_heads": 2, "intermediate_size": 12}
CROPPED = "linear(mul(linear(x, w1), tanh(x)), w2)"
FULL_ONLY = "add(linear(gelu(linear(x, w1)), w2), x)"


def supernet(plan="2*(attention expression_ffn[stack=4])"):
    return EncoderConfig(plan=plan, **SIZES)


def test_the_published_space():
    """16,777,216 students, of which this many have 15 to 16 million parameters."""
    config = preset("efficientbert-base", plan="6*(attention expression_ffn[stack=4])")
    budget = ShapeBudget(config, 15e6, 16e6)
    assert budget.size == 4_480_424
    assert ShapeBudget(config, 0, 1e9).size == 16**6
    shapes = budget.random(np.random.default_rng(0))
    assert 15e6 <= published_size(student_config(config, budget.genotype(shapes))) <= 16e6


def test_counts_and_sizes_are_those_of_all_students():
    config = supernet()
    sizes = {}
    every = ShapeBudget(config, 0, 1e9, fit_size=5)
    for shapes in product(ALL_SHAPES, repeat=2):
        sizes[shapes] = published_size(student_config(config, every.genotype(shapes)), 5)
        assert every.parameters(shapes) == sizes[shapes]
    low, high = np.quantile(list(sizes.values()), [0.3, 0.5])
    budget = ShapeBudget(config, low, high, fit_size=5)
    within = {shapes for shapes, size in sizes.items() if low <= size <= high}
    assert budget.size == len(within) and {s for s in sizes if budget.allows(s)} == within
    rng = np.random.default_rng(0)
    drawn = Counter(budget.random(rng) for _ in range(40 * len(within)))
    assert set(drawn) == within and max(drawn.values()) < 80, "as likely each"


def test_shapes_that_the_supernet_or_the_expression_do_not_have():
    config = supernet(
        f"(attention expression_ffn[expression={FULL_ONLY}, stack=2]) (attention expression_ffn[stack=1])"
    )
    budget = ShapeBudget(config, 0, 1e9)
    assert budget.shapes_of(0) == tuple(shape for shape in ALL_SHAPES if shape[0] <= 2)
    assert budget.shapes_of(1) == tuple(shape for shape in ALL_SHAPES if shape[0] == 1)
    with pytest.raises(InputError, match="block 2 of the supernet cannot be stacked and divided as 2_1"):
        budget.parameters([(1, 1), (2, 1)])
    cropped = ShapeBudget(supernet(f"(attention expression_ffn[expression={CROPPED}, stack=4])"), 0, 1e9)
    assert cropped.shapes_of(0) == ALL_SHAPES


def test_the_nearest_figure():
    config = supernet()
    every = ShapeBudget(config, 0, 1e9)
    sizes = sorted(every.parameters(shapes) for shapes in product(ALL_SHAPES, repeat=2))
    with pytest.raises(InputError, match=f"the nearest has {sizes[0]:,}, as linear1_4.*; linear1_4"):
        ShapeBudget(config, 1, 2)
    with pytest.raises(InputError, match=f"the nearest has {sizes[-1]:,}, as linear4_1.*; linear4_1"):
        ShapeBudget(config, sizes[-1] + 1, 1e9)
    budget = ShapeBudget(config, sizes[10], sizes[20])
    with pytest.raises(InputError, match=f"the budget is .*: the nearest within it has {sizes[20]:,}"):
        budget.check([(4, 1), (4, 1)])
    budget.check(budget.nearest())
