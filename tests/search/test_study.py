"""The study: reservations, retries, failures, settings; in a journal and in a database."""

import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product

import pytest

from bertkernels.errors import InputError
from bertkernels.search import study as study_module
from bertkernels.search.claims import Budget, Claims
from bertkernels.search.evaluation import COMPLETE, DUPLICATE, FAILED, KILLED, RUNNING, SURPLUS
from bertkernels.search.feasible import FeasiblePlans
from bertkernels.search.genetic_sampler import Genetics, GeneticSampler
from bertkernels.search.limits import Figures, KindFigures, Limits
from bertkernels.search.process_identity import this_process
from bertkernels.search.space import RANDOM
from bertkernels.search.standing import MOST_KILLS, Standing
from bertkernels.search.study import SearchStudy, delete_study, noted_in, open_storage, slot_parameters
from bertkernels.search.worker import work

KINDS = ("a", "b")
FIGURES = KindFigures(Figures(0, 0), {kind: Figures(1, 1) for kind in KINDS})
SETTINGS = {"kinds": list(KINDS), "seed": 1, "limits": {"max_flops": None, "counts": {}}}


@pytest.fixture(params=["journal", "sqlite"])
def connect(request, tmp_path):
    """Opens the same storage anew each time, as another process would."""
    url = f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else None
    return lambda: open_storage(url, tmp_path / "study.journal")


def study_in(storage, settings=SETTINGS, **arguments):
    return SearchStudy(storage, "layers", settings, partial(slot_parameters, KINDS), **arguments)


def claims_of(study, slots=4, evaluations=16, population=4, compared=None):
    plans = FeasiblePlans(KINDS, slots, Limits(), FIGURES)
    budget = Budget(evaluations, population, compared or {})
    return Claims(study, GeneticSampler(plans, Genetics(population=population, parents=2), seed=0), budget)


def fitness(path):
    return float(path.count("a")), {"loss": 1.0}


def test_evaluations_are_kept(connect):
    study = study_in(connect())
    evaluation = study.begin(("a", "b"), RANDOM)
    assert (evaluation.state, evaluation.number, evaluation.path) == (RUNNING, 0, ("a", "b"))
    study.complete(evaluation, 0.25, {"accuracy": 0.25, "loss": float("nan")}, 1.5)
    (found,) = study_in(connect()).evaluations()
    assert (found.state, found.fitness, found.seconds, found.origin) == (COMPLETE, 0.25, 1.5, RANDOM)
    assert found.metrics == {"accuracy": 0.25} and found.worker == this_process()


def test_a_study_is_searched_to_its_end(connect):
    study = study_in(connect())
    claims = claims_of(study, evaluations=10, compared={"named": ("a",) * 4, "random order 1": ("b",) * 4})
    assert work(study, claims, fitness) == 12
    standing = Standing(study.evaluations())
    assert len(standing.known) == 12 and standing.finished() == 10 and not standing.killed
    assert [(e.name, e.origin) for e in standing.compared()] == [
        ("named", "baseline"),
        ("random order 1", "random order"),
    ]
    assert standing.best().fitness == 3.0, "what it is compared with is no part of the search"
    assert work(study, claims, fitness) == 0


def test_workers_never_evaluate_a_plan_twice(connect):
    """Five at once in a space of 16 plans, all of which are wanted."""
    started, done = threading.Barrier(5, timeout=60), []

    def slowly(path):
        done.append(path)
        time.sleep(0.002)
        return fitness(path)

    def worker():
        study = study_in(connect())
        claims = claims_of(study)
        started.wait()
        work(study, claims, slowly)

    with ThreadPoolExecutor(5) as threads:
        for future in [threads.submit(worker) for _ in range(5)]:
            future.result()
    assert sorted(done) == sorted(product(KINDS, repeat=4))
    states = Counter((e.state, e.why) for e in study_in(connect()).evaluations())
    assert states.pop((COMPLETE, None)) == 16
    assert set(states) <= {(FAILED, DUPLICATE), (FAILED, SURPLUS)}


def test_the_later_of_two_with_the_same_thought_gives_way(connect, monkeypatch):
    """The other reserves between this one's look at the study and its reservation."""
    other, study = study_in(connect()), study_in(connect())
    begin, taken = study.begin, []

    def after_another(path, origin, name=None):
        if not taken:
            taken.append(other.begin(path, origin, name))
        return begin(path, origin, name)

    monkeypatch.setattr(study, "begin", after_another)
    mine = claims_of(study).next()
    assert mine.path != taken[0].path and mine.state == RUNNING
    evaluations = study.evaluations()
    assert [(e.state, e.why) for e in evaluations] == [(RUNNING, None), (FAILED, DUPLICATE), (RUNNING, None)]
    assert evaluations[1].path == taken[0].path


def test_nobody_goes_beyond_the_budget(connect, monkeypatch):
    other, study = study_in(connect()), study_in(connect())
    work(study, claims_of(study, evaluations=3), fitness)
    begin = study.begin

    def after_another(path, origin, name=None):
        other.complete(other.begin(tuple(reversed(path)), origin), 1.0, {}, 0.0)
        return begin(path, origin, name)

    monkeypatch.setattr(study, "begin", after_another)
    assert claims_of(study, slots=4, evaluations=4).next() is None
    assert study.evaluations()[-1].why == SURPLUS and Standing(study.evaluations()).finished() == 4


