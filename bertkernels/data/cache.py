"""The folder where collected text, trained vocabularies and tokenised examples are kept between runs."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


def fingerprint(facts: object) -> str:
    """16 hexadecimal digits of everything that shaped a cached result; `facts` must be plain JSON data."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def cached(target: Path, build: Callable[[Path], None]) -> Path:
    """Returns `target` (a file or folder), built once.

    `build(path)` writes to a temporary name beside it, which is then renamed: a run that is cut short leaves nothing
    half-written under the final name, and of several processes that build at once the first to finish wins.
    """
    if target.exists():
        return target
    with _staging(target) as folder:
        made = folder / target.name
        build(made)
        try:
            os.rename(made, target)
        except OSError:
            if not target.exists():
                raise
    return target
