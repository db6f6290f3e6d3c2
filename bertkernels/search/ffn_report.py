"""What a search over feed-forward layers found, as Markdown and JSON, with plots and the genotype ready for use."""

import json
from dataclasses import asdict
from pathlib import Path as File

from bertkernels.models.genotype import parse_genotype
from bertkernels.search import plots
from bertkernels.search.evaluation import Evaluation
from bertkernels.search.ffn_search import FfnSearch
from bertkernels.search.ffn_space import EXPRESSIONS, shapes_of
from bertkernels.search.report import REPORT, REPORT_JSON, best_first, evaluation_counts, generations
from bertkernels.search.standing import Standing
from bertkernels.training.results_file import write_json

GENOTYPE, HALL_OF_FAME, SHAPES_PLOT = "genotype.json", "hall_of_fame.json", "shapes_by_block.png"
_SHOWN = 10  # of the best, in the report
_SUBJECTS = {1: "expressions and shapes", 2: "expressions", 3: "shapes"}


def write_ffn_report(search: FfnSearch) -> dict:
    """Writes report, JSON, plots, hall of fame and genotype into the search's folder; returns what the JSON has."""
    folder = File(search.run.output_dir)
    standing = Standing(search.study.evaluations())
    content = _summarise(search, standing)
    if content["found"]:
        plots.best_so_far(folder / plots.BEST_SO_FAR, standing, search.metric)
        plots.population(folder / plots.POPULATION, standing, search.metric, search.budget.population)
        if search.arguments.stage != EXPRESSIONS:
            best = [[_name(shape) for shape in shapes_of(parse_genotype(e["genotype"]))] for e in content["best"]]
            names = sorted({name for row in best for name in row})
            plots.kinds_by_depth(folder / SHAPES_PLOT, best, names, f"shapes of the {len(best)} best")
        write_json(folder / GENOTYPE, content["found"]["genotype"])
    write_json(folder / HALL_OF_FAME, content["best"])
    write_json(folder / REPORT_JSON, content)
    (folder / REPORT).write_text(_markdown(content, folder), encoding="utf-8")
    return content


def _summarise(search: FfnSearch, standing: Standing) -> dict:
    def entry(evaluation: Evaluation) -> dict:
        figures = {name: value for name, value in asdict(search.figures(evaluation.path)).items() if value is not None}
        return {
            "genotype": list(evaluation.path),
            "plan": search.plan(evaluation.path),
            "fitness": evaluation.fitness,
            "number": evaluation.number,
            "origin": evaluation.origin,
            **figures,
            "metrics": evaluation.metrics,
        }

    best = [entry(evaluation) for evaluation in best_first(standing)[: search.arguments.hall_of_fame]]
    return {
        "found": best[0] if best else None,
        "best": best,
        "generations": generations(standing, search.budget.population),
        "evaluations": evaluation_counts(search.study.evaluations()),
        "stage": search.arguments.stage,
        "supernet": str(File(search.arguments.supernet).resolve()),
        "settings": search.study.settings,
    }


def _markdown(content: dict, folder: File) -> str:
    stage, settings, found = content["stage"], content["settings"], content["found"]
    lines = [f"# Search over feed-forward layers, stage {stage}: {_SUBJECTS[stage]}", ""]
    if found is None:
        return "\n".join([*lines, "Nothing is evaluated yet.", ""])
    counts = content["evaluations"]
    how = "with the supernet's own weights" if stage == 3 else "each trained from the supernet's weights"
    lines += [
        f"Found by {settings['fitness']} on {', '.join(settings['rows'])} rows ({found['fitness']:.4f}), {how}; "
        f"{found['parameters']:,} parameters as the budget counts them:",
        "",
        "```",
        *found["genotype"],
        "```",
        "",
        f"`--genotype {folder / GENOTYPE}`, or",
        "",
        "```",
        f'--plan "{found["plan"]}"',
        "```",
        "",
        f"{counts['complete']} candidates were evaluated in {counts['seconds']:.0f} s of work, by the "
        f"{settings['sampler']['name']} sampler; {counts['killed']} evaluations were cut short and done again, "
        f"{counts['given_up_as_duplicates']} given up as duplicates, {sum(counts['failed'].values())} failed.",
        "",
        *(f"- failed: {why} ({count})" for why, count in sorted(counts["failed"].items())),
        "",
        f"![]({plots.BEST_SO_FAR})",
        "",
        "## The best",
        "",
        "| | fitness | parameters | GFLOPs | origin | genotype |",
        "| ---: | ---: | ---: | ---: | --- | --- |",
    ]
    for place, entry in enumerate(content["best"][:_SHOWN], 1):
        genotype = "<br>".join(f"`{text}`" for text in entry["genotype"])
        numbers = f"{entry['fitness']:.4f} | {entry['parameters']:,} | {entry['flops'] / 1e9:.3f}"
        lines.append(f"| {place} | {numbers} | {entry['origin']} | {genotype} |")
    lines += [
        "",
        *([] if stage == 2 else [f"![]({SHAPES_PLOT})", ""]),
        f"![]({plots.POPULATION})",
        "",
        "## Settings",
        "",
        "```json",
        json.dumps(settings, indent=2),
        "```",
        "",
    ]
    return "\n".join(lines)


def _name(shape: tuple[int, int]) -> str:
    return f"{shape[0]}_{shape[1]}"
