"""What the compiler says of the CUDA kernels: registers, shared memory, spills, for each GPU target. Needs no GPU.

python benchmarks/static_cuda.py            compiles csrc/cuda/*.cu and prints the table
python benchmarks/static_cuda.py --write    and writes it to benchmarks/static/cuda.tsv
"""

import argparse
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "static" / "cuda.tsv"
ARCHS = ("80", "90", "100")


@dataclass(frozen=True, order=True)
class Resources:
    """One kernel on one target; sizes in bytes, registers a thread, shared memory a block."""

    kernel: str
    arch: str
    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


def find_nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def nvcc_release(nvcc: str) -> str:
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return re.search(r"\bV([\d.]+)", text)[1]


def compile_all(nvcc: str, jobs: int = 2) -> list[Resources]:
    """Compiles every source for every target, as setup.py does, and returns what ptxas reports.

    Raises:
        subprocess.CalledProcessError: a source does not compile; `stderr` says why.
    """
    tasks = [(nvcc, source, arch) for source in sorted(ROOT.glob("csrc/cuda/*.cu")) for arch in ARCHS]
    with ThreadPoolExecutor(jobs) as pool:
        return sorted(row for rows in pool.map(lambda task: _compile(*task), tasks) for row in rows)


def _compile(nvcc: str, source: Path, arch: str) -> list[Resources]:
    with tempfile.TemporaryDirectory() as folder:
        target = ["-gencode", f"arch=compute_{arch},code=sm_{arch}", "-cubin", "-o", f"{folder}/out.cubin"]
        options = ["-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", "-Xptxas", "-v"]
        command = [nvcc, *options, *target, str(source)]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    return parse(report)


def parse(report: str) -> list[Resources]:
    """The kernels in what `nvcc -Xptxas -v` prints."""
    demangled = subprocess.run(["c++filt"], input=report, capture_output=True, text=True, check=True).stdout
    rows = []
    for part in demangled.split("Compiling entry function ")[1:]:
        name, arch = re.match(r"'(.*)' for 'sm_(\w+)'", part).groups()
        name = re.sub(r"^void |bertkernels::|\(anonymous namespace\)::|\([^()]*\)$", "", name)
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        ).groups()
        used = re.search(r"Used (\d+) registers.*", part)
        shared = re.search(r"(\d+) bytes smem", used[0])
        sizes = (used[1], shared[1] if shared else 0, stack, stores, loads)
        rows.append(Resources(name, arch, *(int(size) for size in sizes)))
    return rows


def read_table() -> tuple[str, list[Resources]]:
    """The compiler release and the rows of the committed table."""
    release, _, *lines = TABLE.read_text().splitlines()
    cells = (line.split("\t") for line in lines)
    return release.removeprefix("# nvcc "), [Resources(*row[:2], *map(int, row[2:])) for row in cells]


def format_table(release: str, rows: list[Resources]) -> str:
    header = "\t".join(field.name for field in fields(Resources))
    return "\n".join([f"# nvcc {release}", header, *("\t".join(map(str, astuple(row))) for row in rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="also write the table to " + str(TABLE.relative_to(ROOT)))
    arguments = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        parser.error("nvcc not found (install the CUDA toolkit or put nvcc on PATH)")
    try:
        table = format_table(nvcc_release(nvcc), compile_all(nvcc))
    except subprocess.CalledProcessError as error:
        parser.exit(1, error.stderr)
    print(table, end="")
    if arguments.write:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(table)


if __name__ == "__main__":
    main()
