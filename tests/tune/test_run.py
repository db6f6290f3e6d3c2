"""A whole run: jobs one after the other, kept as they are done, in the time there is."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from bertkernels.bench.timing import Timing  # noqa: E402
from bertkernels.kernels import tuning  # noqa: E402
from bertkernels.tune.jobs import Job  # noqa: E402
from bertkernels.tune.recording import Recording  # noqa: E402
from bertkernels.tune.run import tune  # noqa: E402
from bertkernels.tune.subject import Subject  # noqa: E402

CPU = torch.device("cpu")


class Machine:
    """Kernels that take 1/N of the rule's time, whose clock goes on by a second with every candidate of theirs."""

    def __init__(self, interrupt_at=None):
        self.now, self.interrupt_at = 0, interrupt_at

    def job(self, kernel, candidates=3, key="C=8,float32"):
        def build(batch, tokens, device):
            def launch():
                self.size = tuning.tuned(kernel, CPU, torch.float32).get("N", 1)
                return (torch.zeros(batch, tokens, device=device),)

            return launch

        sizes = tuple({"N": n} for n in range(1, candidates + 1))
        return Job("op", kernel, key, {"small": Subject(kernel, {"C": 8}, sizes, build)})

    def record(self, call):
        results, size = call(), 0
        self.now += 0.5  # of two shapes
        if self.interrupt_at is not None and self.now >= self.interrupt_at:
            raise KeyboardInterrupt
        size = self.size
        return Recording(lambda: 1 / size, results, 0)

    def timer(self, calls, rounds, seconds):
        return {name: Timing(call(), call(), call(), rounds) for name, call in calls.items()}

    def tune(self, jobs, folder, **options):
        shapes = ((1, 8), (2, 4))
        return tune(jobs, CPU, "GPU", folder, self.record, self.timer, shapes=shapes, clock=lambda: self.now, **options)


def kept(folder):
    return {path.stem: tuning.read(path) for path in sorted(folder.glob("*.json"))}


def test_winners_are_kept_under_the_devices_name(tmp_path):
    machine = Machine()
    results = list(machine.tune([machine.job("a"), machine.job("b", key="C=9,float32")], tmp_path))
    assert [found.gain for _, found in results] == [pytest.approx(3)] * 2
    assert kept(tmp_path) == {"a": {"GPU": {"C=8,float32": {"N": 3}}}, "b": {"GPU": {"C=9,float32": {"N": 3}}}}


def test_a_rule_that_is_as_fast_takes_an_old_entry_away(tmp_path):
    machine = Machine()
    list(machine.tune([machine.job("a")], tmp_path))
    list(machine.tune([machine.job("a", candidates=1)], tmp_path))
    assert kept(tmp_path) == {"a": {}}


def test_time_is_shared_out_and_the_rest_is_not_tried(tmp_path):
    machine = Machine()
    jobs = [machine.job(name, candidates=50) for name in "abc"]
    results = list(machine.tune(jobs, tmp_path, budget_s=30))
    tried = [found.tried for _, found in results]
    assert all(5 <= count <= 10 for count in tried) and machine.now <= 33
    late = list(machine.tune(jobs, tmp_path / "late", budget_s=0))
    assert [found.tried for _, found in late] == [0, 0, 0] and not (tmp_path / "late").exists()


def test_candidates_are_compiled_ahead_in_half_of_the_time(tmp_path):
    machine, asked = Machine(), []
    machine_jobs = [machine.job("a"), machine.job("b")]
    list(machine.tune(machine_jobs, tmp_path, budget_s=40, precompile=lambda *arguments: asked.append(arguments)))
    assert [job for job, _, _ in asked] == machine_jobs
    assert all(sorted(candidate["N"] for candidate in candidates) == [1, 2, 3] for _, candidates, _ in asked)
    assert asked[0][2] == 10 and asked[1][2] == (40 - 4) / 2  # four seconds for the rule and three candidates


def test_an_interrupted_run_keeps_what_was_done(tmp_path):
    machine = Machine(interrupt_at=6)
    done = []
    with pytest.raises(KeyboardInterrupt):
        for result in machine.tune([machine.job("a"), machine.job("b")], tmp_path):
            done.append(result)
    assert len(done) == 1 and list(kept(tmp_path)) == ["a"]
    assert tuning.tuned("b", CPU, torch.float32) == {}
