"""What the compiler says of the CUDA kernels, for each GPU target (`static_table`). Needs no GPU.

python benchmarks/static_cuda.py    writes benchmarks/results/static_cuda.jsonl, compiling what has changed since
"""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import static_cubin
import static_table
from static_table import ROOT, TARGETS, Row


def find_nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


@functools.cache
def compiler(nvcc: str) -> str:
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return "nvcc " + re.search(r"\bV([\d.]+)", text)[1]


def sources() -> list[Path]:
    """One an op, named after it."""
    return sorted(ROOT.glob("csrc/cuda/*.cu"))


def source_digest(source: Path) -> str:
    return static_table.source_digest(source, *(ROOT / file for file in static_table.READ_WITH))


def compile_all(nvcc: str, known: Iterable[Row] = ()) -> list[Row]:
    """Compiles every source for every target, as setup.py does, but for those whose lines are `known`: the table.

    Raises:
        subprocess.CalledProcessError: a source does not compile; `stderr` says why.
    """
    rows, missing = [], []
    for source in sources():
        made_with = {"compiler": compiler(nvcc), "source": source_digest(source)}
        for target in TARGETS:
            case = {"op": source.stem, "target": target, **made_with}
            found = [row for row in known if case.items() <= row.items()]
            rows += found
            if not found:
                missing.append((source, target, made_with))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for source_rows in pool.map(lambda task: _compile(nvcc, *task), missing):
            rows += source_rows
    return sorted(rows, key=lambda row: (row["op"], row["kernel"], row["target"]))


def _compile(nvcc: str, source: Path, target: int, made_with: Row) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "out.cubin"
        arch = ["-gencode", f"arch=compute_{target},code=sm_{target}", "-cubin", "-o", cubin]
        options = ["-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", "-Xptxas", "-v"]
        report = subprocess.run([nvcc, *options, *arch, source], capture_output=True, text=True, check=True).stderr
        kernels = static_cubin.read(cubin.read_bytes())
    shared, names = parse_shared(report), demangled(kernels)
    return [
        {
            "op": source.stem,
            "kernel": names[mangled],
            "target": target,
            **static_table.figures(target, kernel, shared[mangled]),
            **made_with,
        }
        for mangled, kernel in kernels.items()
    ]


def parse_shared(report: str) -> dict[str, int]:
    """Bytes of shared memory of each kernel in what `nvcc -Xptxas -v` prints."""
    found = {}
    for part in report.split("Compiling entry function ")[1:]:
        (used,) = re.findall(r"Used \d+ registers.*", part)
        shared = re.search(r"(\d+) bytes smem", used)
        found[re.match(r"'(\S+)'", part)[1]] = int(shared[1]) if shared else 0
    return found


def demangled(names: Iterable[str]) -> dict[str, str]:
    """Kernels' names as they stand in the source, with template arguments: "convolve<float, 9>"."""
    names = list(names)
    text = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout
    short = re.sub(r"^void |bertkernels::|\(anonymous namespace\)::", "", text, flags=re.MULTILINE)
    short = re.sub(r"\([^()]*\)$", "", short, flags=re.MULTILINE)  # the arguments
    return dict(zip(names, short.splitlines(), strict=True))


def main() -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("nvcc not found (install the CUDA toolkit or put nvcc on PATH)")
    try:
        static_table.write(static_table.CUDA, compile_all(nvcc, static_table.read(static_table.CUDA)))
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr)


if __name__ == "__main__":
    main()
