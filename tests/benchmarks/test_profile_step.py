import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_tables_of_both_models_show_their_operators(monkeypatch, capsys):
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(BENCHMARKS)
    profile_step = importlib.import_module("profile_step")
    profile_step.main(["--size", "small", "--batch", "1", "--tokens", "8", "--device", "cpu"])
    ours, theirs = capsys.readouterr().out.split("encoder small B1·T8 forward+backward float32: ")[1:]
    assert ours.startswith("bertkernels encoder") and "bertkernels::mixed_context" in ours
    assert theirs.startswith("Hugging Face") and "bertkernels::" not in theirs and "aten::im2col" in theirs
