import time

import pytest
import torch

from bertkernels.bench.timing import TwoSteps, interleaved


def test_ratio_of_known_durations():
    timings = interleaved({"short": lambda: time.sleep(0.004), "long": lambda: time.sleep(0.02)}, rounds=5, seconds=0)
    assert list(timings) == ["short", "long"]
    assert 2 < timings["long"].p50 / timings["short"].p50 < 6
    assert all(timing.p20 <= timing.p50 <= timing.p80 for timing in timings.values())
    assert timings["long"].p50 == pytest.approx(20_000, rel=0.5)


def test_the_second_step_is_timed_alone_within_the_same_calls():
    two = TwoSteps(lambda: time.sleep(0.008) or "between", lambda between: time.sleep(0.024) if between else None)
    timings = interleaved({"two": two, "one": lambda: time.sleep(0.008)}, rounds=5, seconds=0)
    whole, second = timings["two"], timings["two"].second
    assert 1.1 < whole.p50 / second.p50 < 1.7
    assert whole.calls == second.calls and second.p20 <= second.p50 <= second.p80
    assert timings["one"].second is None


def test_every_callable_gets_its_turn_each_round():
    order = []
    interleaved(
        {name: lambda name=name: order.append(name) or time.sleep(0.006) for name in "abc"}, rounds=4, seconds=0
    )
    warmup, turns = order[:6], order[6:]
    assert warmup == ["a", "a", "b", "b", "c", "c"]
    rounds = [turns[i : i + 3] for i in range(0, len(turns), 3)]
    assert len(rounds) == 4 and all(sorted(one) == ["a", "b", "c"] for one in rounds)


def test_quick_callables_are_called_many_times_and_the_first_of_a_turn_is_not_timed():
    calls = []
    timing = interleaved({"quick": lambda: calls.append(None)}, rounds=3, seconds=0, warmup=2)["quick"]
    assert timing.calls == 3 * 20
    assert len(calls) == 2 + 20 + 2 * 21  # the first turn cannot know yet that it is quick


def test_a_disturbed_call_does_not_take_a_quick_callable_for_a_slow_one():
    durations = iter([0.02, 0.0001])  # the only turn that is disturbed is the first
    timing = interleaved({"x": lambda: time.sleep(next(durations, 0.0001))}, rounds=10, seconds=0, warmup=0)["x"]
    assert timing.calls > 50
    assert timing.p50 < 5_000


def test_goes_on_for_the_time_given():
    start = time.perf_counter()
    timing = interleaved({"x": lambda: time.sleep(0.01)}, rounds=1, seconds=0.2)["x"]
    assert time.perf_counter() - start >= 0.2
    assert timing.calls > 2


def test_threads_are_set_during_and_restored_after():
    before = torch.get_num_threads()
    seen = set()
    interleaved({"x": lambda: seen.add(torch.get_num_threads())}, rounds=1, seconds=0, threads=before + 1)
    assert seen == {before + 1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("options", [{"rounds": 0}, {"warmup": -1}])
def test_rejects_no_rounds(options):
    with pytest.raises(ValueError, match="must be at least"):
        interleaved({"x": lambda: None}, **options)


def test_rejects_nothing_to_time():
    with pytest.raises(ValueError, match="callables is empty"):
        interleaved({})


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("hide_launches", [False, True])
def test_on_a_gpu(hide_launches):
    x = torch.zeros(2**22, device="cuda")
    timings = interleaved(
        {"one": lambda: x + 1, "eight": lambda: [x + i for i in range(8)]},
        device="cuda",
        seconds=0,
        rounds=20,
        hide_launches=hide_launches,
    )
    assert 2 < timings["eight"].p50 / timings["one"].p50 < 16
    assert timings["one"].second is None
    two = TwoSteps(lambda: [x + i for i in range(4)], lambda xs: [x + 1 for x in xs * 3])
    two = interleaved({"two": two}, device="cuda", seconds=0, rounds=20, hide_launches=hide_launches)["two"]
    assert 1.1 < two.p50 / two.second.p50 < 1.7
    assert timings["one"].peak_bytes == 2**24
    assert timings["eight"].peak_bytes >= 8 * 2**24
