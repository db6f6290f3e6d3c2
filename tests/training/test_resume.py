"""A run that is killed and resumed ends as an unbroken one, to the last bit."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.errors import InputError, OutputError
from bertkernels.training.checkpoints import checkpoints
from bertkernels.training.output_folder import check_output_folder
from bertkernels.training.pretrain import pretrain
from bertkernels.training.resumable_trainer import ResumableTrainer
from tests import forked

# Killed between a log line (step 10) and the next, after a checkpoint (step 7 of a save every 7) that fell between
# two log lines too, in the second epoch.
_KILLED = """
import json, os, signal, sys
from transformers import TrainerCallback
import torch
from bertkernels.training.pretrain import PretrainArguments, pretrain
from bertkernels.training.training_arguments import PretrainRunArguments

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 17:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
arguments, run = json.loads(sys.argv[1])
pretrain(PretrainArguments(**arguments), PretrainRunArguments(**run), [Kill()])
"""


def test_killed_and_resumed_run_equals_the_unbroken_one(tiny_pretraining, losses, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = {"max_steps": 24, "logging_steps": 5, "save_steps": 7}
    arguments, run = tiny_pretraining(whole, **settings)
    result = pretrain(arguments, run)
    assert result.steps == 24
    assert result.log[-1]["epoch"] > 1, "the run must cross an epoch's end for the data order to be tested"

    killed = {
        "output_dir": str(broken),
        "per_device_train_batch_size": run.per_device_train_batch_size,
        "gradient_accumulation_steps": run.gradient_accumulation_steps,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        **settings,
    }
    process = forked.run(_KILLED, [json.dumps([vars(arguments), killed])])
    assert process.returncode == -signal.SIGKILL, process.stderr
    assert [path.name for path in checkpoints(broken)] == ["checkpoint-7", "checkpoint-14"]
    assert [entry["step"] for entry in losses(broken)] == [5, 10, 15]

    arguments, run = tiny_pretraining(broken, **settings, resume_from_checkpoint="last")
    pretrain(arguments, run)
    assert losses(broken) == losses(whole)
    assert [entry["step"] for entry in losses(broken)] == [5, 10, 15, 20]
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, broken))
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert torch.equal(weight, found[name]), name


def test_a_checkpoint_cut_short_is_not_taken_for_one(tiny_pretraining, tmp_path, monkeypatch):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=4, save_steps=2)
    save = ResumableTrainer._save_optimizer_and_scheduler

    def full_disk(trainer, folder):
        if trainer.state.global_step == 4:
            raise OSError(28, "No space left on device")
        save(trainer, folder)

    monkeypatch.setattr(ResumableTrainer, "_save_optimizer_and_scheduler", full_disk)
    with pytest.raises(OutputError, match="No space left.*the last whole one is checkpoint-2"):
        pretrain(arguments, run)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-2"]
    assert not (tmp_path / "run" / "checkpoint-4").exists()

    _, again = tiny_pretraining(tmp_path / "run", resume_from_checkpoint="last")
    assert check_output_folder(again).endswith("checkpoint-2")


def test_old_checkpoints_go(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=6, save_steps=1, save_total_limit=2)
    pretrain(arguments, run)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-5", "checkpoint-6"]


def test_a_checkpoint_of_another_model_is_refused(tiny_pretraining, tmp_path, caplog):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=2, save_steps=1)
    pretrain(arguments, run)
    pretrain(*tiny_pretraining(tmp_path / "run", max_steps=3, resume_from_checkpoint="last"))
    assert "missing keys" not in caplog.text, "shared weights are there under one name, which is no fault"
    arguments.plan = "3*(mixed ffn)"
    _, run = tiny_pretraining(tmp_path / "run", max_steps=4, resume_from_checkpoint="last")
    with pytest.raises(InputError, match="does not fit the model: 4[0-9] weights are missing, 0 are unknown"):
        pretrain(arguments, run)
