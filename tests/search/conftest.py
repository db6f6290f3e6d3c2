"""A tiny supernet of random weights and held-out text: what a search needs."""

import os
import random
import signal
import sys
import time

import pytest
import torch

from bertkernels.data.prepare_text import PrepareArguments, prepare_text
from bertkernels.models.configuration import EncoderConfig
from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.search.search_arguments import SearchArguments
from tests import forked

KINDS = ["attention", "ffn", "dynamic_conv"]
_WORDS = "the a kernel reads writes every row column of tensor matrix and then adds it to another one while".split()


@pytest.fixture(scope="session")
def prepared_dir(tmp_path_factory):
    """Prepared examples of made-up sentences, 32 tokens long, a fifth of them held out."""
    folder = tmp_path_factory.mktemp("text")
    generator = random.Random(0)
    lines = []
    for _ in range(40):
        lines += [" ".join(generator.choices(_WORDS, k=generator.randint(4, 14))) for _ in range(6)] + [""]
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    prepare_text(
        PrepareArguments(
            train_file=[str(folder / "text.txt")],
            vocab_size=200,
            max_seq_length=32,
            validation_share=0.2,
            output_dir=str(folder / "prepared"),
            num_workers=1,
        )
    )
    return str(folder / "prepared")


@pytest.fixture(scope="session")
def supernet_config():
    return EncoderConfig(
        vocab_size=200,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
        plan="3*(attention ffn)",
        supernet_kinds=KINDS,
        initializer_range=0.3,
    )


@pytest.fixture(scope="session")
def supernet(tmp_path_factory, supernet_config):
    """The folder of a masked language model's supernet with six slots."""
    folder = tmp_path_factory.mktemp("supernet")
    torch.manual_seed(0)
    EncoderForMaskedLM(supernet_config).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def flags(supernet, prepared_dir, tmp_path):
    """Makes the arguments of a search of a few seconds."""

    def make(**changes):
        settings = {
            "supernet": supernet,
            "prepared_dir": prepared_dir,
            "output_dir": str(tmp_path / "search"),
            "fitness_examples": 16,
            "evaluations": 12,
            "population": 4,
            "parents": 2,
            "random_orders": 2,
            "use_cpu": True,
            "disable_tqdm": True,
        }
        return SearchArguments(**settings | changes)

    return make


# The command with evaluations that take a while and say when they begin and end. Workers run this file too.
_SCRIPT = """
import importlib, os, sys, time
from bertkernels.cli.main import main

module, name = os.environ["MEASURES"].rsplit(".", 1)
Fitness = getattr(importlib.import_module(module), name)
measure = Fitness.__call__

def say(what, path):
    with open(os.environ["SAID"], "a") as file:
        file.write(f"{what} {os.getpid()} {' '.join(path)}\\n")

def workers():
    with open(os.environ["SAID"]) as file:
        return {line.split()[1] for line in file}

def slowly(self, path):
    say("begins", path)
    deadline = time.monotonic() + 300
    while len(workers()) < int(os.environ["TOGETHER"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    found = measure(self, path)
    say("ends", path)
    return found

Fitness.__call__ = slowly

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


class _Command:
    """Runs of the search in processes of their own, and what their evaluations say."""

    def __init__(self, folder, flags, measures):
        self._folder, self._flags, self._measures = folder, flags, measures
        self.processes = []
        (folder / "script.py").write_text(_SCRIPT)

    def start(self, together=1, **changes):
        """The command with two workers, in a process group of its own. No evaluation ends before so many workers, of
        all commands, have begun one."""
        flags = self._flags(workers=2, **changes)
        arguments = flags if isinstance(flags, dict) else vars(flags)
        wanted = {name: value for name, value in arguments.items() if value not in (None, [])}
        given = [part for name, value in wanted.items() for part in (f"--{name}", str(value))]
        environment = {
            "SAID": str(self._folder / "said"),
            "TOGETHER": str(together),
            "MEASURES": self._measures,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        }
        # workers, which are no forks, run the file too
        code = f"import runpy; runpy.run_path({str(self._folder / 'script.py')!r}, run_name='__main__')"
        output = self._folder / f"output-{len(self.processes)}"
        process = forked.Started(code, ["search", *given], os.environ | environment, output)
        self.processes.append(process)
        return process

    def said(self):
        """("begins" or "ends", process, path) of each evaluation."""
        file = self._folder / "said"
        lines = file.read_text().splitlines() if file.exists() else []
        return [(what, int(pid), tuple(path.split())) for what, pid, path in (line.split(" ", 2) for line in lines)]

    def busy(self, least):
        """Process and path of an evaluation that runs, once so many lines are said."""
        lines = self.said()
        ended = {(pid, path) for what, pid, path in lines if what == "ends"}
        running = [(pid, path) for what, pid, path in lines if what == "begins" and (pid, path) not in ended]
        return running[-1] if len(lines) >= least and running else None

    def wait_for(self, condition, seconds=600):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = condition()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError("waited in vain")

    def ended(self, process):
        """The output of a run that ends well."""
        output, _ = process.communicate(timeout=600)
        assert process.returncode == 0, output[-3000:]
        return output


@pytest.fixture
def commands(tmp_path):
    """Makes what starts searches, of their flags and the class whose calls evaluate; ends those that still run."""
    made = []

    def make(flags, measures):
        made.append(_Command(tmp_path, flags, measures))
        return made[-1]

    yield make
    for process in (process for command in made for process in command.processes):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def command(flags, commands):
    """Starts searches over layers."""
    return commands(flags, "bertkernels.search.fitness.InheritedFitness")
