"""What may be written where: output folders are not overwritten unasked, and resumes find their checkpoint."""

import shutil
from pathlib import Path

from bertkernels.errors import InputError
from bertkernels.training.resumable_trainer import checkpoints
from bertkernels.training.train_log import LOG_FILE

LAST = "last"  # the value of --resume_from_checkpoint without one


def prepare_output_folder(output_dir: str, overwrite: bool, resume: str | None) -> str | None:
    """Checks the output folder before any work and returns the checkpoint to resume from, if one is asked for.

    With `overwrite` an earlier run's checkpoints and logs are removed; other files stay. Raises InputError for a folder
    that holds something and neither may be overwritten nor resumed, and for a checkpoint that is not there.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    if resume is not None:
        return str(_checkpoint(folder, resume))
    if folder.is_dir() and any(folder.iterdir()):
        if not overwrite:
            raise InputError(
                f"--output_dir {folder} is not empty: choose another, go on with --resume_from_checkpoint, or replace "
                "it with --overwrite_output_dir"
            )
        for path in [*checkpoints(folder), folder / "runs"]:
            shutil.rmtree(path, ignore_errors=True)
        (folder / LOG_FILE).unlink(missing_ok=True)
    return None


def _checkpoint(folder: Path, resume: str) -> Path:
    if resume != LAST:
        if not (Path(resume) / "trainer_state.json").is_file():
            raise InputError(f"--resume_from_checkpoint {resume} is no checkpoint: it has no trainer_state.json")
        return Path(resume)
    found = checkpoints(folder)
    if not found:
        raise InputError(f"--resume_from_checkpoint: there is no checkpoint in {folder}")
    return found[-1]
