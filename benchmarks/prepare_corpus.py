"""Time and memory of `bertkernels prepare` on a large synthetic text, by the number of processes. Linux only.

python benchmarks/prepare_corpus.py --vocab_file vocab.txt [--megabytes 1000] [--workers 1 2] [--packing electra]

The text is made of the vocabulary's words and of pairs of them, frequent ones and rare ones as in a language. Memory is
that of all processes together (resident, with what they share counted in each), looked at twenty times a second.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

_ROOT = Path(__file__).resolve().parents[1]
_BLOCK_WORDS = 200_000
_RANKS = 2_000_000  # distinct words
_PAGE = os.sysconf("SC_PAGE_SIZE")


def write_text(path: Path, vocab_file: Path, megabytes: float, seed: int = 0) -> None:
    """Documents of 20 sentences or so, of 25 words or so."""
    tokens = vocab_file.read_text(encoding="utf-8").split("\n")
    words = [token for token in tokens if token.isascii() and token.isalpha()]
    generator = np.random.default_rng(seed)
    left = int(megabytes * 1e6)
    with open(path, "w", encoding="ascii") as file:
        while left > 0:
            ranks = generator.zipf(1.2, _BLOCK_WORDS) % _RANKS
            block = [_word(words, rank) for rank in ranks.tolist()]
            ends = np.cumsum(generator.integers(5, 46, _BLOCK_WORDS // 25))
            starts = [0, *ends[ends < _BLOCK_WORDS].tolist()]
            sentences = [" ".join(block[a:b]) for a, b in zip(starts, starts[1:], strict=False)]
            text = "\n".join(
                sentence + ("\n" if last else "")
                for sentence, last in zip(sentences, generator.random(len(sentences)) < 0.05, strict=True)
            )
            file.write(f"{text}\n")
            left -= len(text) + 1


def _word(words: list[str], rank: int) -> str:
    first, second = rank % len(words), rank // len(words)
    return words[first] + words[second % len(words)] if second else words[first]


def measure(command: list[str]) -> tuple[float, int]:
    """Seconds that a command takes, and the most memory that it and its processes have at a time, in bytes."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))}
    start, peak = time.monotonic(), 0
    process = subprocess.Popen(command, env=environment)
    while process.poll() is None:
        peak = max(peak, sum(map(_resident, _family(process.pid))))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.monotonic() - start, peak


def _family(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue  # it has ended meanwhile
    family = [root]
    for parent in family:
        family += [child for child, its in parents.items() if its == parent]
    return family


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--vocab_file", type=Path, required=True)
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--packing", default="electra")
    parser.add_argument("--folder", type=Path, help="where there is room for text and examples (default: temporary)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        text, digests = Path(folder, "text.txt"), set()
        write_text(text, arguments.vocab_file, arguments.megabytes)
        size = text.stat().st_size
        for workers in arguments.workers:
            out = Path(folder, f"out{workers}")
            command = [sys.executable, "-m", "bertkernels", "prepare", "--train_file", str(text)]
            command += ["--vocab_file", str(arguments.vocab_file), "--packing", arguments.packing]
            command += ["--num_workers", str(workers), "--output_dir", str(out)]
            seconds, peak = measure(command)
            digests.add(_digest(out))
            print(
                f"{workers} workers: {size / 1e6:,.0f} MB of text in {seconds:.1f} s, {size / 1e6 / seconds:.1f} MB/s, "
                f"at most {peak / 1e6:,.0f} MB of memory",
                flush=True,
            )
            shutil.rmtree(out)
        print("the same examples whoever made them" if len(digests) == 1 else "EXAMPLES DIFFER")


if __name__ == "__main__":
    main()
