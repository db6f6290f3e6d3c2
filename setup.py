"""Builds bertkernels._C with ninja: g++ once per instruction set for csrc/cpu, nvcc for csrc/cuda where it is there.

The extension knows nothing of torch, so nothing but a compiler, pybind11 and ninja takes part.

    BERTKERNELS_BUILD=auto|cpu|cuda|none   auto (default) builds what the machine has compilers for; cpu and cuda insist
    BERTKERNELS_CUDA_ARCHS="80;90;100"     GPU targets; the last one also as PTX for newer GPUs
    BERTKERNELS_SANITIZE="address,undefined"   build the CPU code with these sanitizers of the compiler's
    CXX, NVCC, MAX_JOBS                    compilers and parallel jobs
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
CPU_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-Wall"]
X86_ISAS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "avx512": [
        *("-mavx2", "-mfma", "-mf16c", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"),
        "-mprefer-vector-width=512",
    ],
}


class BuildError(Exception):
    """The build cannot be done as asked; the message says what is missing and how to get it."""


def find_compiler() -> str:
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if shutil.which(name.split()[0]):
            return name
    raise BuildError("no C++ compiler found (Debian: apt-get install g++; or set CXX)")


def find_nvcc() -> str:
    candidates = [os.environ.get("NVCC"), shutil.which("nvcc")]
    candidates += [str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "nvcc")]
    for path in filter(None, candidates):
        if os.access(path, os.X_OK):
            return path
    raise BuildError("nvcc not found (install the CUDA toolkit, or set NVCC or CUDA_HOME)")


def cuda_archs(nvcc: str) -> list[str]:
    listed = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout.split()
    known = {name.removeprefix("compute_") for name in listed}
    asked = os.environ.get("BERTKERNELS_CUDA_ARCHS")
    if asked is None:
        return [arch for arch in ("80", "90", "100") if arch in known]
    archs = [arch.replace(".", "") for arch in asked.replace(",", ";").replace(" ", ";").split(";") if arch]
    unknown = [arch for arch in archs if arch.rstrip("a") not in known and arch not in known]
    if unknown or not archs:
        raise BuildError(f"BERTKERNELS_CUDA_ARCHS={asked!r}: this nvcc knows {', '.join(sorted(known, key=int))}")
    return archs


class NinjaBuild(build_ext):
    """Writes build.ninja and runs it: parallel, and only what changed."""

    def build_extension(self, ext: Extension) -> None:
        mode = os.environ.get("BERTKERNELS_BUILD", "auto")
        if mode not in ("auto", "cpu", "cuda", "none"):
            raise SystemExit(f"BERTKERNELS_BUILD={mode!r}: expected auto, cpu, cuda or none")
        if mode == "none":
            return self.say("BERTKERNELS_BUILD=none: nothing compiled; ops run on Triton or on the torch reference")
        try:
            compiler = find_compiler()
            nvcc = self.nvcc(mode)
            self.compile(ext, compiler, nvcc)
        except BuildError as error:
            if mode != "auto":
                raise SystemExit(f"bertkernels: {error}") from error
            self.say(f"compiled kernels left out: {error}; ops run on Triton or on the torch reference meanwhile")

    def nvcc(self, mode: str) -> str | None:
        if mode == "cpu" or not list(ROOT.glob("csrc/cuda/*.cu")):
            return None
        try:
            return find_nvcc()
        except BuildError as error:
            if mode == "cuda":
                raise
            self.say(f"CUDA kernels left out: {error}")
            return None

    def compile(self, ext: Extension, compiler: str, nvcc: str | None) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = (ROOT / self.build_temp / "bertkernels").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "build.ninja").write_text(ninja_file(target, compiler, nvcc))
        command = [ninja_program(), "-C", str(folder)]
        if os.environ.get("MAX_JOBS"):
            command += ["-j", os.environ["MAX_JOBS"]]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.say(result.stdout[-4000:])
        if result.returncode:
            raise BuildError("the compiler failed, its output stands above")

    def say(self, text: str) -> None:
        print(f"bertkernels: {text}", file=sys.stderr, flush=True)

    def get_outputs(self) -> list[str]:
        return [path for path in super().get_outputs() if os.path.exists(path)]


def ninja_program() -> str:
    try:
        import ninja
    except ImportError:
        path = shutil.which("ninja")
        if path is None:
            raise BuildError("ninja not found (pip install ninja)") from None
        return path
    return str(Path(ninja.BIN_DIR) / "ninja")


def openmp_flags(compiler: str) -> list[str]:
    """-fopenmp where the compiler has it (Apple's has not: there the kernels run on one thread)."""
    probe = subprocess.run(
        [*compiler.split(), "-fopenmp", "-x", "c++", "-", "-o", os.devnull],
        input="#include <omp.h>\nint main() { return omp_get_max_threads() == 0; }",
        capture_output=True,
        text=True,
    )
    return ["-fopenmp"] if probe.returncode == 0 else []


def sanitizer_flags() -> list[str]:
    """Whatever a sanitizer finds ends the process: a report that nobody reads finds nothing."""
    names = os.environ.get("BERTKERNELS_SANITIZE")
    return [f"-fsanitize={names}", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-g1"] if names else []


def ninja_file(target: Path, compiler: str, nvcc: str | None) -> str:
    import pybind11

    x86 = platform.machine().lower() in ("x86_64", "amd64")
    isas = X86_ISAS if x86 else {"baseline": []}
    openmp = openmp_flags(compiler)
    includes = [f"-I{sysconfig.get_paths()['include']}", f"-I{pybind11.get_include()}", f"-I{ROOT / 'csrc'}"]
    archs = cuda_archs(nvcc) if nvcc else []
    defines = ["-DBERTKERNELS_X86"] if x86 else []
    defines += ["-DBERTKERNELS_WITH_CUDA", f"-DBERTKERNELS_CUDA_ARCHS={','.join(archs)}"] if nvcc else []
    sanitize = sanitizer_flags()
    flags = " ".join([*CPU_FLAGS, *openmp, *includes, *defines, *sanitize])
    gencode = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in archs]
    gencode += [f"-gencode=arch=compute_{archs[-1]},code=compute_{archs[-1]}"] if archs else []

    command = f"{compiler} -MMD -MF $out.d {flags} $isa -c $in -o $out"
    lines = ["ninja_required_version = 1.5", f"rule cxx\n  command = {command}\n  depfile = $out.d\n  deps = gcc"]
    objects = []

    def compile_step(rule: str, source: Path, output: str, **variables: str) -> None:
        lines.append(f"build {output}: {rule} {ninja_path(source)}")
        lines.extend(f"  {name} = {value}" for name, value in variables.items())
        objects.append(output)

    # each in its own namespace, see csrc/cpu/isa.h
    per_isa = [path for path in sorted(ROOT.glob("csrc/cpu/*.cpp")) if path.name != "isa.cpp"]
    for isa, isa_flags in isas.items():
        for source in per_isa:
            options = " ".join([f"-DBERTKERNELS_ISA={isa}", *isa_flags])
            compile_step("cxx", source, f"{source.stem}.{isa}.o", isa=options)
    for source in (ROOT / "csrc/cpu/isa.cpp", ROOT / "csrc/bindings.cpp"):
        compile_step("cxx", source, f"{source.stem}.o")

    link_flags = " ".join([*openmp, *sanitize])
    linker = compiler
    if nvcc:
        host = f"-std=c++17 -O3 --cudart static --threads 2 -ccbin {compiler.split()[0]} -I{ROOT / 'csrc'}"
        command = (
            f"{nvcc} {host} -Xcompiler -fPIC,-fvisibility=hidden {' '.join(gencode)} -MD -MF $out.d -c $in -o $out"
        )
        lines.append(f"rule nvcc\n  command = {command}\n  depfile = $out.d\n  deps = gcc")
        for source in sorted(ROOT.glob("csrc/cuda/*.cu")):
            compile_step("nvcc", source, f"{source.stem}.cu.o")
        linker = f"{nvcc} --cudart static -ccbin {compiler.split()[0]}"
        link_flags = " ".join(f"-Xcompiler {flag}" for flag in [*openmp, *sanitize])
    elif sys.platform == "darwin":
        link_flags += " -undefined dynamic_lookup"
    lines.append(f"rule link\n  command = {linker} -shared $in -o $out {link_flags}")
    lines.append(f"build {ninja_path(target)}: link {' '.join(objects)}")
    lines.append(f"default {ninja_path(target)}")
    return "\n".join(lines) + "\n"


def ninja_path(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def packages() -> list[str]:
    """bertkernels and its sub-packages; kernels/ and models/ go inside it: they must not be importable at top level."""
    found = ["bertkernels"]
    for parent, folder in (
        ("bertkernels", "bertkernels"),
        ("bertkernels.kernels", "kernels"),
        ("bertkernels.models", "models"),
    ):
        if parent != "bertkernels":
            found.append(parent)
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_dir() and any(path.glob("*.py")):
                found.append(".".join([parent, *path.relative_to(ROOT / folder).parts]))
    return found


setup(
    packages=packages(),
    package_dir={"bertkernels.kernels": "kernels", "bertkernels.models": "models"},
    package_data={"bertkernels.kernels": ["tuned/*.json"]},
    ext_modules=[Extension("bertkernels._C", sources=[], optional=True)],
    cmdclass={"build_ext": NinjaBuild},
)
