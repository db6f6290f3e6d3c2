"""Spaces of genotypes: what the stages vary, budgets, and which candidates are the same."""

import numpy as np
import pytest

from bertkernels.errors import InputError
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.genotype import genotype_texts, parse_genotype, published_size
from bertkernels.models.inheritance import student_config
from bertkernels.search.behaviour import Behaviour
from bertkernels.search.ffn_space import FfnSpace, expressions_of, shapes_of
from bertkernels.search.genetic_sampler import Genetics, GeneticSampler

CONFIG = EncoderConfig(
    vocab_size=40,
    hidden_size=12,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=32,
    plan="3*(attention expression_ffn[stack=4])",
)
BUDGET = (3500, 5000, 10)
PLAIN = "linear1_1(gelu(linear1_1(x,wb1)),wb2)"
GIVEN = parse_genotype([PLAIN, "linear2_2(relu(mul(linear2_2(x,wb1),x)),wb2)", PLAIN])


def space(stage, given=None, budget=BUDGET, config=CONFIG):
    return FfnSpace(config, stage, given, *budget)


def test_candidates_of_each_stage():
    rng = np.random.default_rng(0)
    stages = {1: space(1), 2: space(2, GIVEN), 3: space(3)}
    found = {stage: [each.random(rng) for _ in range(30)] for stage, each in stages.items()}
    for stage, paths in found.items():
        for path in paths:
            config = student_config(CONFIG, parse_genotype(path))
            assert stages[stage].allows(path) and 3500 <= published_size(config, 10) <= 5000
            assert len(stages[stage].features(path)) == (6 if stage == 3 else 66)
    shapes, expressions = (
        {stage: {of(parse_genotype(path)) for path in paths} for stage, paths in found.items()}
        for of in (shapes_of, expressions_of)
    )
    assert len(shapes[1]) > 10 and len(expressions[1]) > 10
    assert shapes[2] == {shapes_of(GIVEN)} and len(expressions[2]) > 10
    assert len(shapes[3]) > 10 and expressions[3] == {expressions_of(parse_genotype([PLAIN] * 3))}
    assert stages[1].starts == [(PLAIN,) * 3]
    assert stages[2].starts[0] == tuple(genotype_texts(GIVEN)) and len(stages[2].starts) == 2
    assert stages[3].starts == []


def test_children_keep_within_the_budget():
    each = space(1)
    agent = GeneticSampler(each, Genetics(population=5, parents=2, mutation_probability=0.7), seed=0)
    found, taken = [], set()
    for number in range(25):
        scored = [(path, float(-len(str(path)))) for path, _ in found[: number // 5 * 5]]
        path, origin = agent.propose(number, taken, scored)
        assert each.allows(path) and each.key(path) not in taken
        taken.add(each.key(path))
        found.append((path, origin))
    assert {origin for _, origin in found} == {"random", "mutation", "crossover"}


def test_a_finite_space_ends():
    plain = published_size(student_config(CONFIG, parse_genotype([PLAIN] * 3)), 10)
    each = space(3, budget=(plain, plain, 10))
    agent, taken = GeneticSampler(each, Genetics(), seed=0), set()
    while (proposal := agent.propose(len(taken), taken, [])) is not None:
        taken.add(each.key(proposal[0]))
    assert len(taken) == each.size > 0


def test_expressions_that_compute_the_same():
    behaviour = Behaviour(12, 12, "crop")

    def same(one, other, ratios=(1, 1)):
        return behaviour.digest(one, ratios[0]) == behaviour.digest(other, ratios[1])

    down = "linear({}, w2)"
    assert same(down.format("add(linear(x, w1), tanh(x))"), down.format("add(tanh(x), linear(x, w1))")), (
        "canonical form"
    )
    leaky = down.format("leaky_relu(linear(add(x, tanh(x)), w1))")
    assert same(
        down.format("max(add(relu(linear(x, w1)), tanh(x)), tanh(x))"), down.format("add(relu(linear(x, w1)), tanh(x))")
    )
    assert not same(leaky, leaky.replace("leaky_relu", "relu"))
    assert not same(leaky, leaky, (1, 2))
    assert Behaviour(12, 12, "crop").digest(leaky, 1) == behaviour.digest(leaky, 1)


def test_keys_tell_shapes_apart():
    each = space(1)
    wide, stacked = (PLAIN,) * 3, (PLAIN, PLAIN, PLAIN.replace("1_1", "2_2"))
    turned = (PLAIN, PLAIN, "linear1_1(gelu(add(linear1_1(x,wb1),x)),wb2)")
    mirrored = (PLAIN, PLAIN, "linear1_1(gelu(add(x,linear1_1(x,wb1))),wb2)")
    assert len({each.key(path) for path in (wide, stacked, turned)}) == 3
    assert each.key(turned) == each.key(mirrored)


def test_what_does_not_fit():
    with pytest.raises(InputError, match="stage 2 changes the expressions of a --genotype"):
        space(2)
    with pytest.raises(InputError, match="stage 3 changes the shapes of the supernet's own expressions"):
        space(3, GIVEN)
    with pytest.raises(InputError, match="no student has 10 to 20 parameters: the nearest has"):
        space(1, budget=(10, 20, 10))
    with pytest.raises(
        InputError, match="makes a model of .* the budget is 3,500 to 5,000: the nearest within it has 4,"
    ):
        space(2, parse_genotype([PLAIN.replace("1_1", "4_1")] * 3))
    with pytest.raises(InputError, match="2 expressions does not fit a plan with 3"):
        space(2, GIVEN[:2])
