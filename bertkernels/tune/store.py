"""Files of tuned configurations: which folder, and how one more configuration gets into it."""

import json
import os
import tempfile
from pathlib import Path

from bertkernels.errors import InputError
from bertkernels.kernels import tuning
from bertkernels.kernels.tuning import Configuration


def default_folder() -> Path:
    """The package's own, so that what is found can ship; the user's where that cannot be written."""
    return tuning.FOLDER if os.access(tuning.FOLDER, os.W_OK) else tuning.user_folder()


def check(folder: Path, kernels: list[str]) -> None:
    """Raises InputError where the folder cannot be written, or holds something else in these kernels' files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(f"folder {folder} cannot be written: {error.strerror}") from error
    for kernel in kernels:
        try:
            tuning.read(folder / f"{kernel}.json")
        except ValueError as error:
            raise InputError(str(error)) from error


def keep(folder: Path, kernel: str, device_name: str, key: str, configuration: Configuration | None) -> None:
    """Puts a configuration in its place and leaves all others; None takes away what was there: the rule is as fast.

    Entries are sorted, so that the same configurations are the same file; it is never half there.
    """
    path = folder / f"{kernel}.json"
    devices = tuning.read(path)
    entries = dict(devices.get(device_name, {}))
    entries.pop(key, None)
    if configuration is not None:
        entries[key] = dict(configuration)
    devices = {**devices, device_name: entries}
    text = json.dumps({name: of_device for name, of_device in devices.items() if of_device}, indent=2, sort_keys=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text + "\n", encoding="utf-8")
    os.replace(temporary, path)
