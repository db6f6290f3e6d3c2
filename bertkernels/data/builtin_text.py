"""Built-in text: the docstrings of the installed Python libraries, so that everything runs without a network.

About 18 MB of documentation in the standard library, torch, transformers and numpy, cleaned to English paragraphs.
It is collected once (some seconds), kept in the cache folder, and has the same order on every machine with the same
versions.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tqdm.auto import tqdm

import bertkernels
from bertkernels.cache_folder import cache_folder
from bertkernels.data.cache import cached, fingerprint
from bertkernels.errors import InputError

LIBRARIES = ("stdlib", "torch", "transformers", "numpy")
COLLECTOR_VERSION = 1  # raise it whenever the collected text changes
_SKIPPED_FOLDERS = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "lib-dynload"}


@dataclass(frozen=True)
class SourceText:
    """The cleaned documentation of one source file: paragraphs of sentences, in the file's order."""

    library: str
    file: str  # relative to the library's folder, with forward slashes
    paragraphs: list[list[str]]


def builtin_text() -> list[SourceText]:
    """All built-in text, ordered by library, file and line; every paragraph occurs once. Collected on first use."""
    with open(builtin_text_file(), encoding="utf-8") as file:
        return [SourceText(**json.loads(line)) for line in file]


def builtin_text_file() -> Path:
    """The file that keeps the built-in text, a JSON line for each source file; it is made where it is not there."""
    return cached(cache_folder() / f"builtin-text-{builtin_fingerprint()}.jsonl", _collect)


def builtin_fingerprint() -> str:
    """Changes whenever the collected text may: with the versions of the libraries and of the collector."""
    versions = {library: _version(library) for library in LIBRARIES}
    return fingerprint({"collector": COLLECTOR_VERSION, "versions": versions})


def _version(library: str) -> str | None:
    if library == "stdlib":
        return platform.python_version()
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _folder(library: str) -> Path | None:
    if library == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(library)
    return Path(spec.origin).parent if spec and spec.origin else None


def _source_files(folder: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED_FOLDERS]
        found += [Path(place, name) for name in files if name.endswith(".py")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _collect(target: Path) -> None:
    files = []
    for library in LIBRARIES:
        folder = _folder(library)
        if folder is not None and folder.is_dir():
            files += [(library, path.relative_to(folder).as_posix(), path) for path in _source_files(folder)]
    seen: set[str] = set()
    with open(target, "w", encoding="utf-8") as output, tqdm(total=len(files), desc="built-in text") as progress:
        for (library, name, _), found in zip(files, _read_all([path for _, _, path in files], target), strict=True):
            progress.update()
            fresh = []
            for paragraph in found:
                text = " ".join(paragraph)
                if text not in seen:
                    seen.add(text)
                    fresh.append(paragraph)
            if fresh:
                output.write(json.dumps({"library": library, "file": name, "paragraphs": fresh}) + "\n")
    if not seen:
        raise InputError("no built-in text: no library's source files (.py) were found on this machine")


def _read_all(paths: list[Path], target: Path) -> Iterator[list[list[str]]]:
    """What `read_docstrings` makes of each file, in order; the files are dealt out in turn to one process a core."""
    count = min(8, os.cpu_count() or 1)
    # The workers find this package as this process did. (Not multiprocessing: a fork of a process that holds torch's
    # threads may deadlock, and a spawn runs the caller's own script again.)
    search_path = [str(Path(bertkernels.__file__).parents[1]), os.environ.get("PYTHONPATH")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, search_path))}
    workers = []
    try:
        for number in range(count):
            share = target.with_suffix(f".files-{number}.json")
            share.write_text(json.dumps([str(path) for path in paths[number::count]]), encoding="utf-8")
            command = [sys.executable, "-m", "bertkernels.data.read_docstrings", str(share)]
            workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment))
        for number in range(len(paths)):
            worker = workers[number % count]
            line = worker.stdout.readline()
            if not line:
                raise RuntimeError(f"reading docstrings stopped at {paths[number]} (exit code {worker.wait()})")
            yield json.loads(line)
    finally:
        for worker in workers:
            worker.kill()
            worker.stdout.close()
            worker.wait()
