"""Processes that share an experiment: each job once, whoever is killed; and results that stay comparable."""

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from bertkernels.analysis.results import LINES, Results, read_lines
from bertkernels.analysis.runner import work
from bertkernels.errors import InputError
from tests.analysis.squares import Squares


@pytest.fixture
def start(tmp_path):
    """Starts processes that do the jobs; ends those that still run."""
    processes = []

    def begin():
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
        script = Path(__file__).with_name("squares.py")
        processes.append(subprocess.Popen([sys.executable, str(script), str(tmp_path / "out")], env=environment))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()


@pytest.fixture
def expected(tmp_path):
    """The lines of a process that was alone, as `plain` shows them."""
    experiment = Squares(tmp_path / "alone" / "out")
    experiment.folder.mkdir(parents=True)
    results = Results(experiment.folder, experiment.settings())
    assert work(experiment, results)
    results.close()
    return plain(experiment.folder)


def plain(folder):
    """Lines in the order of their jobs' names, without what depends on the machine's speed."""
    lines = [{name: value for name, value in line.items() if name != "seconds"} for line in read_lines(folder)]
    return sorted(lines, key=lambda line: line["name"])


def said(tmp_path):
    file = tmp_path / "said"
    return file.read_text().splitlines() if file.is_file() else []


def wait_for(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_two_processes_do_each_job_once(start, expected, tmp_path):
    processes = [start(), start()]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert plain(tmp_path / "out") == expected
    assert len(said(tmp_path)) == len(set(said(tmp_path))) == 12


def test_killed_and_resumed(start, expected, tmp_path):
    """One is killed in the midst of a job while another works; then that one too. What they began is done again."""
    first, second = start(), start()
    wait_for(lambda: len(said(tmp_path)) >= 4)
    first.kill()
    wait_for(lambda: len(read_lines(tmp_path / "out")) >= 5)
    second.kill()
    second.wait()
    with open(tmp_path / "out" / LINES, "a", encoding="utf-8") as lines:
        lines.write('{"job": "half a l')  # as a process leaves it that is killed while it writes
    assert start().wait(timeout=120) == 0
    assert plain(tmp_path / "out") == expected
    again = {name: count for name, count in Counter(said(tmp_path)).items() if count > 1}
    assert set(again.values()) <= {2} and len(again) <= 2, "only what was cut short"


def test_a_failed_job_leaves_no_line(tmp_path, monkeypatch):
    experiment = Squares(tmp_path / "out")
    results = Results(experiment.folder, experiment.settings())

    def fails(job, lines):
        raise RuntimeError("no luck")

    with monkeypatch.context() as context, pytest.raises(RuntimeError, match="no luck"):
        context.setattr(experiment, "do", fails)
        work(experiment, results)
    assert results.lines() == []
    assert work(experiment, results) and len(results.lines()) == 12
    results.close()


def test_other_settings_are_refused(tmp_path):
    Results(tmp_path / "out", {"experiment": "squares", "training": {"seed": 1}}).close()
    with pytest.raises(InputError, match="training.seed: 1 before, 2 now"):
        Results(tmp_path / "out", {"experiment": "squares", "training": {"seed": 2}})
    (tmp_path / "other").mkdir()
    (tmp_path / "other/notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no experiment"):
        Results(tmp_path / "other", {})
