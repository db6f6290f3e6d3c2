"""A killed and resumed compression ends as an unbroken one, to the last bit, in the middle of either phase."""

import json
import signal

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.errors import InputError
from bertkernels.training.checkpoints import checkpoints
from bertkernels.training.theseus.run import theseus
from tests import forked

_KILLED = """
import json, os, signal, sys
from transformers import TrainerCallback
import torch
from bertkernels.training.theseus.arguments import TheseusArguments, TheseusRunArguments
from bertkernels.training.theseus.run import theseus

class Kill(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
arguments, run, step = json.loads(sys.argv[1])
theseus(TheseusArguments(**arguments), TheseusRunArguments(**run), [Kill(step)])
"""
# replacing for 9 of 18 steps; checkpoints after 4, 8, …, log lines after 3, 6, …
_FLAGS = {
    "scheduler_type": "linear",
    "replacing_rate": 0.3,
    "steps_for_replacing": 9,
    "successor_learning_rate": 5e-4,
    "distillation_weight": 0.3,
}
_RUN = {"max_steps": 18, "logging_steps": 3, "save_strategy": "steps", "save_steps": 4, "weight_decay": 0.1}
_RUN |= {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}


def test_killed_in_either_phase(compression, losses, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments, run = compression("whole", run=_RUN, **_FLAGS)
    theseus(arguments, run)
    rates = [entry["replacing_rate"] for entry in losses(whole)]
    assert rates[0] < 0.5 and rates[-1] == 1, "both phases must be there"

    settings = {**_RUN, "learning_rate": run.learning_rate, "per_device_eval_batch_size": 16}
    settings |= {"output_dir": str(broken), "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    for step, resume in ((6, None), (14, "last")):  # the first phase, then the second
        given = [vars(arguments), {**settings, "resume_from_checkpoint": resume}, step]
        process = forked.run(_KILLED, [json.dumps(given)])
        assert process.returncode == -signal.SIGKILL, process.stderr[-2000:]
        assert checkpoints(broken)[-1].name == f"checkpoint-{step // 4 * 4}"
    again, run = compression("broken", run={**_RUN, "resume_from_checkpoint": "last"}, **_FLAGS)
    theseus(again, run)
    assert losses(broken) == losses(whole)
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, broken))
    assert expected.keys() == found.keys()
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())


def test_checkpoints_are_successors_alone(compression, tmp_path):
    theseus(*compression(run={"max_steps": 2, "save_strategy": "steps", "save_steps": 1}))
    weights = load_file(tmp_path / "successor" / "checkpoint-1" / "model.safetensors")
    config = json.loads((tmp_path / "successor" / "checkpoint-1" / "config.json").read_text())
    assert config["plan"] == "2*(attention ffn)"
    assert not any("blocks.2." in name for name in weights)


@pytest.mark.parametrize(
    ("changes", "run", "said"),
    [
        ({"successor_blocks": "0 1-3"}, {}, "modules 0-1 2-3 before, 0 1-3 now"),
        ({"replacing_rate": 0.6}, {}, "rate {'rate': 0.5, 'replacing_steps': None} before"),
        ({"clip": "original"}, {}, "clip trained before, original now"),
        ({"train_head": True}, {}, "other weights are trained"),
        ({}, {"seed": 7}, "seed 42 before, 7 now"),
    ],
)
def test_a_resume_with_other_settings_is_refused(compression, changes, run, said):
    steps = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    theseus(*compression(run=steps))
    arguments, again = compression(run={**steps, "max_steps": 3, "resume_from_checkpoint": "last", **run}, **changes)
    with pytest.raises(InputError, match="was begun otherwise and can't be resumed: ") as error:
        theseus(arguments, again)
    assert said in str(error.value)


def test_a_resume_with_another_predecessor_is_refused(compression, predecessor):
    steps = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    theseus(*compression(run=steps))
    other = predecessor("other", initializer_range=0.1)
    arguments, run = compression(model_name_or_path=other, run={**steps, "resume_from_checkpoint": "last"})
    with pytest.raises(InputError, match="can't be resumed: another predecessor"):
        theseus(arguments, run)
