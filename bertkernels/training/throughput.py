"""How fast a run trains: real tokens a second, the share of padding, and what part of the hardware's rate that is."""

import time
from collections.abc import Callable, Mapping

import torch
from torch.utils.flop_counter import FlopCounterMode

import bertkernels.ops.flops  # noqa: F401  (makes our ops known to the counter)

# Dense matrix products in bf16 or fp16, operations a second: NVIDIA's data sheets. The first that is part of a device's
# name counts.
_DATA_SHEETS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "V100": 125e12,
    "T4": 65e12,
}
_SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices that are multiplied where no data sheet counts


class Stopwatch:
    """Seconds spent training: paused during evaluation and while checkpoints are written."""

    def __init__(self) -> None:
        self._passed = 0.0
        self._since: float | None = None

    def resume(self) -> None:
        if self._since is None:
            self._since = time.perf_counter()

    def pause(self) -> None:
        self._passed, self._since = self.read(), None

    def read(self) -> float:
        return self._passed + (time.perf_counter() - self._since if self._since is not None else 0.0)

    def reset(self) -> None:
        running = self._since is not None
        self._passed, self._since = 0.0, None
        if running:
            self.resume()


def batch_tokens(inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Real tokens and all positions of a batch, fp64 scalars on its device; nothing where it has no attention mask."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return {}
    positions = torch.full((), float(mask.numel()), dtype=torch.float64, device=mask.device)
    return {"tokens": mask.sum(dtype=torch.float64), "positions": positions}


def training_operations(forward: Callable[[], object], device: torch.device) -> int:
    """Operations of the matrix products of one training step: three times those of its forward pass, which is done once
    for it, without gradients and with the random state put back. Recomputation does not count."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        counter = FlopCounterMode(display=False)
        with counter:
            forward()
    return 3 * counter.get_total_flops()


def peak_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second that matrix products can reach: by data sheet for half precision on known GPUs, else that of
    a large square product, measured."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        name = torch.cuda.get_device_name(device)
        for part, rate in _DATA_SHEETS.items():
            if part in name:
                return rate
    side = _SIDE.get(device.type, 1024)
    a = torch.full((side, side), 0.5, device=device, dtype=dtype)
    times = []
    for _ in range(6):
        _wait(device)
        start = time.perf_counter()
        a @ a
        _wait(device)
        times.append(time.perf_counter() - start)
    return 2 * side**3 / min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
