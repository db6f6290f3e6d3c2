"""Which configuration wins: by fake launches and fake times."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton is not installed")

from bertkernels.bench.timing import Timing  # noqa: E402
from bertkernels.kernels import tuning  # noqa: E402
from bertkernels.tune.recording import Recording, unwritten_memory_is_nan  # noqa: E402
from bertkernels.tune.search import agrees, search  # noqa: E402

KERNEL, EXPECTED = "some_kernel", torch.tensor([1.0, -2.0, 3.0])
SHAPES = {"short": 1.0, "long": 10.0}  # and how long the rule takes there


class Machine:
    """Launches that take as long as `times` says of a configuration's N, the rule's being 8; None: fails to compile.

    Attributes: wrong, spilling: the N of configurations that compute nonsense, or spill. spread: p80 - p20 of times.
    """

    def __init__(self, times, wrong=(), spilling=(), spread=0.0):
        self.times, self.wrong, self.spilling, self.spread = times, wrong, spilling, spread
        self.timed = []

    def call(self, shape):
        def launch():
            size = tuning.tuned(KERNEL, torch.device("cpu"), torch.float32).get("N", 8)
            times = self.times[size]
            if times is None:
                raise RuntimeError("out of\nregisters")
            self.now = size, SHAPES[shape] * (times if isinstance(times, float) else times[shape])
            return (EXPECTED + (size in self.wrong),)

        return launch

    def record(self, call):
        results = call()
        size, duration = self.now
        return Recording(lambda: duration, results, 4 if size in self.spilling else 0)

    def timer(self, calls, rounds, seconds):
        self.timed.append(set(calls))
        half = self.spread / 2
        return {name: Timing(call() * (1 - half), call(), call() * (1 + half), rounds) for name, call in calls.items()}

    def search(self, sizes, **options):
        calls = {shape: self.call(shape) for shape in SHAPES}
        return search(KERNEL, [{"N": size} for size in sizes], calls, self.record, self.timer, **options)


def test_the_fastest_wins_by_its_gain_over_all_shapes():
    machine = Machine({8: 1.0, 1: 0.9, 2: {"short": 0.5, "long": 0.8}, 4: 0.7})
    found = machine.search([1, 2, 4])
    assert found.winner == {"N": 2} and found.tried == 3 and not found.discarded
    assert found.gain == pytest.approx((0.5 * 0.8) ** -0.5)


def test_only_the_fastest_few_are_timed_at_length_beside_the_rule():
    machine = Machine({8: 1.0, **{n: 1.0 - n / 100 for n in range(7)}})
    assert machine.search(range(7)).winner == {"N": 6}
    screening, final = machine.timed[0], machine.timed[-1]
    assert screening == {"rule", *map(str, range(7))} and final == {"rule", "4", "5", "6"}


@pytest.mark.parametrize(
    "spread, time, wins", [(0.0, 0.99, False), (0.0, 0.97, True), (0.2, 0.93, False), (0.2, 0.85, True)]
)
def test_a_gain_within_noise_is_none(spread, time, wins):
    found = Machine({8: 1.0, 1: time}, spread=spread).search([1])
    assert found.winner == ({"N": 1} if wins else None)
    assert found.gain == pytest.approx(1 / time)


def test_what_is_slower_on_some_shape_does_not_win():
    assert Machine({8: 1.0, 1: {"short": 0.3, "long": 1.1}}).search([1]).winner is None


def test_wrong_spilling_and_failing_configurations_do_not_count():
    machine = Machine({8: 1.0, 1: 0.1, 2: 0.2, 3: None, 4: 0.9}, wrong=[1], spilling=[2])
    marks = []
    found = machine.search([1, 2, 3, 4], after_each=marks.append)
    assert found.winner == {"N": 4} and found.tried == 4 and marks == ["x", "x", "x", "."]
    assert found.discarded == [
        ({"N": 1}, "wrong result 0 on short"),
        ({"N": 2}, "spills 8 registers"),
        ({"N": 3}, "RuntimeError: out of registers"),
    ]
    assert all(timed <= {"rule", "3"} for timed in machine.timed)


def test_a_rule_that_spills_may_still_be_beaten():
    assert Machine({8: 1.0, 1: 0.5}, spilling=[8]).search([1]).winner == {"N": 1}


def test_nothing_usable_leaves_the_rule():
    found = Machine({8: 1.0, 1: None}).search([1])
    assert found.winner is None and found.failure is None and len(found.discarded) == 1


def test_a_rule_that_fails_is_said():
    found = Machine({8: None, 1: 0.5}).search([1])
    assert found.failure == "RuntimeError: out of registers" and found.tried == 0


def test_time_that_is_up_leaves_the_rest_untried():
    asked = iter([False, False, True])
    found = Machine({8: 1.0, 1: 0.9, 2: 0.8, 4: 0.1}).search([1, 2, 4], time_is_up=lambda: next(asked))
    assert found.tried == 2 and found.winner == {"N": 2}


def test_a_trial_ends_with_what_was_before(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr(tuning, "_known", lambda kernel, name: {"float32": {"N": 3}})
    asked = KERNEL, torch.device("cuda", 0), torch.float32
    with pytest.raises(KeyboardInterrupt), tuning.trial(KERNEL, {"N": 1}):
        assert tuning.tuned(*asked) == {"N": 1} and tuning.tuned("other", *asked[1:]) == {"N": 3}
        raise KeyboardInterrupt
    assert tuning.tuned(*asked) == {"N": 3}


@pytest.mark.parametrize("dtype, rounding", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 2e-3)])
def test_agreement_is_up_to_rounding_of_each_element(dtype, rounding):
    expected = torch.randn(1000, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert agrees((expected * (1 + rounding)).to(dtype), expected)
    for wrong in (0.0, float("nan"), float("inf")):
        actual = expected.clone()
        actual[expected.abs().argmax()] = wrong
        assert not agrees(actual, expected)
    assert not agrees(expected[:-1], expected) and not agrees(expected.double(), expected)
    assert agrees(expected[:0], expected[:0])


def test_unwritten_memory_is_nan():
    with unwritten_memory_is_nan():
        assert torch.empty(3, dtype=torch.bfloat16).isnan().all() and EXPECTED.new_empty(3).isnan().all()
    assert not torch.are_deterministic_algorithms_enabled()
