"""Statistics over runs with different seeds."""

import math
from collections.abc import Mapping

import numpy as np

from bertkernels.training.finetuned_folder import BEST_MODEL


def seed_folder(seed: int) -> str:
    return f"seed-{seed}"


def over_seeds(results: Mapping[int, Mapping[str, object]]) -> dict[str, object]:
    """Of results by seed: each metric's median under its own name, and `_min`, `_max` and `_std` (of a sample).

    Also `seeds`, `main_metric`, and the seed with the highest main score, `best_seed`, with its folder.
    """
    first = next(iter(results.values()))
    names = [name for name in first if name.startswith(("eval_", "main_score")) and not _is_speed(name)]
    summary: dict[str, object] = {"seeds": list(results)}
    for name in names:
        values = np.array([result[name] for result in results.values()], dtype=np.float64)  # [seeds]
        summary[name] = float(np.median(values))
        summary[f"{name}_min"], summary[f"{name}_max"] = float(values.min()), float(values.max())
        summary[f"{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    if "main_score" in first:
        best = max(results, key=lambda seed: _rank(results[seed]["main_score"]))
        summary |= {"main_metric": first["main_metric"], "best_seed": best, BEST_MODEL: seed_folder(best)}
    return summary


def _is_speed(name: str) -> bool:
    return name.endswith(("_runtime", "_per_second"))


def _rank(score: float) -> float:
    return -math.inf if math.isnan(score) else score
