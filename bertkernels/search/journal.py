"""Optuna's journal in a file, locked so that a killed process leaves neither a lock nor half a line behind."""

import fcntl
import os
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


class _KernelLock:
    """A lock that the operating system drops with the process that holds it.

    Optuna's own are files, which others wait for half a minute where their owner was killed. Who takes the lock first
    cuts off a last line that was not written to its end.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._file: int | None = None

    def acquire(self) -> bool:
        descriptor = os.open(self._journal.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._file = descriptor
        _cut_torn_line(self._journal)
        return True

    def release(self) -> None:
        descriptor, self._file = self._file, None
        os.close(descriptor)  # which unlocks


def open_journal(file: Path) -> JournalStorage:
    """The storage in that file, which is made where it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(file), _KernelLock(file)))


def _cut_torn_line(journal: Path) -> None:
    with open(journal, "rb+") as file:
        end = file.seek(0, os.SEEK_END)
        if end == 0:
            return
        file.seek(end - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
