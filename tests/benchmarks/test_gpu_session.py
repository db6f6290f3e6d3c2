"""The GPU session with phases of its own: limits, failures, and that what was done is kept."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def gpu_session(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("gpu_session")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "TUNED", tmp_path / "tuned")
    monkeypatch.setattr(module, "_GRACE", 1)
    (tmp_path / "results").mkdir()
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "a.json").write_text("{}")
    return module


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.fixture
def run(gpu_session, tmp_path):
    def run(*phases):
        todo = [gpu_session.Phase(name, commands, seconds) for name, seconds, *commands in phases]
        return gpu_session.run(todo, tmp_path / "texts", dict(os.environ), tmp_path / "copy")

    return run


def test_a_phase_that_fails_does_not_stop_the_others(run, gpu_session, tmp_path, capsys):
    (tmp_path / "results" / "cuda.jsonl").write_text("rows\n")
    outcomes = run(
        ("build", 20, python("print('built')")),
        ("tests", 20, python("print('one')"), python("raise SystemExit(3)"), python("print('three')")),
        ("bench", 20, python("print('measured')")),
    )
    results = [outcome.result for outcome in outcomes]
    assert results == ["ok", "failed: 1 of 3 commands, exit code 3", "ok"]
    copied = {path.name: path.read_text() for path in (tmp_path / "copy").iterdir()}
    assert copied.keys() == {"build.txt", "tests.txt", "bench.txt", "summary.txt", "cuda.jsonl"}
    assert copied["tests.txt"].index("one\n") < copied["tests.txt"].index("three\n")
    assert copied["summary.txt"] == gpu_session.summary(outcomes) and copied["cuda.jsonl"] == "rows\n"
    assert "tests: failed: 1 of 3 commands" in capsys.readouterr().out


def test_a_phase_that_hangs_is_stopped_with_all_it_started_and_keeps_its_text(run, tmp_path):
    stubborn = (
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('started', child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    start = time.monotonic()
    first, second = run(("tests", 6, python(stubborn)), ("bench", 20, python("print('measured')")))
    assert (first.result, second.result) == ("time was up", "ok") and time.monotonic() - start < 20
    child = int((tmp_path / "texts" / "tests.txt").read_text().split()[-1])
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().split()[2] in "ZX"


def test_what_is_interrupted_can_write_what_it_has(run, tmp_path):
    code = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('half of it')"
    (outcome,) = run(("bench", 4, python(code)))
    assert outcome.result == "time was up" and "half of it" in (tmp_path / "texts" / "bench.txt").read_text()


def test_time_left_over_goes_to_later_phases(run):
    outcomes = run(("build", 6, python("")), ("bench", 1, python("import time; time.sleep(2)")))
    assert [outcome.result for outcome in outcomes] == ["ok", "ok"]


def test_commands_of_a_phase_run_side_by_side_as_many_as_there_are_cores(run, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    (outcome,) = run(("tests", 30, *[python("import time; time.sleep(2)")] * 4))
    assert outcome.result == "ok" and outcome.seconds < 7


def test_tuned_configurations_come_as_an_archive(run, tmp_path):
    run(("tune", 20, python("print('tuned')")))
    assert {"tune.txt", "tuned.tar.gz"} <= {path.name for path in (tmp_path / "copy").iterdir()}


def test_a_session_that_is_stopped_keeps_what_was_done(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'benchmarks')\n"
        "import gpu_session as session\n"
        "from pathlib import Path\n"
        f"here = Path({str(tmp_path)!r}); session.TEXTS = here / 'texts'; session.RESULTS = here\n"
        "wait = (sys.executable, '-u', '-c', \"import time; print('begun'); time.sleep(60)\")\n"
        "phase = session.Phase('tests', (wait,), 50)\n"
        "session.phases = lambda: {'tests': phase}; session.session_environment = lambda: None\n"
        "session.main(['--phases', 'tests'])\n"
    )
    environment = os.environ | {"RESULTS_COPY": str(tmp_path / "copy")}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    part = tmp_path / "texts" / "tests.0.part"
    deadline = time.monotonic() + 30
    while not (part.is_file() and "begun" in part.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert "begun" in (tmp_path / "copy" / "tests.txt").read_text()


def test_the_sessions_own_phases_fit_ten_minutes_and_name_what_there_is(gpu_session):
    known = gpu_session.phases("python")
    assert list(known)[: len(gpu_session.ALWAYS)] == list(gpu_session.ALWAYS)
    assert sum(known[name].seconds for name in gpu_session.ALWAYS) + gpu_session._GRACE < 600
    words = {word for phase in known.values() for command in phase.commands for word in command}
    files = [Path(word) for word in words - {str(gpu_session.RESULTS / "cuda.jsonl")} if "/" in word]
    assert files and all((ROOT / file).exists() for file in files)
    assert {f"tests/ops/{path.name}" for path in (ROOT / "tests/ops").glob("test_*.py")} <= set(map(str, files))


def test_no_gpu_is_said_in_one_sentence(gpu_session):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    command = [sys.executable, "benchmarks/gpu_session.py", "--phases", "build"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 1 and result.stderr.startswith("gpu_session: torch finds no CUDA device here")
    assert result.stderr.count("\n") == 1
