"""What there is to tune: for each op, its kernels at the widths of the published models."""

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch

from bertkernels.bench.case import dimensions
from bertkernels.kernels import tuning
from bertkernels.kernels.tuning import Configuration

from .subject import Subject


@dataclass(frozen=True)
class Job:
    """One entry to be written: an op's kernel, its key, and by their sizes the models that launch it so."""

    op: str
    kernel: str
    key: str
    subjects: Mapping[str, Subject]

    @property
    def candidates(self) -> list[Configuration]:
        """Those of its kernel, each once."""
        (first, *_) = self.subjects.values()
        return list({tuple(candidate.items()): candidate for candidate in first.candidates}.values())


def jobs(ops: Collection[str], sizes: Collection[str], dtype: torch.dtype) -> list[Job]:
    """What there is to tune. Models of the same widths share a job: their shapes are timed together."""
    grouped: dict[tuple[str, str, str], dict[str, Subject]] = {}
    for op in ops:
        module = importlib.import_module(f"bertkernels.tune.{op}")
        for size in sizes:
            for subject in module.subjects(dimensions(size), dtype):
                key = tuning.key(dtype, **subject.sizes)
                grouped.setdefault((op, subject.kernel, key), {})[size] = subject
    return [Job(*names, subjects) for names, subjects in grouped.items()]
