"""What may be written where: output folders are not overwritten unasked, and resumes find their checkpoint."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bertkernels.errors import InputError
from bertkernels.training.checkpoints import STATE_FILE, checkpoints, damage, last_intact
from bertkernels.training.train_log import LOG_FILE

if TYPE_CHECKING:
    from bertkernels.training.training_arguments import RunArguments

_logger = logging.getLogger(__name__)
LAST = "last"  # the value of --resume_from_checkpoint without one


def check_output_folder(run: RunArguments) -> str | None:
    """Checks a run's output folder before any work, and returns the checkpoint to resume from if one is asked for.

    Raises InputError for a folder that holds something and neither may be overwritten nor resumed, and for a checkpoint
    that is not there.
    """
    folder = Path(run.output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    if run.resume_from_checkpoint is not None:
        return str(_checkpoint(folder, run.resume_from_checkpoint))
    # The first process decides: the others may find what it has written already.
    first = run.process_index == 0
    if first and not run.overwrite_output_dir and folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            f"--output_dir {folder} is not empty: choose another, go on with --resume_from_checkpoint, or replace "
            "it with --overwrite_output_dir"
        )
    return None


def clear_output_folder(run: RunArguments) -> None:
    """Removes an earlier run's checkpoints and logs; other files stay."""
    if run.process_index == 0:
        folder = Path(run.output_dir)
        for path in [*checkpoints(folder), folder / "runs"]:
            shutil.rmtree(path, ignore_errors=True)
        (folder / LOG_FILE).unlink(missing_ok=True)


def _checkpoint(folder: Path, resume: str) -> Path:
    if resume == LAST:
        checkpoint, damages = last_intact(folder)
        if damages:
            _logger.warning("going on from %s; later ones are damaged: %s", checkpoint.name, "; ".join(damages))
        return checkpoint
    named = Path(resume)
    if not (named / STATE_FILE).is_file():
        raise InputError(f"--resume_from_checkpoint {resume} is no checkpoint: it has no {STATE_FILE}")
    found = damage(named)
    if found:
        raise InputError(f"--resume_from_checkpoint {resume} is damaged: {found}")
    return named
