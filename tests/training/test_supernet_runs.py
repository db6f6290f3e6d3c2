"""Supernets' runs that are killed and resumed, and such of two processes."""

import json
import signal
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.training.path_sampling import PATH_SAMPLERS
from bertkernels.training.pretrain import pretrain
from tests import forked

KINDS = ["attention", "ffn", "dynamic_conv"]


_KILLED = """
import json, os, signal, sys
from transformers import TrainerCallback
import torch
from bertkernels.training.pretrain import PretrainArguments, pretrain
from bertkernels.training.training_arguments import PretrainRunArguments

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 12:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
arguments, run = json.loads(sys.argv[1])
pretrain(PretrainArguments(**arguments), PretrainRunArguments(**run), [Kill()])
"""


def test_killed_and_resumed_run_equals_the_unbroken_one(supernet, losses, tmp_path):
    """Some sub-layers have no moments yet at the checkpoint: the optimizer's state is of part of the weights only."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = {"max_steps": 15, "logging_steps": 5, "save_steps": 4, "gradient_accumulation_steps": 2}
    arguments, run = supernet(whole, **settings)
    pretrain(arguments, run)
    plain = {"per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    process = forked.run(_KILLED, [json.dumps([vars(arguments), {"output_dir": str(broken), **plain, **settings}])])
    assert process.returncode == -signal.SIGKILL, process.stderr
    arguments, run = supernet(broken, **settings, resume_from_checkpoint="last")
    pretrain(arguments, run)
    assert losses(broken) == losses(whole)
    counts = [(folder / "slot_updates.json").read_text() for folder in (whole, broken)]
    assert counts[0] == counts[1] and sum(map(sum, json.loads(counts[0]).values())) == 15 * 4
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, broken))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(weight, found[name]), name


_RECORD = """
import os
from bertkernels.training.supernet_steps import SupernetSteps
import bertkernels.training.supernet_steps as steps

set_path = steps.set_path

def recorded(model, path):
    with open(f"{os.environ['SEEN']}-{os.environ['RANK']}", "a") as file:
        file.write(" ".join(path) + "\\n")
    set_path(model, path)

steps.set_path = recorded
"""


def test_two_processes_take_the_same_paths_and_train_as_one(supernet, two_processes, losses, tmp_path, monkeypatch):
    """As one process that accumulates two batches: the path is the step's, and its gradients are averaged."""
    config = tmp_path / "config.json"
    sizes = {"hidden_size": 32, "embedding_size": 16, "num_attention_heads": 2, "intermediate_size": 64}
    nothing_random = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config.write_text(json.dumps({**sizes, **nothing_random, "plan": "2*(attention ffn)", "supernet_kinds": KINDS}))
    flags = {name: None for name in ("preset", "plan", "supernet_kinds", *sizes)} | {"config_file": str(config)}
    settings = {"max_steps": 12, "logging_steps": 4, "save_steps": 6, "dataloader_drop_last": True}
    settings |= {"per_device_train_batch_size": 4}
    arguments, run = supernet(tmp_path / "one", flags, **settings, gradient_accumulation_steps=4)
    pretrain(arguments, run)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    two = {**vars(arguments), **settings, "gradient_accumulation_steps": 2, "output_dir": tmp_path / "two"}
    two_processes("pretrain", two, preamble=_RECORD)

    paths = [(tmp_path / f"seen-{rank}").read_text().splitlines() for rank in (0, 1)]
    assert paths[0] == paths[1] and len(paths[0]) == 24  # there and back to its own plan
    expected = PATH_SAMPLERS["uniform"](KINDS, 4, run.seed)
    assert [tuple(path.split()) for path in paths[0][::2]] == [expected.path(step) for step in range(12)]
    for one, other in pairwise((losses(tmp_path / "one"), losses(tmp_path / "two"))):
        assert [entry["step"] for entry in other] == [4, 8, 12]
        for expected, found in zip(one, other, strict=True):
            for name in ("loss", "grad_norm", "masked_lm_accuracy", "slot_updates_min", "slot_updates_max"):
                assert found[name] == pytest.approx(expected[name], abs=1e-5), (name, found["step"])
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=1e-5, rtol=0, msg=name)
