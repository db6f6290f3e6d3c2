"""The partition sampler: what it learns, that it beats chance, and its use as an Optuna sampler."""

import numpy as np
import optuna
import pytest

pytest.importorskip("lightgbm", reason="the partition sampler needs LightGBM: pip install 'bertkernels[search]'")

from bertkernels.errors import InputError
from bertkernels.search.partition import Partition, first_promising
from bertkernels.search.partition_sampler import PartitionSampler, PartitionSettings


def hidden(features):
    """More is better where two of eight numbers agree, and where a third is high."""
    return (features[:, 0] == features[:, 3]) * 2.0 + (features[:, 5] > 2)


def samples(count, seed=0):
    return np.random.default_rng(seed).integers(0, 4, size=(count, 8)).astype(np.float64)


def test_promising_samples_are_better_than_others():
    known, new = samples(500), samples(2000, seed=1)
    partition = Partition(known, hidden(known), seed=0)
    assert partition.depth == 2, "one level more from 400 samples on"
    good = partition.promising(new)
    assert 20 < good.sum() < 1500
    assert hidden(new[good]).mean() > hidden(new).mean() + 0.3
    again = Partition(known, hidden(known), seed=0)
    assert (again.promising(new) == good).all()


def test_what_cannot_be_learned_is_not_filtered():
    known = samples(60)
    assert Partition(known, np.ones(60), seed=0).depth == 0, "all alike"
    assert Partition(known[:5], np.arange(5.0), seed=0).depth == 0, "too few"
    assert Partition(known, np.ones(60), seed=0).promising(known).all()


def test_tries_are_bounded():
    known = samples(200)
    partition, drawn = Partition(known, hidden(known), seed=0), []

    def draw():
        drawn.append(None)
        return worst

    worst = known[~partition.promising(known)][0]
    assert first_promising(partition, draw, list, 300) is None and len(drawn) == 300
    assert first_promising(partition, lambda: None, list, 300) is None, "nothing is left to draw"


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_as_an_optuna_sampler(direction):
    sign = 1 if direction == "maximize" else -1

    def objective(trial):
        kind = trial.suggest_categorical("kind", ["a", "b", "c"])
        rate = trial.suggest_float("rate", 1e-4, 1.0, log=True)
        width = trial.suggest_int("width", 1, 8)
        return sign * ((kind == "b") + (rate < 1e-2) + width / 8)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = PartitionSampler(PartitionSettings(initial_samples=40, refit_interval=10, rejection_tries=200), seed=0)
    study = optuna.create_study(sampler=sampler, direction=direction)
    study.optimize(objective, 100)
    values = sign * np.array([trial.value for trial in study.trials])
    assert values[40:].mean() > values[:40].mean() + 0.3


def test_several_objectives():
    study = optuna.create_study(sampler=PartitionSampler(seed=0), directions=["minimize", "minimize"])
    with pytest.raises(InputError, match="one objective, the study has 2"):
        study.optimize(lambda trial: (trial.suggest_float("a", 0, 1), 0.0), 1)


def test_settings_out_of_range():
    with pytest.raises(InputError, match="--refit_interval must be at least 1, not 0"):
        PartitionSettings(refit_interval=0)
