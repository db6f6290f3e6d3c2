"""How tests get at `benchmarks/`, which is no package: its scripts import each other by name."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def import_benchmark():
    def import_script(name: str):
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(BENCHMARKS)
            return importlib.import_module(name)

    return import_script
