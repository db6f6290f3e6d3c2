"""The CUDA kernels run on the CPU: tests/cuda/emulation stands in for the GPU.

What this checks is arithmetic, indexing, alignment, barriers and what is read or written; neither speed nor a GPU's
memory model. On a GPU the tests of tests/ops run the real thing.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMULATION = ROOT / "tests" / "cuda" / "emulation"
CHECKS = "-fsanitize=bounds,alignment,signed-integer-overflow,shift"


class Emulated:
    """The functions that the extension has for one op and CUDA, with the same arguments, on CPU memory."""

    def __init__(self, library: ctypes.CDLL, op: str):
        self._library, self._op = library, op

    def forward(self, *arguments) -> None:
        self._run("forward", arguments)

    def backward(self, *arguments) -> None:
        self._run("backward", arguments)

    def count(self, name: str, shape: tuple[int, ...]) -> int:
        """What a function of the op's that counts something says of a shape."""
        function = self._library[f"{self._op}_{name}"]
        function.restype = ctypes.c_int64
        return function(_argument(shape))

    def run_backwards(self, yes: bool) -> None:
        """Whether blocks and threads run last to first."""
        self._library.run_backwards(int(yes))

    def fail_next_launch(self) -> None:
        self._library.fail_next_launch()

    def _run(self, name, arguments):
        function = self._library[f"{self._op}_{name}"]
        function.restype = ctypes.c_char_p
        *arguments, _stream = arguments
        message = function(*map(_argument, arguments)).decode()
        if message:
            raise RuntimeError(message)


def _argument(x: int | tuple[int, ...]):
    """An address as it is, numbers as an array of them."""
    return (ctypes.c_int64 * len(x))(*map(int, x)) if isinstance(x, tuple) else ctypes.c_void_p(x)


def build(op: str, folder: Path) -> Emulated:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the emulation needs g++")
    options = ["-std=c++17", "-O1", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off", "-DBERTKERNELS_MAX_BLOCKS=24"]
    includes = [f"-I{EMULATION}", f"-I{ROOT / 'csrc'}"]
    for name, checks in ((op, [CHECKS]), ("control", []), ("sanitizer", [])):
        source, target = EMULATION / f"{name}.cpp", folder / f"{name}.o"
        command = [compiler, *options, *checks, *includes, "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
    library = folder / f"{op}.so"
    subprocess.run([compiler, "-shared", *map(str, folder.glob("*.o")), "-o", str(library)], check=True)
    return Emulated(ctypes.CDLL(str(library)), op)


@pytest.fixture(scope="session")
def emulated_light_conv(tmp_path_factory) -> Emulated:
    return build("light_conv", tmp_path_factory.mktemp("light_conv"))


@pytest.fixture(scope="session")
def emulated_depthwise_conv(tmp_path_factory) -> Emulated:
    return build("depthwise_conv", tmp_path_factory.mktemp("depthwise_conv"))
