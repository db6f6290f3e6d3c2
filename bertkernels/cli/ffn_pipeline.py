"""`bertkernels search pipeline FILE`: EfficientBERT's whole search from one file."""

from pathlib import Path
from typing import TYPE_CHECKING

from bertkernels.cli.arguments import flags_of, parse_arguments, read_content
from bertkernels.cli.ffn_flags import parse_ffn_search
from bertkernels.errors import InputError

if TYPE_CHECKING:
    from bertkernels.training.distill_arguments import DistillArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

_USAGE = """usage: bertkernels search pipeline FILE

Trains a supernet, searches in three stages, trains the found student beside others, and reports. FILE is YAML or
JSON: output_dir, teacher_model_name_or_path, num_seeds, and sections of flags of `bertkernels distill` and `bertkernels
search --space ffn`: run (of every step), task, text, budget, search (of every stage), supernet, stage1, stage2,
shared_text, shared_task, stage3, student_text, student. The same command again goes on where it was cut short.
docs/ffn_search.md has an example."""


def run_pipeline(argv: list[str]) -> int:
    """Runs what the file asks for, and prints what came out."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if argv else 2
    if len(argv) > 1:
        raise InputError(f"pipeline takes one file, got {' '.join(argv)}")
    content = read_content(Path(argv[0]))
    from bertkernels.search.ffn_pipeline import Pipeline, read_settings
    from bertkernels.search.ffn_pipeline_report import report_lines, write_pipeline_report

    settings = read_settings(content, argv[0])
    pipeline = Pipeline(settings, _parse_distill, _parse_search)
    try:
        results = pipeline.run()
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        return 130
    folder = Path(settings.output_dir)
    write_pipeline_report(folder, results | {"settings": content})
    print("\n".join([*report_lines(results), *results["genotype"], f"Report: {folder}/report.md"]))
    return 0


def _parse_distill(flags: dict[str, object]) -> tuple["DistillArguments", "FinetuneRunArguments"]:
    from bertkernels.training.distill_arguments import DistillArguments
    from bertkernels.training.training_arguments import FinetuneRunArguments

    return parse_arguments("distill", "", flags_of(flags), DistillArguments, FinetuneRunArguments)


def _parse_search(flags: dict[str, object], more: list[str]) -> tuple:
    return parse_ffn_search(flags_of(flags), more)
