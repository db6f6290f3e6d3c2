"""The worker processes of one machine."""

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait

from bertkernels.errors import OutputError
from bertkernels.processes.share import share, threads_each

# (torch's threads of the process, a pipe that closes when the command ends, however it ends; so does the worker then)
Main = Callable[[int, Connection], None]
_MOST_DEATHS = 3  # in a row, without anything done in between


class Workers:
    """Starts so many workers with a share of the threads each, and others in place of those that are killed.

    `with Workers(...) as workers:` ends them on leaving. They end by themselves when this process does.
    """

    def __init__(self, count: int, main: Main, name: str) -> None:
        """`main`: the main function of a worker's process; can be pickled. `name`: what a worker is called."""
        self._count, self._main, self._name = count, main, name
        self._context = multiprocessing.get_context("spawn")
        self._processes: list = []
        self._deaths, self._done_then = 0, 0

    def __enter__(self) -> "Workers":
        # workers hold the other end alone, so that it closes with this process
        self._theirs, self._ours = self._context.Pipe(duplex=False)
        self._processes = [self._start(number) for number in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()
        self._ours.close()
        self._theirs.close()

    def _start(self, number: int):
        process = self._context.Process(
            target=self._main,
            args=(threads_each(self._count), self._theirs),
            name=f"{self._name} {number}",
        )
        with share(number, self._count):
            process.start()
        return process

    def running(self, done: int) -> bool:
        """Whether any worker still works; those that were killed get a successor.

        Args:
            done: how much is done so far, by which it is seen whether successors fare better.

        Raises:
            OutputError: workers die one after the other without getting anything done.
        """
        for number, process in enumerate(self._processes):
            if process.exitcode in (None, 0):
                continue
            if done > self._done_then:
                self._deaths, self._done_then = 0, done
            self._deaths += 1
            how = f"signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
            if self._deaths >= _MOST_DEATHS + self._count:
                raise OutputError(f"{process.name} ended with {how}, the last of {self._deaths} in a row")
            print(f"{process.name} ended with {how}; another takes its place", flush=True)
            self._processes[number] = self._start(number)
        return any(process.exitcode is None for process in self._processes)

    def wait(self, seconds: float) -> None:
        """Sleeps, shorter where a worker ends meanwhile."""
        alive = [process.sentinel for process in self._processes if process.exitcode is None]
        if alive:
            wait(alive, timeout=seconds)
        else:
            time.sleep(seconds)
