"""Two processes draw the same gates and train as one with a batch twice as large."""

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.training.theseus.run import theseus

# Writes down every process's gates and its weights at the end.
_RECORD = """
import os
import torch
from bertkernels.training.theseus import run, trainer

place = f"{os.environ['SEEN']}-{os.environ['RANK']}"
draw, report = trainer.draw_gates, run.write_report

def recorded(*arguments):
    gates = draw(*arguments)
    with open(place, "a") as file:
        file.write(f"{gates}\\n")
    return gates

def kept(trained, *arguments):
    torch.save(trained.model.state_dict(), f"{place}.pt")
    return report(trained, *arguments)

trainer.draw_gates, run.write_report = recorded, kept
"""
# with this epsilon Adam makes no steps of rounding errors, which are the gradients of a key's bias
_RUN = {"max_steps": 6, "logging_steps": 2, "dataloader_drop_last": True, "learning_rate": 1e-3, "adam_epsilon": 1e-4}


@pytest.mark.parametrize("clip", ["trained", "original"])
def test_two_processes(compression, predecessor, two_processes, losses, tmp_path, monkeypatch, clip):
    folder = predecessor(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    flags = {"model_name_or_path": folder, "clip": clip, "replacing_rate": 0.5, "module_table": clip == "trained"}
    arguments, run = compression("one", run={**_RUN, "per_device_train_batch_size": 16}, **flags)
    theseus(arguments, run)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    given = {name: value for name, value in vars(arguments).items() if value not in (None, False)}
    given |= {**_RUN, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 16, "save_strategy": "no"}
    given |= {"module_table": flags["module_table"], "output_dir": tmp_path / "two"}
    two_processes("theseus", given, preamble=_RECORD)

    gates = [(tmp_path / f"seen-{rank}").read_text() for rank in (0, 1)]
    assert gates[0] == gates[1] and len(set(gates[0].splitlines())) > 1
    weights = [torch.load(tmp_path / f"seen-{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
    for expected, found in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        for name in ("loss", "grad_norm", "replacing_rate", "replaced_0", "replaced_1"):
            assert found[name] == pytest.approx(expected[name], abs=1e-5), (name, found["step"])
    alone = load_file(tmp_path / "one" / "model.safetensors")
    for name, weight in load_file(tmp_path / "two" / "model.safetensors").items():
        torch.testing.assert_close(weight, alone[name], atol=1e-5, rtol=0, msg=name)
