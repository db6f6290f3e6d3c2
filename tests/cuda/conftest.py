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


class EmulatedLightConv:
    """The functions that the extension has for CUDA, with the same arguments, on CPU memory."""

    def __init__(self, library: ctypes.CDLL):
        self._library = library
        library.forward.restype = library.backward.restype = ctypes.c_char_p

    def forward(self, shape, values, logits, out, stream):
        self._call(self._library.forward, shape, values, logits, out)

    def backward(self, shape, grad, values, logits, d_values, d_logits, stream):
        self._call(self._library.backward, shape, grad, values, logits, d_values, d_logits)

    def run_backwards(self, yes: bool) -> None:
        """Whether blocks and threads run last to first."""
        self._library.run_backwards(int(yes))

    def fail_next_launch(self) -> None:
        self._library.fail_next_launch()

    @staticmethod
    def _call(function, shape, *operands):
        packed = shape[6] != 0
        rows = [(x[0], 0, *x[1:]) if packed else x for x in operands]
        arrays = [(ctypes.c_int64 * len(row))(*(int(number) for number in row)) for row in (shape, *rows)]
        message = function(*arrays).decode()
        if message:
            raise RuntimeError(message)


@pytest.fixture(scope="session")
def emulated_light_conv(tmp_path_factory) -> EmulatedLightConv:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the emulation needs g++")
    folder = tmp_path_factory.mktemp("emulation")
    options = ["-std=c++17", "-O1", "-fPIC", "-fno-strict-aliasing", "-ffp-contract=off", "-DBERTKERNELS_MAX_BLOCKS=24"]
    includes = [f"-I{EMULATION}", f"-I{ROOT / 'csrc'}"]
    for name, checks in (("light_conv", [CHECKS]), ("sanitizer", [])):
        source, target = EMULATION / f"{name}.cpp", folder / f"{name}.o"
        command = [compiler, *options, *checks, *includes, "-c", str(source), "-o", str(target)]
        subprocess.run(command, check=True)
    library = folder / "emulation.so"
    subprocess.run([compiler, "-shared", *map(str, folder.glob("*.o")), "-o", str(library)], check=True)
    return EmulatedLightConv(ctypes.CDLL(str(library)))
