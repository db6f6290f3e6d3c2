"""What the compiler says of the CUDA kernels: registers, shared memory, spills, for each GPU target. Needs no GPU.

python benchmarks/static_cuda.py     compiles csrc/cuda/*.cu and writes benchmarks/results/static_cuda.jsonl
"""

import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import static_table
from static_table import ROOT, TARGETS, Row


def find_nvcc() -> str | None:
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def compiler(nvcc: str) -> str:
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    return "nvcc " + re.search(r"\bV([\d.]+)", text)[1]


def sources() -> list[Path]:
    """One an op, named after it."""
    return sorted(ROOT.glob("csrc/cuda/*.cu"))


def compile_all(nvcc: str, jobs: int = 2) -> list[Row]:
    """Compiles every source for every target, as setup.py does: the table's rows.

    Raises:
        subprocess.CalledProcessError: a source does not compile; `stderr` says why.
    """
    tasks = [(nvcc, source, target) for source in sources() for target in TARGETS]
    with ThreadPoolExecutor(jobs) as pool:
        rows = [row for rows in pool.map(lambda task: _compile(*task), tasks) for row in rows]
    return sorted(rows, key=lambda row: (row["op"], row["kernel"], row["target"]))


def _compile(nvcc: str, source: Path, target: int) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        arch = ["-gencode", f"arch=compute_{target},code=sm_{target}", "-cubin", "-o", f"{folder}/out.cubin"]
        options = ["-std=c++17", "-O3", f"-I{ROOT / 'csrc'}", "-Xptxas", "-v"]
        command = [nvcc, *options, *arch, str(source)]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    made_with = {"compiler": compiler(nvcc), "source": static_table.source_digest(source)}
    return [{"op": source.stem, **row, **made_with} for row in parse(report)]


def parse(report: str) -> list[Row]:
    """The kernels in what `nvcc -Xptxas -v` prints."""
    demangled = subprocess.run(["c++filt"], input=report, capture_output=True, text=True, check=True).stdout
    rows = []
    for part in demangled.split("Compiling entry function ")[1:]:
        name, target = re.match(r"'(.*)' for 'sm_(\d+)", part).groups()
        name = re.sub(r"^void |bertkernels::|\(anonymous namespace\)::", "", name)
        name = re.sub(r"\([^()]*\)$", "", name)  # the arguments
        memory = r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        stack, stores, loads = map(int, re.search(memory, part).groups())
        used = re.search(r"Used (\d+) registers.*", part)
        shared = re.search(r"(\d+) bytes smem", used[0])
        rows.append(
            {
                "kernel": name,
                "target": int(target),
                "registers": int(used[1]),
                "shared_bytes": int(shared[1]) if shared else 0,
                "stack_bytes": stack,
                "spill_bytes": stores + loads,
            }
        )
    return rows


def main() -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        sys.exit("nvcc not found (install the CUDA toolkit or put nvcc on PATH)")
    try:
        static_table.write(static_table.CUDA, compile_all(nvcc))
    except subprocess.CalledProcessError as error:
        sys.exit(error.stderr)


if __name__ == "__main__":
    main()
