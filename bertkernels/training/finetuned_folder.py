"""Where the model to predict with is: in the folder of one run, of many seeds, or of several tasks."""

import json
from pathlib import Path

from bertkernels.data.glue import TASKS, glue_task
from bertkernels.errors import InputError
from bertkernels.training.tasks.select import OTHER_TASKS

RESULTS = "all_results.json"
BEST_MODEL = "best_model"  # in the results of many seeds: the best one's folder, seen from theirs


def finetuned_folder(name_or_path: str, task: str | None) -> str:
    """The model's own folder (or the hub's name, unchanged).

    Args:
        task: of a folder of several tasks which one; AX takes MNLI's.

    Raises InputError where the folder holds no model.
    """
    folder = Path(name_or_path)
    if not folder.is_dir() or (folder / "config.json").is_file():
        return name_or_path
    results = folder / RESULTS
    if results.is_file():
        best = json.loads(results.read_text(encoding="utf-8")).get(BEST_MODEL)
        if best is not None:
            return finetuned_folder(str(folder / best), task)
    if task is not None and task not in OTHER_TASKS:
        trained = glue_task(task).folder
        inner = folder / ("MNLI" if trained == "AX" else trained)
        if inner.is_dir():
            return finetuned_folder(str(inner), None)
    known = ", ".join(sorted(path.name for path in folder.iterdir() if path.name in TASKS))
    raise InputError(f"{folder} holds no fine-tuned model" + (f" of {task}, only of {known}" if known and task else ""))


def holds_tasks(folder: str | Path) -> bool:
    """Whether a folder holds a model for each of several tasks of GLUE, and none of its own."""
    folder = Path(folder)
    return not (folder / "config.json").is_file() and any((folder / name / "config.json").is_file() for name in TASKS)
