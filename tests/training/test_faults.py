"""Full disks, damaged checkpoints and SIGTERM: nothing that was written before is lost."""

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from bertkernels.errors import InputError
from bertkernels.training.checkpoints import checkpoints, damage
from bertkernels.training.output_folder import check_output_folder
from bertkernels.training.pretrain import pretrain
from bertkernels.training.stop_signal import EXIT_CODE
from tests import forked

# A process whose files can't grow beyond a limit from step 3 on, as on a full disk: the kernel refuses to write.
_FULL_DISK = """
import resource, signal, sys
import bertkernels.training.resumable_trainer as trainer
from bertkernels.cli.main import main

class Full(trainer.TrainLog):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

trainer.TrainLog = Full
sys.exit(main(sys.argv[1:]))
"""

_PLAIN = """
import sys
from bertkernels.cli.main import main

sys.exit(main(sys.argv[1:]))
"""

# Ends itself, or on two processes the second alone, by SIGTERM in the middle of step 9.
_TERMINATED = """
import os, signal, sys
import bertkernels.training.resumable_trainer as trainer
from bertkernels.cli.main import main

class Terminate(trainer.TrainLog):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 8 and args.process_index == args.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

trainer.TrainLog = Terminate
sys.exit(main(sys.argv[1:]))
"""


def _flags(arguments, run, **settings):
    """The run as the command line gives it."""
    changed = {
        "preset": arguments.preset,
        "plan": arguments.plan,
        "hidden_size": arguments.hidden_size,
        "embedding_size": arguments.embedding_size,
        "num_attention_heads": arguments.num_attention_heads,
        "intermediate_size": arguments.intermediate_size,
        "generator_size": arguments.generator_size,
        "train_file": arguments.train_file[0],
        "vocab_size": arguments.vocab_size,
        "max_seq_length": arguments.max_seq_length,
        "output_dir": run.output_dir,
        "max_steps": run.max_steps,
        "logging_steps": int(run.logging_steps),
        "save_steps": int(run.save_steps),
        "per_device_train_batch_size": run.per_device_train_batch_size,
        "gradient_accumulation_steps": run.gradient_accumulation_steps,
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
    } | settings
    return ["pretrain", *(text for name, value in changed.items() for text in (f"--{name}", str(value)))]


def test_a_full_disk_ends_with_one_sentence_and_the_last_checkpoint(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=6, save_steps=2, logging_steps=100)
    process = forked.run(_FULL_DISK, _flags(arguments, run))
    assert process.returncode == 1, process.stderr
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("bertkernels pretrain: ") and "checkpoint-4 could not be written" in last
    assert last.endswith("the last whole one is checkpoint-2")
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["checkpoint-2"]
    assert damage(tmp_path / "run" / "checkpoint-2") is None
    assert not list((tmp_path / "run").glob(".writing*"))

    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=6, save_steps=2, resume_from_checkpoint="last")
    assert pretrain(arguments, run).steps == 6


_UNTIL_STOPPED = {"max_steps": 14, "logging_steps": 5, "save_steps": 100, "gradient_accumulation_steps": 1}


def _assert_stopped(process, folder, step, code):
    assert process.returncode == code, process.stderr[-3000:]
    assert f"step {step}: go on with --resume_from_checkpoint" in process.stdout
    assert [path.name for path in checkpoints(folder)] == [f"checkpoint-{step}"]
    assert not (folder / "model.safetensors").exists(), "an unfinished model is no result"


def test_sigterm_writes_a_checkpoint(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "stopped", **_UNTIL_STOPPED)
    process = forked.run(_TERMINATED, _flags(arguments, run))
    _assert_stopped(process, tmp_path / "stopped", 9, EXIT_CODE)


def test_two_processes_stop_at_one_step_and_the_resumed_run_equals_the_unbroken_one(tiny_pretraining, losses, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "whole", **_UNTIL_STOPPED)
    for process in forked.run_two(_PLAIN, _flags(arguments, run, ddp_backend="gloo")):
        assert process.returncode == 0, process.stderr[-3000:]

    arguments, run = tiny_pretraining(tmp_path / "stopped", **_UNTIL_STOPPED)
    first, second = forked.run_two(_TERMINATED, _flags(arguments, run, ddp_backend="gloo"))
    assert second.returncode == EXIT_CODE, second.stderr[-3000:]
    # the step after, which both know of
    _assert_stopped(first, tmp_path / "stopped", 10, EXIT_CODE)

    again = _flags(arguments, run, resume_from_checkpoint="last", ddp_backend="gloo")
    for process in forked.run_two(_PLAIN, again):
        assert process.returncode == 0, process.stderr[-3000:]
    assert losses(tmp_path / "whole") == losses(tmp_path / "stopped")
    assert [entry["step"] for entry in losses(tmp_path / "stopped")] == [5, 10]
    expected, found = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(weight, found[name]) for name, weight in expected.items())


@pytest.fixture
def two_checkpoints(tiny_pretraining, tmp_path):
    arguments, run = tiny_pretraining(tmp_path / "run", max_steps=4, save_steps=2)
    pretrain(arguments, run)
    return tmp_path / "run"


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("harm", "found"),
    [
        (lambda folder: _flip(folder / "model.safetensors"), r"model.safetensors is not what was written"),
        (lambda folder: os.truncate(folder / "optimizer.pt", 100), r"optimizer.pt has 100 bytes, \d+ were written"),
        (lambda folder: (folder / "rng_state.pth").unlink(), r"rng_state.pth is missing"),
        (lambda folder: (folder / "trainer_state.json").write_text("{"), r"can't be read"),
    ],
)
def test_a_damaged_last_checkpoint_is_passed_over(two_checkpoints, tiny_pretraining, caplog, harm, found):
    harm(two_checkpoints / "checkpoint-4")
    _, again = tiny_pretraining(two_checkpoints, resume_from_checkpoint="last")
    assert check_output_folder(again).endswith("checkpoint-2")
    assert "going on from checkpoint-2; later ones are damaged: checkpoint-4: " in caplog.text
    _, named = tiny_pretraining(two_checkpoints, resume_from_checkpoint=str(two_checkpoints / "checkpoint-4"))
    with pytest.raises(InputError, match=rf"checkpoint-4 is damaged: .*{found}"):
        check_output_folder(named)


def test_no_whole_checkpoint_is_an_error_that_says_why(two_checkpoints, tiny_pretraining):
    for checkpoint in checkpoints(two_checkpoints):
        _flip(checkpoint / "optimizer.pt")
    _, again = tiny_pretraining(two_checkpoints, resume_from_checkpoint="last")
    with pytest.raises(InputError, match=r"no whole checkpoint in .*checkpoint-4: optimizer.pt.*checkpoint-2: opt"):
        check_output_folder(again)


def test_sigterm_has_its_old_meaning_outside_of_training(two_checkpoints):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
