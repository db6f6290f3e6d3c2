"""The demo's own output folder: replaced when it is one, refused when it is something else."""

import json
import os
import shutil
from pathlib import Path

from bertkernels.errors import InputError

RESULTS = "results.json"
REPORT = "report.html"
ENCODER = "encoder.json"
PRETRAINED, FINETUNED, FROM_SCRATCH = "pretrained", "finetuned", "finetuned_from_scratch"
_MADE_BY = "bertkernels demo"


def check_demo_folder(folder: Path) -> None:
    """Raises InputError unless `folder` is new, empty or an earlier demo's."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not _is_demo(folder):
        raise InputError(f"--output_dir {folder} holds something that the demo did not make: choose another folder")


def start_demo_folder(folder: Path) -> None:
    """Makes the folder, marks it as the demo's and removes what an earlier demo left; other files in it stay."""
    check_demo_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder, {"finished": False})
    (folder / REPORT).unlink(missing_ok=True)
    for name in (PRETRAINED, FINETUNED, FROM_SCRATCH):
        shutil.rmtree(folder / name, ignore_errors=True)


def write_results(folder: Path, results: dict) -> None:
    """Writes `results.json`, whole or not at all."""
    written = folder / f"{RESULTS}.writing"
    written.write_text(json.dumps({"made_by": _MADE_BY, **results}, indent=2) + "\n", encoding="utf-8")
    os.replace(written, folder / RESULTS)


def _is_demo(folder: Path) -> bool:
    try:
        content = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("made_by") == _MADE_BY
