"""The sampler: what a generation is made of, and that it finds what there is to find."""

from collections import Counter

import pytest

from bertkernels.errors import InputError
from bertkernels.search.feasible import FeasiblePlans
from bertkernels.search.genetic_sampler import CROSSOVER, MUTATION, Genetics, GeneticSampler
from bertkernels.search.limits import Figures, KindFigures, Limits
from bertkernels.search.space import RANDOM

KINDS = ("a", "b", "c")
FIGURES = KindFigures(Figures(0, 0), {kind: Figures(1, 1) for kind in KINDS})


def sampler(slots=12, seed=0, limits=None, **genetics):
    plans = FeasiblePlans(KINDS, slots, limits or Limits(), FIGURES)
    return GeneticSampler(plans, Genetics(**{"population": 10, "parents": 3, **genetics}), seed), plans


def search(sampler, fitness, evaluations, population=10):
    """One worker's search: all plans in the order of proposals, with origin and fitness."""
    found = []
    for number in range(evaluations):
        scored = [(path, value) for path, _, value in found[: number // population * population]]
        proposal = sampler.propose(number, {path for path, _, _ in found}, scored)
        if proposal is None:
            break
        found.append((*proposal, fitness(proposal[0])))
    return found


def hidden(slots=12):
    """A fitness that knows one order: the share of slots that agree with it, neighbours counting once more."""
    secret = ("a", "b", "c", "c", "b", "a", "a", "c", "b", "b", "c", "a")[:slots]

    def fitness(path):
        right = [ours == theirs for ours, theirs in zip(path, secret, strict=True)]
        return sum(right) + 0.5 * sum(a and b for a, b in zip(right, right[1:], strict=False))

    return fitness


def test_a_generation_is_mutations_then_crossovers():
    found = search(sampler(mutation_share=0.4)[0], hidden(), 30)
    origins = [origin for _, origin, _ in found]
    assert origins[:10] == [RANDOM] * 10
    assert origins[10:20] == origins[20:] == [MUTATION] * 4 + [CROSSOVER] * 6
    assert len({path for path, _, _ in found}) == 30


def test_children_come_of_the_best():
    agent, _ = sampler(mutation_share=0.5, mutation_probability=0.2)
    found = search(agent, hidden(), 10)
    best = sorted(found, key=lambda entry: -entry[2])[:3]
    parents = [path for path, _, _ in best]
    scored = [(path, value) for path, _, value in found]
    changed = Counter()
    for number in range(10, 20):
        child, origin = agent.propose(number, set(), scored)
        distances = sorted(sum(a != b for a, b in zip(child, parent, strict=True)) for parent in parents)
        if origin == CROSSOVER:
            assert all(any(kind == parent[slot] for parent in parents) for slot, kind in enumerate(child))
        else:
            changed[distances[0]] += 1
    assert max(changed) <= 7  # of 12 slots, 2.4 in the mean


def test_proposals_depend_on_seed_number_and_what_is_known_alone():
    runs = [[path for path, _, _ in search(sampler(seed=seed)[0], hidden(), 30)] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


def test_evolution_beats_chance_on_a_fitness_that_can_be_climbed():
    evolved = max(value for _, _, value in search(sampler(population=20, parents=5)[0], hidden(), 200, 20))
    chance = max(value for _, _, value in search(sampler(population=200)[0], hidden(), 200, 200))
    assert evolved > chance + 1


def test_limits_hold_for_all_children():
    limits = Limits(counts={"a": (4, 4), "b": (4, 4)})
    agent, plans = sampler(limits=limits)
    found = search(agent, hidden(), 40)
    assert all(Counter(path) == {"a": 4, "b": 4, "c": 4} and plans.allows(path) for path, _, _ in found)
    assert {origin for _, origin, _ in found} == {RANDOM, MUTATION, CROSSOVER}


def test_a_small_space_is_exhausted_and_then_ends():
    agent, plans = sampler(slots=3)
    found = search(agent, lambda path: path.count("a"), 100)
    assert len(found) == len({path for path, _, _ in found}) == plans.size == 27


def test_one_parent_only_mutates():
    agent, _ = sampler(parents=1)
    origins = [origin for _, origin, _ in search(agent, hidden(), 20)][10:]
    assert origins == [MUTATION] * 10


@pytest.mark.parametrize(
    "bad", [{"population": 0}, {"parents": 0}, {"mutation_share": 1.5}, {"mutation_probability": 0.0}]
)
def test_settings_out_of_range(bad):
    with pytest.raises(InputError, match=f"--{next(iter(bad))} must be"):
        Genetics(**bad)
