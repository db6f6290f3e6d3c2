import pytest
import torch

from bertkernels.bench import measure, results, select
from bertkernels.bench.case import BACKWARD, BOTH, FORWARD, Case, Disagreement
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
    assert "[2/2, less than a minute left] light_conv small B1·T8 forward+backward float32: Hugging" in printed.err
    rows = results.read(path)
    assert {row["mode"] for row in rows} == {FORWARD, BACKWARD, BOTH}
    assert {row["threads"] for row in rows} == {1}


def test_keeps_results_of_cases_it_did_not_measure(tiny_cases, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    main(["bench", "--threads", "1", "--output", str(path)])
    rows = results.read(path)
    other = {**rows[0], "tokens": 77}
    results.write(path, [other, *rows])
    main(["bench", "--threads", "1", "--output", str(path), "--fresh"])
    assert [row["tokens"] for row in results.read(path)] == [77] + [8] * len(rows)


def test_goes_on_with_what_the_file_lacks(tiny_cases, tmp_path, capsys):
    path = tmp_path / "out.jsonl"
    main(["bench", "--threads", "1", "--output", str(path)])
    rows, table = results.read(path), capsys.readouterr().out
    results.write(path, [row for row in rows if row["mode"] != FORWARD])
    main(["bench", "--threads", "1", "--output", str(path)])
    printed = capsys.readouterr()
    assert "1 of 2 cases are in" in printed.err and "[1/1, " in printed.err
    assert [row for row in results.read(path) if row["mode"] != FORWARD] == [
        row for row in rows if row["mode"] != FORWARD
    ]
    assert printed.out.count("| small |") == table.count("| small |") == 3


def test_an_interruption_says_how_to_go_on(tiny_cases, monkeypatch, tmp_path, capsys):
    def interrupt(case, effort):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "measure", interrupt)
    path = tmp_path / "out.jsonl"
    assert main(["bench", "--output", str(path)]) == 130
    assert f"stopped; what was measured is in {path}, and the same command goes on" in capsys.readouterr().err
    assert main(["bench", "--quick"]) == 130
    assert "stopped; nothing is kept" in capsys.readouterr().err


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


def test_report_of_several_files_updates_pages_and_draws(tiny_cases, tmp_path, capsys):
    path, other = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    main(["bench", "--threads", "1", "--output", str(path)])
    rows = [row | {"size": "base", "batch": 8, "tokens": 128} for row in results.read(path)]  # a case of short tables
    results.write(path, rows)
    capsys.readouterr()
    results.write(other, [row | {"device_name": "Other CPU"} for row in rows])

    assert main(["bench", "--report", str(path), str(other)]) == 0
    text = capsys.readouterr().out
    assert text.count("| `light_conv` | base |") == 2
    readme, details, plot = tmp_path / "README.md", tmp_path / "all.md", tmp_path / "pictures" / "speed.svg"
    for page in (readme, details):
        page.write_text("# Title\n<!-- bench:begin -->\n<!-- bench:end -->\n")
    details.write_text(f"<!-- limits:begin -->\n<!-- limits:end -->\n{details.read_text()}")
    options = ["--update", str(readme), "--details", str(details), "--plot", str(plot)]
    assert main(["bench", "--report", str(path), str(other), *options]) == 0
    assert capsys.readouterr().out == ""
    assert 'src="pictures/speed.svg"' in readme.read_text() and "[all.md](all.md)" in readme.read_text()
    assert details.read_text().count("#### light_conv") == 2
    assert plot.exists()


@pytest.mark.parametrize(("time", "code", "verdict"), [(1e-3, 0, "0 missed"), (1e9, 1, "3 missed")])
def test_limits_of_earlier_results_decide_the_exit_code(time, code, verdict, tmp_path, capsys, tiny_cases):
    path = tmp_path / "a.jsonl"
    main(["bench", "--threads", "1", "--output", str(path)])
    rows = [row | {"size": "base", "batch": 8, "tokens": 128} for row in results.read(path)]
    ours = [row["peer"].startswith("bertkernels (") for row in rows]
    results.write(path, [row | {"p50_us": time if own else 1.0} for row, own in zip(rows, ours, strict=True)])
    capsys.readouterr()
    assert main(["bench", "--report", str(path), "--limits"]) == code
    printed = capsys.readouterr().out
    assert verdict in printed and "#### Convolutions" in printed and "not measured" in printed


def test_a_run_shows_the_limits_of_what_it_measured(tiny_cases, tmp_path, capsys):
    assert main(["bench", "--threads", "1", "--limits", "--output", str(tmp_path / "a.jsonl")]) == 0
    printed = capsys.readouterr().out
    assert "### Limits on " in printed and " 0 missed" in printed and "| small | B1·T8 |" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ops", "light_conf"], "light_conf"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--threads", "two"], "--threads"),
        (["--update", "README.md"], "--update goes with --report"),
        (["--plot", "x.png"], "--plot goes with --report"),
        (["--details", "x.md"], "--details goes with --report"),
        (["--report", "x.jsonl", "--threads", "2"], "--threads does not go with it"),
        (["--report", "x.jsonl", "--fresh"], "--fresh does not go with it"),
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
