import json

import pytest
import torch

from bertkernels.bench import limits, measure, results, select
from bertkernels.bench.case import BOTH, FORWARD, Case, Disagreement
from bertkernels.bench.limits import LIMITS, Outcome
from bertkernels.cli.main import main


@pytest.fixture
def tiny_cases(monkeypatch):
    cases = [Case("light_conv", "small", 1, 8, mode) for mode in (FORWARD, BOTH)]
    monkeypatch.setattr(select, "select_cases", lambda *arguments, **options: cases)


@pytest.fixture
def no_default_file(monkeypatch, tmp_path):
    path = tmp_path / "default.jsonl"
    monkeypatch.setattr(results, "default_file", lambda device: path)
    return path


def test_measures_writes_and_prints_tables(tiny_cases, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    assert main(["bench", "--threads", "1", "--output", str(path)]) == 0
    printed = capsys.readouterr()
    assert "| small | B1·T8 | forward+backward |" in printed.out
    assert f"Results: {path}" in printed.out
    assert "[2/2] light_conv small B1·T8 forward+backward float32: Hugging Face" in printed.err
    rows = results.read(path)
    assert {row["mode"] for row in rows} == {FORWARD, BOTH}
    assert {row["threads"] for row in rows} == {1}


def test_keeps_results_of_cases_it_did_not_measure(tiny_cases, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    main(["bench", "--threads", "1", "--output", str(path)])
    rows = results.read(path)
    other = {**rows[0], "tokens": 77}
    results.write(path, [other, *rows])
    main(["bench", "--threads", "1", "--output", str(path)])
    assert [row["tokens"] for row in results.read(path)] == [77] + [8] * len(rows)


def test_a_full_run_writes_to_the_default_file_and_a_quick_one_does_not(tiny_cases, no_default_file, capsys):
    assert main(["bench", "--quick", "--threads", "1"]) == 0
    assert not no_default_file.exists()
    assert main(["bench", "--threads", "1"]) == 0
    assert no_default_file.exists()


def test_quick_is_handed_on(monkeypatch, no_default_file, capsys):
    asked = []
    monkeypatch.setattr(select, "select_cases", lambda *arguments, **options: asked.append((arguments, options)) or [])
    main(["bench", "--quick", "--no-compile", "--ops", "encoder"])
    assert asked == [((["encoder"], "cpu", True), {"compiled": False})]


def test_no_figures_where_peers_disagree(tiny_cases, monkeypatch, tmp_path, capsys):
    def disagree(case, effort):
        raise Disagreement("result 0 of 'x' is wrong")

    monkeypatch.setattr(measure, "measure", disagree)
    path = tmp_path / "out.jsonl"
    assert main(["bench", "--output", str(path)]) == 1
    assert "no figures: result 0 of 'x' is wrong" in capsys.readouterr().err
    assert not path.exists()


def test_report_of_several_files_updates_a_page_and_draws(tiny_cases, tmp_path, capsys):
    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    main(["bench", "--threads", "1", "--output", str(path)])
    on_gpu = [row | {"device": "cuda", "device_name": "H200", "threads": None} for row in results.read(path)]
    other.write_text("".join(json.dumps(row) + "\n" for row in on_gpu))
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n<!-- bench:begin -->\n<!-- bench:end -->\n")
    capsys.readouterr()

    assert main(["bench", "--report", str(path), str(other)]) == 0
    text = capsys.readouterr().out
    assert text.count("**light_conv**") == 2
    plot = tmp_path / "pictures" / "speed.png"
    options = ["--update", str(readme), "--plot", str(plot)]
    assert main(["bench", "--report", str(path), str(other), *options]) == 0
    assert "![speed compared with Hugging Face](pictures/speed.png)" in readme.read_text()
    assert text.strip() in readme.read_text()
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("ratio", "code", "verdict"), [(1000.0, 0, "ok"), (1.0, 1, "missed")])
def test_limits_decide_the_exit_code(monkeypatch, capsys, ratio, code, verdict):
    monkeypatch.setattr(
        limits, "check_limits", lambda threads: [Outcome(next(limit for limit in LIMITS if limit.at_least), ratio)]
    )
    assert main(["bench", "--limits"]) == code
    assert capsys.readouterr().out.strip().endswith(f"| {verdict} |")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ops", "light_conf"], "light_conf"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--threads", "two"], "--threads"),
        (["--update", "README.md"], "--update goes with --report"),
        (["--plot", "x.png"], "--plot goes with --report"),
        (["--limits", "--no-compile"], "--no-compile does not go with it"),
        (["--report", "x.jsonl", "--threads", "2"], "--threads does not go with it"),
        (["--report", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--quickly"], "--quickly"),
    ],
)
def test_bad_arguments(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("bertkernels bench: ") and error.count("\n") == 1


def test_an_empty_file_has_nothing_to_report(tmp_path, capsys):
    path = tmp_path / "empty.jsonl"
    path.touch()
    assert main(["bench", "--report", str(path)]) == 2
    assert "no results in there" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu(capsys):
    assert main(["bench", "--device", "cuda"]) == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err
