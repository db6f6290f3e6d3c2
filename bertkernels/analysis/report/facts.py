"""What is known of BERT from the paper, and whether these experiments found it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bertkernels.analysis.experiments.block_ranges import SINGLE
from bertkernels.analysis.report.found import PHASES, Found, Scored
from bertkernels.analysis.report.orders import distance_means


@dataclass(frozen=True)
class Fact:
    """A statement, what was found, and whether that agrees."""

    statement: str
    found: str
    holds: bool


def known_facts(found: Sequence[Found]) -> list[Fact]:
    """Those that the experiments say anything of."""
    return [fact for one in found for phase in PHASES for fact in _facts(one, phase)] + list(_skips(found))


def _facts(one: Found, phase: str) -> Iterator[Fact]:
    where = f"{one.name}, {phase}"
    if one.experiment == "swap":
        pairs = _pairs(one, phase)
        means = distance_means(pairs)
        if 1 in means and len(means) > 1 and max(means) == len(pairs[0].labels["order"]) - 1:
            near, far = means[1], means[max(means)]
            found = f"{where}: {near:+.4f} against {far:+.4f}"
            yield Fact("Swaps of adjacent blocks cost less than that of the first and the last.", found, near > far)
    if one.experiment == "shuffle":
        drawn = one.scored(phase, lambda line: line["how"] == "fixed")
        fixed = [trial.labels["fixed_points"] for trial in drawn]
        if len(set(fixed)) > 2:
            rho = float(stats.spearmanr(fixed, [trial.mean for trial in drawn]).statistic)
            found = f"{where}: Spearman's ρ {rho:.2f} over {len(drawn)} orders"
            yield Fact("The more blocks stay in their place, the higher the score.", found, rho > 0)
    if one.experiment == "remove":
        single = one.scored(phase, lambda line: line["way"] == SINGLE)
        changes = {
            site: [trial.change for trial in single if trial.labels["site"] == site]
            for site in ("self_attention_ff", "mlp")
        }
        if all(changes.values()):
            attention, ffn = (float(np.mean(changes[site])) for site in ("self_attention_ff", "mlp"))
            found = f"{where}: {attention:+.4f} against {ffn:+.4f}, means over blocks"
            yield Fact("Removing attention hurts more than removing the FFN.", found, attention < ffn)


def _skips(found: Sequence[Found]) -> Iterator[Fact]:
    """Of swaps of models with and without skip connections."""
    swaps = [one for one in found if one.experiment == "swap"]
    for phase in PHASES:
        plain = [one for one in swaps if not one.settings["changes"] and _pairs(one, phase)]
        cut = [one for one in swaps if _cuts(one) and _pairs(one, phase)]
        for one in cut if plain else ():
            unchanged = one.unchanged(phase)
            names = {pair.name for pair in _pairs(one, phase)}
            with_skips = _cost([pair for pair in _pairs(plain[0], phase) if pair.name in names])
            without = _cost(_pairs(one, phase))
            if with_skips is None or unchanged is None:
                continue
            text = (
                f"{one.name}, {phase}: swaps change the score by {without:+.4f}, by {with_skips:+.4f} with all skip "
                f"connections; the model without scores {unchanged.mean:.4f} unswapped"
            )
            yield Fact("Without skip connections blocks no longer commute.", text, without < with_skips)


def _cost(pairs: Sequence[Scored]) -> float | None:
    return float(np.mean([pair.change for pair in pairs])) if pairs else None


def _cuts(one: Found) -> bool:
    return any(change["do"] == "residual" and change.get("scale") == 0 for change in one.settings["changes"])


def _pairs(one: Found, phase: str) -> list[Scored]:
    return [trial for trial in one.scored(phase) if len(trial.labels["blocks"]) == 2]
