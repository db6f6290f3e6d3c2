"""What was found of parts of blocks: linearity, removal, replacement, freezing, variants."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bertkernels.analysis.experiments.block_ranges import SINGLE
from bertkernels.analysis.report import plots
from bertkernels.analysis.report.found import PHASES, Found, Scored
from bertkernels.analysis.report.tables import markdown_table

_WHAT = {"site": "site", "mode": "mode", "variant": "variant"}


def approximate_section(found: Found, folder: Path) -> list[str]:
    """Bars of R² by block, and a table of all scores."""
    by_block = {line["block"]: line["sites"] for line in sorted(found.lines, key=lambda line: line["block"])}
    if not by_block:
        return []
    names = list(dict.fromkeys(site for sites in by_block.values() for site in sites))
    places = list(map(str, by_block))
    file = f"{found.name}.png"
    plots.bars(
        folder / file,
        {name: [max(0.0, sites.get(name, {}).get("r2", np.nan)) for sites in by_block.values()] for name in names},
        places=places,
        axes_names=("block", "R² of the linear probe"),
        title="how linear each site is, by held-out tokens",
    )
    rows = []
    for block, sites in by_block.items():
        for name, scores in sites.items():
            window = scores.get("window", {}).get("r2")
            trained = [scores.get(f"trained_{kind}", {}).get("cosine") for kind in ("linear", "relu", "mlp")]
            named = ("r2", "relative_error", "cosine", "baseline_cosine", "cone_size", "normalized_linearity")
            rows.append([block, name, *(scores[key] for key in named), window, *trained])
    head = [
        "block",
        "site",
        "R²",
        "relative error",
        "cosine",
        "cosine of the mean",
        "cone size",
        "normalised linearity",
    ]
    head += ["R² with neighbours", "cosine, trained linear", "trained ReLU", "trained MLP"]
    kept = [column for column in range(len(head)) if any(row[column] is not None for row in rows)]
    table = markdown_table([head[column] for column in kept], [[row[column] for column in kept] for row in rows])
    return [f"![]({file})", "", *table, ""]


def blocks_section(found: Found, folder: Path) -> list[str]:
    """Of what is done to one block, or to more and more: bars for the one, curves for the other, and a table."""
    lines: list[str] = []
    for phase in PHASES:
        scored, unchanged = found.scored(phase), found.unchanged(phase)
        if not scored or unchanged is None:
            continue
        lines += [f"### {phase}", "", f"Unchanged: {found.metric} {unchanged.mean:.4f}.", ""]
        single = [one for one in scored if one.labels.get("way") == SINGLE]
        if single:
            file = f"{found.name}_{phase}_single.png"
            blocks = sorted({one.labels["blocks"][0] for one in single})
            series = {name: [_score_at(group, block) for block in blocks] for name, group in _grouped(single).items()}
            plots.bars(
                folder / file,
                series,
                places=list(map(str, blocks)),
                axes_names=("block", found.metric),
                title=f"{found.experiment}, one block, {phase}",
                level=unchanged.mean,
            )
            lines += [f"![]({file})", ""]
        cumulative = [one for one in scored if one.labels.get("way") in ("forward", "backward")]
        if cumulative:
            file = f"{found.name}_{phase}_cumulative.png"
            series = {
                f"{name}, {way}": [
                    (0, unchanged.mean),
                    *((len(one.labels["blocks"]), one.mean) for one in group if one.labels["way"] == way),
                ]
                for name, group in _grouped(cumulative).items()
                for way in dict.fromkeys(one.labels["way"] for one in group)
            }
            plots.curves(
                folder / file,
                series,
                axes_names=("blocks", found.metric),
                title=f"{found.experiment}, more and more blocks, {phase}",
            )
            lines += [f"![]({file})", ""]
        lines += [*_table(scored), ""]
    return lines


def freeze_section(found: Found, folder: Path) -> list[str]:
    """A table by what was frozen."""
    rows = []
    for one in [found.unchanged("finetuned"), *found.scored("finetuned")]:
        if one is not None:
            trained = one.labels.get("trained_parameters")
            rows.append([one.labels.get("frozen", "nothing"), trained, len(one.scores), one.mean, one.std, one.change])
    return [*markdown_table(["frozen", "parameters that train", "seeds", "mean", "std", "change"], rows), ""]


def _grouped(scored: Sequence[Scored]) -> dict[str, list[Scored]]:
    """By what is done to the blocks."""
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        name = " ".join(str(one.labels[key]) for key in _WHAT if key in one.labels)
        groups.setdefault(name, []).append(one)
    return groups


def _score_at(group: Sequence[Scored], block: int) -> float:
    return next((one.mean for one in group if one.labels["blocks"] == [block]), float("nan"))


def _table(scored: Sequence[Scored]) -> list[str]:
    rows = [
        [
            " ".join(str(one.labels[key]) for key in _WHAT if key in one.labels),
            one.labels.get("way"),
            " ".join(map(str, one.labels.get("blocks", ()))),
            one.mean,
            one.std,
            one.change,
        ]
        for one in scored
    ]
    return markdown_table(["what", "way", "blocks", "mean", "std", "change"], rows)
