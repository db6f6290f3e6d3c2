"""Prepares pieces of text in processes of their own, which have nothing but that on their hands."""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import bertkernels
from bertkernels.data.prepared.job import Job
from bertkernels.errors import InputError

_JOB_FILE = "job.json"
_ERRORS = {"bad_text": InputError, "refused": OSError, "died": RuntimeError}


def prepare_pieces(
    job: Job, numbers: list[int], folder: Path, num_workers: int, report: Callable[[int], None]
) -> Iterator[tuple[int, dict[str, dict]]]:
    """(number, counts by split) of each piece, as they are done.

    One process at a time is not this one: among all that a command has in memory, torch and transformers, the garbage
    collector takes as long as the work.

    Raises InputError for bad text and OSError where shards cannot be written: for the first that cannot be done.
    """
    job_file = folder / _JOB_FILE
    job_file.write_text(job.to_json(), encoding="utf-8")
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in numbers:
        todo.put(number)
    done: queue.SimpleQueue[tuple[int, str, object]] = queue.SimpleQueue()
    workers = [_start(job_file, folder) for _ in range(min(num_workers, len(numbers)))]
    try:
        for worker in workers:
            threading.Thread(target=_serve, args=(worker, todo, done), daemon=True).start()
        left = len(numbers)
        while left:
            number, kind, value = done.get()
            if kind == "documents":
                report(value)
            elif kind == "counts":
                left -= 1
                yield number, value
            else:
                raise _ERRORS[kind](value)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _start(job_file: Path, folder: Path) -> subprocess.Popen:
    # The workers find this package as this process did. (Not multiprocessing: a fork of a process that holds torch's
    # threads may deadlock, and a spawn runs the caller's own script again.)
    search_path = [str(Path(bertkernels.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, search_path)),
        "TOKENIZERS_PARALLELISM": "false",  # one core a process
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "bertkernels.data.prepared.worker", str(job_file), str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", env=environment)


def _serve(worker: subprocess.Popen, todo: queue.SimpleQueue, done: queue.SimpleQueue) -> None:
    """Gives one worker pieces as long as there are any, and passes its answers on."""
    while True:
        try:
            number = todo.get_nowait()
        except queue.Empty:
            with contextlib.suppress(OSError):
                worker.stdin.close()
            return
        try:
            print(number, file=worker.stdin, flush=True)
            for line in worker.stdout:
                ((kind, value),) = json.loads(line).items()
                done.put((number, kind, value))
                if kind != "documents":
                    break
            else:
                done.put((number, "died", f"the process that prepared piece {number} ended (code {worker.wait()})"))
                return
        except OSError as error:
            done.put((number, "died", f"the process that prepared piece {number} ended ({error})"))
            return
