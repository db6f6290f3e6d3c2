"""Occupancy: cases worked out by hand, and NVIDIA's own calculator where its header is at hand."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def occupancy(import_benchmark):
    return import_benchmark("static_occupancy").occupancy


@pytest.mark.parametrize(
    "target, threads, registers, shared, columns, expected",
    [
        (80, 256, 32, 0, 0, (8, 64, ("registers", "warps"))),  # 8 warps of 1024 registers, eight times
        (90, 32, 24, 0, 0, (32, 32, ("blocks",))),
        (90, 1024, 32, 1024, 0, (2, 64, ("registers", "warps"))),
        (90, 128, 33, 0, 0, (12, 48, ("registers",))),  # 33 registers take the room of 40: 12 warps a quarter, not 15
        (90, 128, 40, 0, 0, (12, 48, ("registers",))),
        (90, 128, 255, 0, 0, (2, 8, ("registers",))),
        (90, 96, 168, 0, 0, (4, 12, ("registers",))),  # three warps a quarter, whichever block's
        (80, 128, 32, 81 * 1024, 0, (2, 8, ("shared memory",))),  # and 1 KB beside each: 164 KB
        (80, 128, 32, 81 * 1024 + 1, 0, (1, 4, ("shared memory",))),
        (90, 128, 32, 113 * 1024, 0, (2, 8, ("shared memory",))),  # 228 KB
        (90, 128, 32, 227 * 1024, 0, (1, 4, ("shared memory",))),
        (90, 128, 32, 228 * 1024, 0, (0, 0, ("shared memory",))),  # cannot be launched
        (100, 128, 64, 0, 128, (4, 16, ("tensor memory",))),
        (100, 128, 128, 0, 128, (4, 16, ("registers", "tensor memory"))),
        (100, 128, 64, 0, 512, (1, 4, ("tensor memory",))),
    ],
)
def test_worked_out_by_hand(occupancy, target, threads, registers, shared, columns, expected):
    assert occupancy(target, threads, registers, shared, columns) == expected


CALCULATOR = """
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include "cuda_occupancy.h"

int main() {
  int target, threads, registers, shared;
  while (std::scanf("%d %d %d %d", &target, &threads, &registers, &shared) == 4) {
    cudaOccDeviceProp device;
    device.computeMajor = target / 10;
    device.computeMinor = target % 10;
    device.maxThreadsPerBlock = 1024;
    device.maxThreadsPerMultiprocessor = 2048;
    device.regsPerBlock = device.regsPerMultiprocessor = 65536;
    device.warpSize = 32;
    device.numSms = 1;
    device.sharedMemPerBlock = 48 * 1024;
    device.sharedMemPerMultiprocessor = (target == 80 ? 164 : 228) * 1024;
    device.sharedMemPerBlockOptin = device.sharedMemPerMultiprocessor - 1024;
    device.reservedSharedMemPerBlock = 1024;
    cudaOccFuncAttributes kernel;
    std::memset(static_cast<void*>(&kernel), 0, sizeof kernel);
    kernel.maxThreadsPerBlock = 1024;
    kernel.numRegs = registers;
    kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
    kernel.maxDynamicSharedSizeBytes = device.sharedMemPerBlockOptin;
    cudaOccDeviceState state;
    state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
    cudaOccResult result;
    if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &device, &kernel, &state, threads, shared)) return 1;
    const unsigned factors = result.limitingFactors;
    std::printf("%d", result.activeBlocksPerMultiprocessor);
    if (factors & OCC_LIMIT_REGISTERS) std::printf(",registers");
    if (factors & OCC_LIMIT_SHARED_MEMORY) std::printf(",shared memory");
    if (factors & OCC_LIMIT_WARPS) std::printf(",warps");
    if (factors & OCC_LIMIT_BLOCKS) std::printf(",blocks");
    std::printf("\\n");
  }
}
"""


def header() -> Path | None:
    folders = [Path("/usr/local/cuda/include")]
    nvcc = shutil.which("nvcc")
    if nvcc:
        folders.insert(0, Path(nvcc).resolve().parents[1] / "include")
    return next((folder for folder in folders if (folder / "cuda_occupancy.h").is_file()), None)


def test_as_nvidias_calculator_has_it(occupancy, tmp_path):
    folder = header()
    if folder is None or shutil.which("g++") is None:
        pytest.skip("needs g++ and cuda_occupancy.h of the CUDA toolkit")
    (tmp_path / "calculator.cpp").write_text(CALCULATOR)
    program = tmp_path / "calculator"
    subprocess.run(["g++", "-w", f"-I{folder}", "-o", program, tmp_path / "calculator.cpp"], check=True)
    threads, registers = (32, 64, 96, 128, 256, 288, 512, 1024), (16, 32, 33, 40, 64, 65, 96, 128, 168, 200, 255)
    shared = (0, 1, 512, 1000, 7 * 1024, 33_000, 48 * 1024, 81 * 1024, 113 * 1024, 163 * 1024)
    cases = list(itertools.product((80, 90, 100), threads, registers, shared))
    lines = "".join(f"{' '.join(map(str, case))}\n" for case in cases)
    answers = subprocess.run([program], input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
    for case, answer in zip(cases, answers, strict=True):
        blocks, *limited_by = answer.split(",")
        ours = occupancy(*case)
        assert (ours.blocks, list(ours.limited_by)) == (int(blocks), limited_by), case
