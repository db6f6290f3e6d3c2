"""The report of experiments: Markdown with plots, and all lines as CSV."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from bertkernels.analysis.report.ensembles import ensemble_section
from bertkernels.analysis.report.facts import known_facts
from bertkernels.analysis.report.found import Found, read_found
from bertkernels.analysis.report.heads import heads_section
from bertkernels.analysis.report.networks import comparison_section
from bertkernels.analysis.report.orders import shuffle_section, swap_section
from bertkernels.analysis.report.parts import approximate_section, blocks_section, freeze_section
from bertkernels.analysis.report.states import track_section
from bertkernels.analysis.report.tables import markdown_table, write_csv
from bertkernels.analysis.results import SETTINGS
from bertkernels.errors import InputError
from bertkernels.training.flag_defaults import flag_defaults
from bertkernels.training.training_arguments import FinetuneRunArguments

REPORT, CSV = "report.md", "results.csv"
_SECTIONS: dict[str, Callable[[Found, Path], list[str]]] = {
    "approximate": approximate_section,
    "replace": blocks_section,
    "remove": blocks_section,
    "variants": blocks_section,
    "freeze": freeze_section,
    "track": track_section,
    "swap": swap_section,
    "shuffle": shuffle_section,
    "heads": heads_section,
    "comparison": comparison_section,
}


def find_experiments(folders: Sequence[str | Path]) -> list[Path]:
    """Those of these folders, and of the folders inside them, that hold experiments.

    Raises:
        InputError: one of them holds none.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        inside = sorted(path.parent for path in folder.glob(f"*/{SETTINGS}"))
        here = [folder] if (folder / SETTINGS).is_file() else inside
        if not here:
            raise InputError(f"{folder} holds no experiments")
        found += here
    return found


def write_report(folders: Sequence[Path], output: Path) -> None:
    """Writes report.md, results.csv and the plots of all experiments into a folder."""
    output.mkdir(parents=True, exist_ok=True)
    found = [read_found(folder) for folder in folders]
    write_csv(output / CSV, found)
    (output / REPORT).write_text("\n".join(_markdown(found, output)), encoding="utf-8")


def _markdown(found: Sequence[Found], output: Path) -> list[str]:
    lines = ["# Analysis", ""]
    facts = known_facts(found)
    if facts:
        rows = [[fact.statement, "yes" if fact.holds else "no", fact.found] for fact in facts]
        lines += ["## What is known, and what was found", "", *markdown_table(["known", "found", "figures"], rows), ""]
    for one in found:
        seconds = sum(line["seconds"] for line in one.lines)
        lines += [f"## {one.name}", "", f"{len(one.lines)} jobs of `{one.experiment}`, {seconds:.0f} s of work.", ""]
        if one.lines:
            lines += _SECTIONS[one.experiment](one, output)
            lines += ensemble_section(one)
        lines += ["<details><summary>Settings</summary>", "", "```json"]
        lines += [json.dumps(_chosen(one.settings), indent=2), "```", "", "</details>", ""]
    return lines


def _chosen(settings: dict) -> dict:
    """Settings of which those of training that are as they are by default are left out."""
    if "training" not in settings:
        return settings
    usual = flag_defaults(FinetuneRunArguments) | {"hub_token": "<HUB_TOKEN>"}  # transformers' word for any
    changed = {name: value for name, value in settings["training"].items() if name not in usual or usual[name] != value}
    return settings | {"training": changed}
