"""Sums kept on the device between two log lines; they are saved with checkpoints, so that a resume loses none."""

from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

_FILE = "running_sums.safetensors"


class RunningSums:
    """Named fp64 tensors that add up over steps and, when read, over processes."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._sums: dict[str, torch.Tensor] = {}
        self.first_step = 0  # the step after which this sum began

    def add(self, values: dict[str, torch.Tensor]) -> None:
        """Adds tensors of any floating or integer dtype; a name keeps its shape. Does not wait for the device."""
        for name, value in values.items():
            value = value.detach().double()
            self._sums[name] = self._sums[name] + value if name in self._sums else value

    def total(self) -> dict[str, torch.Tensor]:
        """The sums over all processes, on the CPU; every process must call it."""
        reduced = {name: self._accelerator.reduce(value.clone(), "sum") for name, value in sorted(self._sums.items())}
        return {name: value.cpu() for name, value in reduced.items()}

    def reset(self, step: int) -> None:
        self._sums.clear()
        self.first_step = step

    def save(self, folder: str | Path) -> None:
        """Writes the sums over all processes into a checkpoint; every process must call it."""
        total = self.total()
        if self._accelerator.is_main_process:
            save_file({**total, "first_step": torch.tensor(self.first_step)}, str(Path(folder) / _FILE))

    def load(self, folder: str | Path) -> None:
        """Takes a checkpoint's sums up again (on the first process; the others begin at zero)."""
        path = Path(folder) / _FILE
        if not path.is_file():
            return
        sums = load_file(str(path))
        self.first_step = int(sums.pop("first_step"))
        share = 1.0 if self._accelerator.is_main_process else 0.0
        self._sums = {name: value.to(self._accelerator.device) * share for name, value in sums.items()}
