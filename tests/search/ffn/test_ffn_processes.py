"""Workers and commands that are killed, and two commands on one study of feed-forward layers."""

import os
import signal
from collections import Counter

from bertkernels.search.evaluation import COMPLETE, FAILED, KILLED
from bertkernels.search.ffn_search import FfnSearch

MEASURES = "bertkernels.search.ffn_fitness.SharedFitness"


def test_killed_workers_and_a_killed_command(commands, ffn_values, ffn_flags):
    command = commands(lambda **changes: ffn_values(3, **{"evaluations": 8} | changes), MEASURES)
    first = command.start()
    pid, path = command.wait_for(lambda: command.busy(4))
    os.kill(pid, signal.SIGKILL)
    command.wait_for(lambda: [line for line in command.said() if line[2] == path and line[1] != pid])
    command.wait_for(lambda: command.busy(8))
    first.kill()
    first.wait()
    output = command.ended(command.start())
    evaluations = FfnSearch(ffn_flags(3, evaluations=8)).study.evaluations()
    complete = Counter(e.key for e in evaluations if e.state == COMPLETE)
    assert set(complete.values()) == {1} and len(complete) == 8
    killed = {e.path for e in evaluations if e.state == FAILED and e.why == KILLED}
    assert path in killed and "--genotype" in output
    began = Counter(line[2] for line in command.said() if line[0] == "begins")
    assert all(count == 1 for each, count in began.items() if each not in killed), "none twice without need"


def test_two_commands_share_a_study(commands, ffn_values):
    command = commands(lambda **changes: ffn_values(3, **{"evaluations": 8} | changes), MEASURES)
    for process in [command.start(together=4), command.start(together=4)]:
        command.ended(process)
    began = Counter(line[2] for line in command.said() if line[0] == "begins")
    assert set(began.values()) == {1} and len(began) == 8
    assert len({pid for _, pid, _ in command.said()}) == 4, "the workers of both took part"
