"""Files that several processes append lines to: locks that end with their process, and no half lines."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(file: Path) -> Iterator[None]:
    """One process at a time. The operating system drops the lock with the process that holds it, however it ends."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which unlocks


def cut_torn_line(file: Path) -> None:
    """Removes a last line that was not written to its end. The caller holds a lock; the file is there."""
    with open(file, "rb+") as lines:
        end = lines.seek(0, os.SEEK_END)
        if end == 0:
            return
        lines.seek(end - 1)
        if lines.read(1) == b"\n":
            return
        lines.seek(0)
        lines.truncate(lines.read().rfind(b"\n") + 1)