def test_what_is_not_a_number_failed_and_is_never_best(connect):
    study = study_in(connect())
    seen = []

    def sometimes(path):
        seen.append(path)
        return float("nan") if path.count("a") == 2 else float("inf") if path.count("a") == 4 else fitness(path)[0], {}

    work(study, claims_of(study), sometimes)
    assert len(seen) == len(set(seen)) == 16, "it is not done again"
    failed = [e for e in study.evaluations() if e.state == FAILED and e.why != DUPLICATE]
    assert {e.path.count("a") for e in failed} == {2, 4} and {e.why for e in failed} == {"fitness is not a number"}
    standing = Standing(study.evaluations())
    assert standing.best().fitness == 3.0 and standing.finished() == 16


def test_a_killed_processes_evaluation_is_done_again(connect):
    study = study_in(connect())
    child = os.fork()
    if not child:
        signal.alarm(60)  # it never returns
        try:
            study_in(connect()).begin(("a", "b", "b", "b"), "mutation")
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    (dead,) = study.evaluations()
    assert dead.state == RUNNING
    again = claims_of(study).next()
    assert (again.path, again.origin) == (dead.path, "mutation") and again.number > dead.number
    assert study.evaluations()[0].why == KILLED
    study.complete(again, 1.0, {}, 0.0)
    assert Standing(study.evaluations()).known[dead.path].number == again.number


def test_a_silent_machine_is_taken_for_dead_after_the_grace_period(connect, monkeypatch):
    elsewhere = {"machine": "another", "pid": 1, "began": "0"}
    study, remote = study_in(connect(), grace=0.3), study_in(connect(), grace=0.3)
    monkeypatch.setattr(study_module, "this_process", lambda: elsewhere)
    evaluation = remote.begin(("a",) * 4, RANDOM)
    with remote.alive(evaluation):
        for _ in range(4):
            assert study.bury_the_dead() == 0
            time.sleep(0.2)
    assert study.bury_the_dead() == 0
    time.sleep(0.4)
    assert study.bury_the_dead() == 1 and study.evaluations()[0].why == KILLED
    remote.complete(evaluation, 1.0, {}, 0.0)  # it was only slow: another may have begun, so this does not count
    assert study.evaluations()[0].state == FAILED


def test_an_exception_gives_the_evaluation_back(connect):
    study = study_in(connect())
    claims = claims_of(study, evaluations=2)

    def broken(path):
        raise MemoryError("too large")

    with pytest.raises(MemoryError):
        work(study, claims, broken)
    assert [e.why for e in study.evaluations()] == [KILLED]
    assert work(study, claims, fitness) == 2


def test_a_plan_that_kills_every_worker_is_given_up(connect):
    study = study_in(connect())
    for _ in range(MOST_KILLS):
        study.fail(study.begin(("a",) * 4, RANDOM), KILLED)
    standing = Standing(study.evaluations())
    assert not standing.killed and standing.known[("a",) * 4].state == FAILED
    assert claims_of(study).next().path != ("a",) * 4


def test_other_settings_are_refused_with_a_list(connect):
    study_in(connect())
    study_in(connect(), json.loads(json.dumps(SETTINGS)))
    other = {"kinds": list(KINDS), "seed": 2, "limits": {"max_flops": 1e9, "counts": {}}}
    with pytest.raises(InputError) as caught:
        study_in(connect(), other)
    message = str(caught.value)
    assert "begun with other settings" in message
    assert "\n  limits.max_flops: None before, 1000000000.0 now\n  seed: 1 before, 2 now" in message


def test_a_study_whose_creator_was_killed_before_its_settings(connect, monkeypatch):
    from optuna.study import StudyDirection

    connect().create_new_study([StudyDirection.MAXIMIZE], "layers")
    monkeypatch.setattr(study_module, "_SECONDS_FOR_SETTINGS", 0.2)
    study_in(connect())
    with pytest.raises(InputError):
        study_in(connect(), SETTINGS | {"seed": 2})


def test_notes_and_deletion(connect):
    assert noted_in(connect(), "layers", "x") is None
    study_in(connect()).note("x", {"a": 1.5})
    assert noted_in(connect(), "layers", "x") == {"a": 1.5}
    delete_study(connect(), "layers")
    delete_study(connect(), "layers")
    assert study_in(connect(), SETTINGS | {"seed": 2}).evaluations() == []


def test_a_torn_line_is_cut_off(tmp_path):
    journal = tmp_path / "study.journal"
    study = study_in(open_storage(None, journal))
    study.complete(study.begin(("a",) * 4, RANDOM), 1.0, {}, 0.0)
    with open(journal, "ab") as file:
        file.write(b'{"op_code": 4, "worker_')  # what a full disk or a power cut leaves
    again = study_in(open_storage(None, journal))
    again.complete(again.begin(("b",) * 4, RANDOM), 2.0, {}, 0.0)
    assert [e.fitness for e in study_in(open_storage(None, journal)).evaluations()] == [1.0, 2.0]


def test_a_storage_that_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match="--storage nonsense"):
        open_storage("nonsense", tmp_path / "study.journal")
