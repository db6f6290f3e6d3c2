"""Who does which job, among processes that have a file in common."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Claims:
    """Claims of jobs in a file, each a lock on one byte of it, whose place is the job's key.

    The operating system drops a claim with the process that holds it, however that ends: there is nobody to bury. The
    locks are the process's: one `Claims` of a file in each process, since a second would take the first one's away.
    """

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether the job is this process's while the context lasts; False where it is another's.

        Args:
            key: hexadecimal digits.
        """
        place = int(key[:15], 16)  # files may be 2⁶³ bytes long; none of these is ever written
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            yield False
            return
        try:
            yield True
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, place)

    def close(self) -> None:
        """Drops all claims."""
        os.close(self._file)
