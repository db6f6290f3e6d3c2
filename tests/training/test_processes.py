"""Two processes train as one process that accumulates two batches."""

import json
import os
import subprocess
import sys

import pytest

from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.electra import ElectraConfig, generator_config
from bertkernels.training.pretrain import pretrain
from bertkernels.training.train_log import LOG_FILE

_RUN = """
import json, sys
import torch
from bertkernels.training.pretrain import PretrainArguments, pretrain
from bertkernels.training.training_arguments import PretrainRunArguments

torch.set_num_threads(1)
arguments, run = json.loads(sys.argv[1])
pretrain(PretrainArguments(**arguments), PretrainRunArguments(**run))
"""


@pytest.fixture
def config_file(tmp_path):
    """Nothing random but the masks: no dropout, and the discriminator, which reads samples, does not train."""
    discriminator = EncoderConfig(
        plan="2*(mixed ffn)",
        hidden_size=32,
        embedding_size=16,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    config = ElectraConfig(generator=generator_config(discriminator, 0.5), discriminator=discriminator)
    path = tmp_path / "config.json"
    path.write_text(config.to_json_string(use_diff=False))
    return path


def test_two_processes_equal_one_with_accumulation(tiny_pretraining, config_file, tmp_path):
    # An uneven last batch would be filled up differently.
    settings = {"max_steps": 20, "logging_steps": 5, "save_steps": 10, "dataloader_drop_last": True}
    arguments, run = tiny_pretraining(tmp_path / "one", gradient_accumulation_steps=2, **settings)
    arguments.preset = None
    arguments.plan = arguments.hidden_size = arguments.embedding_size = None
    arguments.num_attention_heads = arguments.intermediate_size = arguments.generator_size = None
    arguments.config_file = str(config_file)
    arguments.discriminator_weight = 0.0
    pretrain(arguments, run)

    two = {
        "output_dir": str(tmp_path / "two"),
        "per_device_train_batch_size": run.per_device_train_batch_size,
        "gradient_accumulation_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
        "report_to": "none",
        "ddp_backend": "gloo",
        **settings,
    }
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    process = subprocess.run(
        [*launch, str(script), json.dumps([vars(arguments), two])],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr[-3000:]

    logs = []
    for name in ("one", "two"):
        lines = (tmp_path / name / LOG_FILE).read_text().splitlines()
        logs.append([entry for entry in map(json.loads, lines) if "loss" in entry])
    assert [entry["step"] for entry in logs[1]] == [5, 10, 15, 20]
    for one, other in zip(*logs, strict=True):
        for name in ("loss", "generator_loss", "grad_norm", "masked_lm_accuracy", "epoch"):
            assert other[name] == pytest.approx(one[name], abs=1e-5), (name, one["step"])
