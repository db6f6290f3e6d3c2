"""What a search found, as Markdown and JSON, with plots."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path as File

import numpy as np

from bertkernels.search import plots
from bertkernels.search.evaluation import COMPLETE, DUPLICATE, FAILED, KILLED, RANDOM_ORDER, SURPLUS, Evaluation
from bertkernels.search.layer_search import LayerSearch
from bertkernels.search.standing import Standing
from bertkernels.training.results_file import write_json

REPORT, REPORT_JSON = "report.md", "report.json"
_SHOWN = 10  # of the best plans


def write_report(search: LayerSearch) -> dict:
    """Writes report, JSON and plots into the search's folder and returns what the JSON has."""
    folder = File(search.arguments.output_dir)
    standing = Standing(search.study.evaluations())
    content = summarise(search, standing)
    if standing.scored():
        plots.best_so_far(folder / plots.BEST_SO_FAR, standing, search.metric)
        plots.population(folder / plots.POPULATION, standing, search.metric, search.budget.population)
        parents = best_first(standing)[: search.arguments.parents]
        title = f"the {len(parents)} best plans"
        plots.kinds_by_depth(folder / plots.DEPTHS, [e.path for e in parents], search.kinds, title)
    write_json(folder / REPORT_JSON, content)
    (folder / REPORT).write_text(_markdown(content), encoding="utf-8")
    return content


def summarise(search: LayerSearch, standing: Standing) -> dict:
    """The report as plain data."""

    def entry(evaluation: Evaluation) -> dict:
        figures = {k: v for k, v in asdict(search.plans.figures_of(evaluation.path)).items() if v is not None}
        return {
            "plan": search.plan(evaluation.path),
            "fitness": evaluation.fitness,
            "number": evaluation.number,
            "origin": evaluation.origin,
            "name": evaluation.name,
            "within_limits": search.plans.allows(evaluation.path),
            **figures,
            "metrics": evaluation.metrics,
        }

    best = best_first(standing)
    evaluations = search.study.evaluations()
    order = list(search.budget.compared)
    compared = sorted(standing.compared(), key=lambda evaluation: order.index(evaluation.name))
    return {
        "found": entry(best[0]) if best else None,
        "best": [entry(evaluation) for evaluation in best[:_SHOWN]],
        "compared": [entry(evaluation) for evaluation in compared],
        "generations": generations(standing, search.budget.population),
        "kind_shares": _shares(search, best),
        "evaluations": {**evaluation_counts(evaluations), "plans_within_limits": search.plans.size},
        "objective": search.objective,
        "supernet": str(File(search.arguments.supernet).resolve()),
        "prepared_dir": str(File(search.arguments.prepared_dir).resolve()),
        "settings": search.study.settings,
    }


def evaluation_counts(evaluations: Sequence[Evaluation]) -> dict:
    """How they ended, and the seconds they took."""
    failures = [evaluation.why for evaluation in evaluations if evaluation.state == FAILED]
    return {
        "complete": sum(evaluation.state == COMPLETE for evaluation in evaluations),
        "killed": failures.count(KILLED),
        "given_up_as_duplicates": failures.count(DUPLICATE) + failures.count(SURPLUS),
        "failed": {why: failures.count(why) for why in {*failures} - {KILLED, DUPLICATE, SURPLUS}},
        "seconds": sum(evaluation.seconds or 0.0 for evaluation in evaluations),
    }


def best_first(standing: Standing) -> list[Evaluation]:
    """The search's complete evaluations, the earlier of two that are alike first."""
    return sorted(standing.scored(), key=lambda evaluation: (-evaluation.fitness, evaluation.number))


def generations(standing: Standing, size: int) -> list[dict]:
    """Of so many candidates in the order of proposals, mean and best fitness."""
    generations: dict[int, list[float]] = {}
    for evaluation in standing.scored():
        generations.setdefault(standing.ranks[evaluation.key] // size, []).append(evaluation.fitness)
    return [
        {"generation": number, "plans": len(values), "mean": float(np.mean(values)), "best": max(values)}
        for number, values in sorted(generations.items())
    ]


def _shares(search: LayerSearch, best: list[Evaluation]) -> dict[str, list[float]]:
    if not best:
        return {}
    shares = plots.kind_shares([e.path for e in best[: search.arguments.parents]], search.kinds)
    return dict(zip(search.kinds, shares.tolist(), strict=True))


def _markdown(content: dict) -> str:
    settings, found = content["settings"], content["found"]
    lines = ["# Search over layers", ""]
    if found is None:
        return "\n".join([*lines, "Nothing is evaluated yet.", ""])
    counts = content["evaluations"]
    lines += [
        f"Found, by {settings['fitness']} with weights inherited from a supernet ({found['fitness']:.4f}; "
        "`bertkernels search verify` tells what that says about the plan trained alone):",
        "",
        "```",
        f'--plan "{found["plan"]}"',
        "```",
        "",
        f"{counts['complete']} plans were evaluated in {counts['seconds']:.0f} s of work, of "
        f"{counts['plans_within_limits']:.3g} within the limits; {counts['killed']} evaluations were cut short and "
        f"done again, {sum(counts['failed'].values())} failed.",
        "",
        f"## Compared with, by {settings['fitness']}",
        "",
        *_table({"found": found, **_named(content)}),
        "",
        *_random_line(content),
        f"![]({plots.BEST_SO_FAR})",
        "",
        "## The best",
        "",
        *_table({str(place): entry for place, entry in enumerate(content["best"], 1)}),
        "",
        f"![]({plots.DEPTHS})",
        "",
        "## Generations",
        "",
        "| generation | plans | mean | best |",
        "| ---: | ---: | ---: | ---: |",
        *(
            f"| {row['generation']} | {row['plans']} | {row['mean']:.4f} | {row['best']:.4f} |"
            for row in content["generations"]
        ),
        "",
        f"![]({plots.POPULATION})",
        "",
        "## Settings",
        "",
        "LV-BERT's paper says that a supernet was pre-trained and that an evolution was guided by pre-training "
        "accuracy; the settings of the evolution are not in it.",
        "",
        "```json",
        json.dumps(settings, indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def _named(content: dict) -> dict[str, dict]:
    return {entry["name"]: entry for entry in content["compared"] if entry["origin"] != RANDOM_ORDER}


def _random_line(content: dict) -> list[str]:
    values = [
        entry["fitness"]
        for entry in content["compared"]
        if entry["origin"] == RANDOM_ORDER and entry["fitness"] is not None
    ]
    if not values:
        return []
    spread = f"mean {np.mean(values):.4f}, standard deviation {np.std(values):.4f}, best {max(values):.4f}"
    return [f"{len(values)} random orders within the limits: {spread}.", ""]


def _table(entries: dict[str, dict]) -> list[str]:
    timed = any("latency_ms" in entry for entry in entries.values())
    head = ["", "fitness", "parameters", "GFLOPs", *(["ms"] if timed else []), "plan"]
    rows = []
    for name, entry in entries.items():
        fitness = "failed" if entry["fitness"] is None else f"{entry['fitness']:.4f}"
        outside = "" if entry["within_limits"] else " (outside the limits)"
        cells = [name + outside, fitness, f"{entry['parameters']:,}", f"{entry['flops'] / 1e9:.3f}"]
        cells += [f"{entry['latency_ms']:.2f}"] if timed else []
        rows.append([*cells, f"`{entry['plan']}`"])
    aligned = ["---", *(["---:"] * (len(head) - 2)), "---"]
    return [f"| {' | '.join(row)} |" for row in (head, aligned, *rows)]
