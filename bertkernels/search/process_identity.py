"""Which process does an evaluation, so that others can tell whether it still lives."""

import os
import socket
from functools import cache
from pathlib import Path


def this_process() -> dict:
    """Machine, process and the time the process began, which tells it from a later one of the same number."""
    return {"machine": _machine(), "pid": os.getpid(), "began": _began(os.getpid())}


def is_gone(worker: dict) -> bool | None:
    """Whether that process has ended; None where this cannot be seen from here."""
    if worker["machine"] != _machine():
        return None
    began = _began(worker["pid"])
    if began is not None:
        return began != worker["began"]
    try:
        os.kill(worker["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return None


@cache
def _machine() -> str:
    """Names what shares process numbers: a host since its start, or a container on it."""
    parts = [socket.gethostname()]
    for path, read in (("/proc/sys/kernel/random/boot_id", Path.read_text), ("/proc/self/ns/pid", os.readlink)):
        try:
            parts.append(read(Path(path)).strip())
        except OSError:
            continue
    return " ".join(parts)


def _began(pid: int) -> str | None:
    """The 22nd field of /proc/PID/stat; zombies count as ended. None where there is no such file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # from the 3rd on: names may hold anything
    return "ended" if fields[0] in "ZX" else fields[19]
