"""A worker that is killed, and a command that is: what they began is done again, and nothing else."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

from bertkernels.models.heads import EncoderForMaskedLM
from bertkernels.search.evaluation import COMPLETE, FAILED, KILLED
from bertkernels.search.layer_search import LayerSearch


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_killed_workers_and_a_killed_command(command, flags, tmp_path):
    """First a worker is killed, then the command; the same command again ends what they began, each plan once."""
    first = command.start()
    pid, path = command.wait_for(lambda: command.busy(5))
    os.kill(pid, signal.SIGKILL)
    # another worker does it again
    command.wait_for(lambda: [line for line in command.said() if line[2] == path and line[1] != pid])
    command.wait_for(lambda: command.busy(12))
    workers = {worker for _, worker, _ in command.said()}
    first.kill()
    first.wait()
    command.wait_for(lambda: all(map(gone, workers)), 60)

    output = command.ended(command.start(evaluations=14))  # not a setting of an evaluation: there is more to do
    search = LayerSearch(flags())
    evaluations = search.study.evaluations()
    complete = Counter(e.path for e in evaluations if e.state == COMPLETE)
    assert set(complete.values()) == {1} and len(complete) == 14 + len(search.budget.compared)
    killed = [e.path for e in evaluations if e.state == FAILED and e.why == KILLED]
    assert path in killed and set(killed) <= set(complete)
    began = Counter(line[2] for line in command.said() if line[0] == "begins")
    assert all(count == 1 for plan, count in began.items() if plan not in killed), "no plan twice without need"

    report = json.loads((tmp_path / "search/report.json").read_text())
    assert report["evaluations"]["killed"] == len(killed) and f'--plan "{report["found"]["plan"]}"' in output
    found = EncoderForMaskedLM.from_pretrained(tmp_path / "search/found")
    assert found.config.plan == report["found"]["plan"] and found.config.supernet_kinds is None
    rows = [json.loads(line) for line in (tmp_path / "search/evaluations.jsonl").read_text().splitlines()]
    assert len(rows) == len(evaluations) and {row["state"] for row in rows} == {"complete", "failed"}
