"""Python processes of tests' own, forked from one that has imported what takes seconds.

What such a process is to do comes as code, as for `python -c`: it finds its arguments in sys.argv and the test's
environment in its own. One thread each. Launchers (torchrun, accelerate) start processes of their own and are no matter
of this module.
"""

import multiprocessing
import multiprocessing.connection
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "bertkernels.cli.main",
        "bertkernels.training.pretrain",
        "bertkernels.training.finetune",
        "bertkernels.training.distill",
        "bertkernels.training.theseus.run",
        "bertkernels.search.layer_search",
        "bertkernels.search.ffn_search",
    ]
)

_LEFT_ALONE = 30  # seconds that a process has to see that the other has failed


@dataclass(frozen=True)
class Ended:
    """How a process ended: exit code, or minus the number of the signal; and what it wrote."""

    returncode: int
    stdout: str
    stderr: str


class Started:
    """A process that runs, in a session of its own, with both outputs in one file; as `subprocess.Popen`."""

    def __init__(self, code: str, arguments: Sequence[str], environment: Mapping[str, str], output: Path):
        self._output = output
        self._process = _CONTEXT.Process(target=_main, args=(code, list(arguments), dict(environment), output, output))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        assert self.wait(timeout) is not None, f"it still runs: {self._output.read_text()[-3000:]}"
        return self._output.read_text(), None


def run(code: str, arguments: Sequence[str] = (), timeout: float = 300) -> Ended:
    """Runs one process to its end."""
    return _run([code], arguments, [{}], timeout)[0]


def run_two(code: str, arguments: Sequence[str] = (), timeout: float = 300) -> list[Ended]:
    """Runs two that find in their environment what torchrun gives its own; where one fails, the other is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return _run([code] * 2, arguments, [common | {"RANK": rank, "LOCAL_RANK": rank} for rank in "01"], timeout)


def _run(codes: list[str], arguments: Sequence[str], variables: list[dict[str, str]], timeout: float) -> list[Ended]:
    with TemporaryDirectory() as folder:
        outputs = [(Path(folder, f"{i}.out"), Path(folder, f"{i}.err")) for i in range(len(codes))]
        processes = [
            _CONTEXT.Process(target=_main, args=(code, list(arguments), dict(os.environ) | given, *files))
            for code, given, files in zip(codes, variables, outputs, strict=True)
        ]
        for process in processes:
            process.start()
        deadline = time.monotonic() + timeout
        while running := [process.sentinel for process in processes if process.exitcode is None]:
            if any(process.exitcode for process in processes):
                deadline = min(deadline, time.monotonic() + _LEFT_ALONE)
            if time.monotonic() > deadline:
                for process in processes:
                    process.kill()
            multiprocessing.connection.wait(running, timeout=1)
        written = [[file.read_text() if file.exists() else "" for file in files] for files in outputs]
        return [Ended(process.exitcode, *texts) for process, texts in zip(processes, written, strict=True)]


def _main(code: str, arguments: list[str], environment: dict[str, str], out: Path, err: Path) -> None:
    os.setsid()
    for file, descriptor in ((out, 1), (err, 2)):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.environ.clear()
    os.environ.update(environment | {"OMP_NUM_THREADS": "1"})
    import torch

    torch.set_num_threads(1)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<test>", "exec"), {"__name__": "__main__"})
