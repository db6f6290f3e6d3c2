"""Optuna's journal in a file, locked so that a killed process leaves neither a lock nor half a line behind."""

from contextlib import ExitStack
from pathlib import Path

from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from bertkernels.processes.file_lock import cut_torn_line, file_lock


class _KernelLock:
    """A lock that the operating system drops with the process that holds it.

    Optuna's own are files, which others wait for half a minute where their owner was killed. Who takes the lock first
    cuts off a last line that was not written to its end.
    """

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._held = ExitStack()

    def acquire(self) -> bool:
        self._held.enter_context(file_lock(self._journal.with_suffix(".lock")))
        cut_torn_line(self._journal)
        return True

    def release(self) -> None:
        self._held.close()


def open_journal(file: Path) -> JournalStorage:
    """The storage in that file, which is made where it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return JournalStorage(JournalFileBackend(str(file), _KernelLock(file)))
