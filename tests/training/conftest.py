"""Tiny text and tiny models to train."""

import json
import os
import random
import subprocess
import sys

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from bertkernels.data.tokenizer import SPECIAL_TOKENS, tokenizer_from_vocabulary
from bertkernels.training.pretrain import PretrainArguments
from bertkernels.training.train_log import LOG_FILE
from bertkernels.training.training_arguments import PretrainRunArguments
from tests import forked

_WORDS = (
    "the a kernel reads writes every row column of tensor matrix and then adds it to another one while fast "
    "slow large small memory holds what was before sums are kept in registers until done"
).split()


@pytest.fixture(autouse=True)
def one_thread():
    """Bitwise equal runs need one number of threads; and tests share the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def losses():
    """Reads a run's log: the entries with a loss, without what depends on the machine's speed."""

    def read(folder):
        entries = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
        return [
            {name: value for name, value in entry.items() if name not in ("tokens_per_second", "tflops", "mfu")}
            for entry in entries
            if "loss" in entry
        ]

    return read


@pytest.fixture
def tiny_text(tmp_path, monkeypatch):
    """A text file of made-up sentences, and a cache folder of the test's own."""
    monkeypatch.setenv("BERTKERNELS_CACHE", str(tmp_path / "cache"))
    generator = random.Random(0)
    lines = []
    for _ in range(60):
        lines += [" ".join(generator.choices(_WORDS, k=generator.randint(4, 14))) for _ in range(6)] + [""]
    path = tmp_path / "text.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture
def tiny_pretraining(tiny_text):
    """Makes the arguments of a pre-training run of a fraction of a second; keyword arguments go to the run's."""

    def make(output_dir, **changes):
        arguments = PretrainArguments(
            preset="convbert-small",
            plan="2*(mixed ffn)",
            hidden_size=32,
            embedding_size=16,
            num_attention_heads=2,
            intermediate_size=64,
            generator_size=0.5,
            train_file=[str(tiny_text)],
            vocab_size=200,
            max_seq_length=32,
        )
        settings = {
            "max_steps": 24,
            "logging_steps": 5,
            "save_steps": 7,
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
        }
        return arguments, PretrainRunArguments(output_dir=str(output_dir), **settings | changes)

    return make


@pytest.fixture
def supernet(tiny_pretraining):
    """Arguments of a supernet's run; keyword arguments of the run's, `changes` of the model's and the text's."""

    def make(output_dir, changes=None, **settings):
        arguments, run = tiny_pretraining(output_dir, **settings)
        arguments.plan, arguments.supernet_kinds = "2*(attention ffn)", ["attention", "ffn", "dynamic_conv"]
        arguments.objective, arguments.generator_size = "masked_lm", None
        for name, value in (changes or {}).items():
            setattr(arguments, name, value)
        return arguments, run

    return make


_COMMAND = """
import sys
from bertkernels.cli.main import main

sys.exit(main(sys.argv[1:]))
"""
_LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--standalone", "--nproc_per_node=2"),
    # Its --cpu wants MPI; so it starts them as for two GPUs, which --use_cpu then leaves alone.
    "accelerate": ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--main_process_port=0"),
}


@pytest.fixture
def two_processes(tmp_path):
    """Runs a verb in two processes on CPUs; fails where it does.

    `launcher` starts them, or this process does. `preamble` is Python that each process runs first.
    """

    def run(verb, settings, launcher=None, preamble=""):
        settings = settings | {
            "use_cpu": True,
            "ddp_backend": "gloo",
            "disable_tqdm": True,
            "report_to": "none",
        }
        flags = [verb]
        for name, value in settings.items():
            if value is not None:
                flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        if launcher is None:
            for process in forked.run_two(preamble + _COMMAND, flags):
                assert process.returncode == 0, process.stderr[-3000:]
            return
        script = tmp_path / "script.py"
        script.write_text(preamble + _COMMAND)
        process = subprocess.run(
            [sys.executable, "-m", *_LAUNCHERS[launcher], str(script), *flags],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr[-3000:]

    return run


@pytest.fixture
def tiny_classifier(tmp_path):
    """Makes a folder with a classifier of random weights that knows the words good, bad, a and row."""

    def make(name="model", **config):
        vocabulary = {word: number for number, word in enumerate([*SPECIAL_TOKENS, "good", "bad", "a", "row"])}
        tokenizer_from_vocabulary(vocabulary).save_pretrained(tmp_path / name)
        sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
        config = BertConfig(**sizes, vocab_size=len(vocabulary), **config)
        torch.manual_seed(0)
        BertForSequenceClassification(config).save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return make
