"""Plots of a search: the best so far, the population over time, and which kind stands at which depth."""

from collections.abc import Sequence
from pathlib import Path as File

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from bertkernels.models.supernet import Path
from bertkernels.search.evaluation import RANDOM_ORDER, Evaluation
from bertkernels.search.standing import Standing

matplotlib.use("Agg")

BEST_SO_FAR, POPULATION, DEPTHS = "best_so_far.png", "population.png", "kinds_by_depth.png"
_COLOURS = {"random": "#888888", "mutation": "#1f77b4", "crossover": "#d62728"}


def best_so_far(file: File, standing: Standing, metric: str) -> None:
    """The best fitness after each evaluation, with that of the orders that it is compared with."""
    scored = _in_order(standing)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    best = np.maximum.accumulate([evaluation.fitness for evaluation in scored])
    axes.step(range(1, len(scored) + 1), best, where="post", label="search", color="black")
    named = [e for e in standing.compared() if e.fitness is not None and e.origin != RANDOM_ORDER]
    for number, evaluation in enumerate(named):
        axes.axhline(evaluation.fitness, label=evaluation.name, color=f"C{number}", linestyle="--", linewidth=1)
    chance = _random_fitness(standing)
    if len(chance):
        label = f"{len(chance)} random orders: best, mean"
        axes.axhline(chance.max(), label=label, color="#888888", linestyle=":")
        axes.axhline(chance.mean(), color="#888888", linestyle=":")
    axes.set_xlabel("evaluations")
    axes.set_ylabel(f"best {metric} with inherited weights")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)


def population(file: File, standing: Standing, metric: str, size: int) -> None:
    """Every plan's fitness in the order of proposals, by how it came about, and each generation's mean."""
    scored = _in_order(standing)
    ranks = np.array([standing.ranks[evaluation.key] for evaluation in scored])
    values = np.array([evaluation.fitness for evaluation in scored])
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for origin in dict.fromkeys(evaluation.origin for evaluation in scored):
        chosen = np.array([evaluation.origin == origin for evaluation in scored])
        axes.scatter(ranks[chosen], values[chosen], s=12, label=origin, color=_COLOURS.get(origin, "#2ca02c"))
    for generation in range(ranks.max() // size + 1):
        chosen = ranks // size == generation
        if chosen.any():
            label = "mean of a generation" if generation == 0 else None
            span = (generation * size - 0.5, (generation + 1) * size - 0.5)
            axes.hlines(values[chosen].mean(), *span, color="black", label=label)
    axes.set_xlabel(f"plan, {size} a generation")
    axes.set_ylabel(f"{metric} with inherited weights")
    axes.legend(fontsize="small")
    figure.savefig(file, dpi=120)


def kinds_by_depth(file: File, paths: Sequence[Path], kinds: Sequence[str], title: str) -> None:
    """For each slot, how many of these plans have which kind there."""
    shares = kind_shares(paths, kinds)  # [kinds, slots]
    figure = Figure(figsize=(max(6, 0.45 * shares.shape[1] + 2.5), 0.6 * len(kinds) + 1.8), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_xticks(range(shares.shape[1]), range(1, shares.shape[1] + 1))
    axes.set_xlabel("slot")
    axes.set_title(title, fontsize="medium")
    figure.colorbar(image, label="share of plans")
    figure.savefig(file, dpi=120)


def kind_shares(paths: Sequence[Path], kinds: Sequence[str]) -> np.ndarray:
    """The share of plans that have each kind in each slot: float64 [kinds, slots]."""
    held = np.array(paths) == np.array(kinds)[:, None, None]  # [kinds, plans, slots]
    return held.mean(axis=1)


def _in_order(standing: Standing) -> list[Evaluation]:
    return sorted(standing.scored(), key=lambda evaluation: evaluation.number)


def _random_fitness(standing: Standing) -> np.ndarray:
    found = [e.fitness for e in standing.compared() if e.origin == RANDOM_ORDER and e.fitness is not None]
    return np.array(found, dtype=np.float64)
