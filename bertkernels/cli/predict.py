"""`bertkernels predict`: predictions of a fine-tuned model as files."""

from dataclasses import replace
from pathlib import Path

from bertkernels.cli.arguments import parse_arguments


def run(argv: list[str]) -> int:
    """Predicts as the flags say, several of GLUE's tasks one after the other, and prints the files."""
    from bertkernels.data.glue import TASKS, task_names
    from bertkernels.training.finetuned_folder import finetuned_folder
    from bertkernels.training.predict import predict
    from bertkernels.training.predict_arguments import PredictArguments

    description = (
        "Predicts rows without labels with a fine-tuned model: GLUE's test sets as the leaderboard takes them, or your "
        "own files. A file may hold the options."
    )
    (arguments,) = parse_arguments("predict", description, argv, PredictArguments)
    names = task_names(arguments.task_name, list(TASKS)) if arguments.task_name else [None]
    if len(names) > 1 and arguments.model_name_or_path is not None:
        for name in names:
            finetuned_folder(arguments.model_name_or_path, name)  # all are there before any is used
    for name in names:
        for path in predict(replace(arguments, task_name=name)):
            print(f"Predictions: {path}")
    if len(names) > 1:
        print(f"Check and pack them: bertkernels submission {Path(arguments.output_dir)}")
    return 0
