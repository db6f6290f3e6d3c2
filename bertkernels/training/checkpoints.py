"""The checkpoints in a run's output folder: which are there, whether one is whole, and how one gets there."""

import json
import os
import shutil
from pathlib import Path

from bertkernels.data.cache import file_digest
from bertkernels.errors import InputError

STATE_FILE = "trainer_state.json"
_SEAL = "checkpoint_files.json"  # every other file's size and SHA-256


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in an output folder, by their step."""
    found = []
    for path in folder.glob("checkpoint-*"):
        step = path.name.removeprefix("checkpoint-")
        if step.isdecimal() and (path / STATE_FILE).is_file():
            found.append((int(step), path))
    return [path for _, path in sorted(found)]


def last_intact(folder: Path) -> tuple[Path, list[str]]:
    """The last checkpoint whose files are as they were written, and what is wrong with those after it.

    Raises InputError where there is none.
    """
    damages = []
    for checkpoint in reversed(checkpoints(folder)):
        found = damage(checkpoint)
        if found is None:
            return checkpoint, damages
        damages.append(f"{checkpoint.name}: {found}")
    reason = f": {'; '.join(damages)}" if damages else ""
    raise InputError(f"there is no {'whole ' if damages else ''}checkpoint in {folder}{reason}")


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint's files, None where nothing is.

    One without a list of its files (another program's) only needs a state that can be read.
    """
    try:
        json.loads((checkpoint / STATE_FILE).read_text(encoding="utf-8"))
        seal = checkpoint / _SEAL
        listed = json.loads(seal.read_text(encoding="utf-8")) if seal.is_file() else {}
    except (OSError, ValueError) as error:
        return f"{STATE_FILE} or {_SEAL} can't be read ({error})"
    for name, (size, digest) in listed.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name} has {path.stat().st_size} bytes, {size} were written"
        if file_digest(path) != digest:
            return f"{name} is not what was written (its SHA-256 differs)"
    return None


def publish(written: Path, checkpoint: Path) -> None:
    """Gives a finished checkpoint its name, after a list of its files has been added to it."""
    files = sorted(path for path in written.rglob("*") if path.is_file())
    listed = {str(path.relative_to(written)): (path.stat().st_size, file_digest(path)) for path in files}
    (written / _SEAL).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")
    for path in [*files, written / _SEAL]:
        _flush(path)
    if checkpoint.exists():
        shutil.rmtree(checkpoint)
    os.rename(written, checkpoint)


def _flush(path: Path) -> None:
    """Onto the disk: a name must not outlive a power cut that its content did not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
