"""The folder of an experiment: its settings, and a line of JSON for each job that is done."""

import json
import os
import shutil
from pathlib import Path

from bertkernels.analysis.claims import Claims
from bertkernels.data.cache import fingerprint
from bertkernels.errors import InputError
from bertkernels.processes.file_lock import cut_torn_line, file_lock
from bertkernels.training.differences import differences
from bertkernels.training.results_file import write_json

SETTINGS, LINES, PREDICTIONS = "settings.json", "results.jsonl", "predictions"
_LOCK, _CLAIMS = ".lock", ".claims"


class Results:
    """Any number of processes may add to one folder.

    Args:
        settings: what makes results comparable, as plain data; kept in the folder, and compared by everybody who joins.

    Raises:
        InputError: the folder is something else's, or was begun with other settings; they are listed.
    """

    def __init__(self, folder: Path, settings: dict) -> None:
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        self.hash = fingerprint(self.settings)
        with file_lock(folder / _LOCK):
            known = read_settings(folder)
            if known is None:
                write_json(folder / SETTINGS, self.settings)
        changes = list(differences(known or self.settings, self.settings))
        if changes:
            listed = "".join(f"\n  {change}" for change in changes)
            raise InputError(
                f"{folder} was begun with other settings; go on with those, choose another --output_dir, or begin "
                f"anew with --overwrite_output_dir:{listed}"
            )
        self.claims = Claims(folder / _CLAIMS)

    def lines(self) -> list[dict]:
        """What is done, in the order in which it was."""
        return read_lines(self.folder)

    def done(self) -> set[str]:
        """The keys of the jobs that are done."""
        return {line["job"] for line in self.lines()}

    def add(self, line: dict) -> None:
        """Appends a line, which is there whole once this returns."""
        text = (json.dumps({"settings": self.hash, **line}, ensure_ascii=False) + "\n").encode()
        file = self.folder / LINES
        with file_lock(self.folder / _LOCK):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                cut_torn_line(file)
                os.write(descriptor, text)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        self.claims.close()


def check_folder(folder: Path) -> None:
    """Raises InputError for a folder that holds something else than an experiment."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output_dir {folder} is a file, expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / SETTINGS).is_file() and not _begun(folder):
        raise InputError(f"--output_dir {folder} is not empty and holds no experiment: choose another")


def clear_folder(folder: Path) -> None:
    """Removes an experiment's settings and results; other files stay."""
    for name in (LINES, SETTINGS):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / PREDICTIONS, ignore_errors=True)


def read_settings(folder: Path) -> dict | None:
    """The settings of the experiment in a folder, None where there is none."""
    file = folder / SETTINGS
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def read_lines(folder: Path) -> list[dict]:
    """The results in a folder; a last line that is not written to its end is none yet."""
    file = folder / LINES
    if not file.is_file():
        return []
    *whole, _ = file.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole]


def _begun(folder: Path) -> bool:
    """Whether another process is about to write the settings."""
    return {path.name for path in folder.iterdir()} <= {_LOCK, _CLAIMS}
