"""Two processes draw the same gates and train as one with a batch twice as large."""

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.training.theseus.run import theseus

# Runs the command once for each way of clipping. Writes down every process's gates and its weights at the end.
_RECORD = """
import os
import torch
from bertkernels.cli import theseus as verb
from bertkernels.training.theseus import run, trainer

place = f"{os.environ['SEEN']}-{os.environ['RANK']}"
draw, report, once = trainer.draw_gates, run.write_report, verb.run

def recorded(*arguments):
    gates = draw(*arguments)
    with open(place, "a") as file:
        file.write(f"{gates}\\n")
    return gates

def kept(trained, *arguments):
    torch.save(trained.model.state_dict(), f"{place}-{trained.settings.clip}.pt")
    return report(trained, *arguments)

def both(argv):
    runs = [["--clip", clip, "--output_dir", f"{os.environ['SEEN']}-{clip}"] for clip in ("trained", "original")]
    return sum(once([*argv, *flags]) for flags in runs)

trainer.draw_gates, run.write_report, verb.run = recorded, kept, both
"""
# with this epsilon Adam makes no steps of rounding errors, which are the gradients of a key's bias
_RUN = {"max_steps": 6, "logging_steps": 2, "dataloader_drop_last": True, "learning_rate": 1e-3, "adam_epsilon": 1e-4}


def test_two_processes(compression, predecessor, two_processes, losses, tmp_path, monkeypatch):
    folder = predecessor(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for clip in ("trained", "original"):
        arguments, run = compression(
            f"one-{clip}", model_name_or_path=folder, clip=clip, run={**_RUN, "per_device_train_batch_size": 16}
        )
        theseus(arguments, run)
    seen = tmp_path / "seen"
    monkeypatch.setenv("SEEN", str(seen))
    given = {name: value for name, value in vars(arguments).items() if value not in (None, False) and name != "clip"}
    given |= {**_RUN, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 16, "save_strategy": "no"}
    two_processes("theseus", given | {"module_table": True, "measure_seconds": 0.02}, preamble=_RECORD)

    gates = [(tmp_path / f"seen-{rank}").read_text() for rank in (0, 1)]
    assert gates[0] == gates[1] and len(set(gates[0].splitlines())) > 1
    for clip in ("trained", "original"):
        weights = [torch.load(tmp_path / f"seen-{rank}-{clip}.pt", weights_only=True) for rank in (0, 1)]
        assert all(torch.equal(weight, weights[1][name]) for name, weight in weights[0].items())
        one, two = tmp_path / f"one-{clip}", tmp_path / f"seen-{clip}"
        for expected, found in zip(losses(one), losses(two), strict=True):
            for name in ("loss", "grad_norm", "replacing_rate", "replaced_0", "replaced_1"):
                assert found[name] == pytest.approx(expected[name], abs=1e-5), (clip, name, found["step"])
        alone = load_file(one / "model.safetensors")
        for name, weight in load_file(two / "model.safetensors").items():
            torch.testing.assert_close(weight, alone[name], atol=1e-5, rtol=0, msg=f"{clip} {name}")
