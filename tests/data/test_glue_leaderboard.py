import zipfile

import pytest

from bertkernels.data.glue import TASKS
from bertkernels.data.glue_leaderboard import ROWS, submission_problems, write_answers, write_submission


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A whole submission, of test sets of three rows."""
    monkeypatch.setattr("bertkernels.data.glue_leaderboard.ROWS", dict.fromkeys(ROWS, 3))
    for task in TASKS.values():
        for name in task.test_files:
            answers = [2.5, -0.3, 5.7] if task.labels is None else [task.labels[-1]] * 3
            write_answers(tmp_path / f"{name}.tsv", ["0", "1", "2"], answers)
    return tmp_path


def test_files_are_what_the_leaderboard_takes(whole):
    assert len(list(whole.iterdir())) == len(ROWS) == 11
    assert (whole / "STS-B.tsv").read_text() == "index\tprediction\n0\t2.500\n1\t0.000\n2\t5.000\n"
    assert (whole / "QNLI.tsv").read_text().splitlines()[1] == "0\tnot_entailment"
    assert (whole / "AX.tsv").read_text().splitlines()[1] == "0\tneutral"
    assert (whole / "QQP.tsv").read_text().splitlines()[1] == "0\t1"
    assert submission_problems(whole) == []


def test_a_submission_is_the_same_bytes_for_the_same_files(whole, tmp_path):
    write_submission(whole, tmp_path / "a.zip")
    write_submission(whole, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"{name}.tsv" for name in ROWS]
        assert archive.read("CoLA.tsv") == (whole / "CoLA.tsv").read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("WNLI", None, "WNLI.tsv is missing: 3 predictions for WNLI"),
        ("MNLI-mm", None, "MNLI-mm.tsv is missing: 3 predictions for MNLI"),
        ("RTE", "id\tprediction\n", "RTE.tsv, line 1: expected the header index and prediction, found id prediction"),
        ("RTE", "", "RTE.tsv, line 1: expected the header index and prediction, found nothing"),
        ("CoLA", "index\tprediction\n0\t1\n1\t1\n", "CoLA.tsv has 2 predictions, expected 3"),
        ("CoLA", "index\tprediction\n0\t1\n2\t1\n1\t1\n", "CoLA.tsv, line 3: index '2', expected 1"),
        ("AX", "index\tprediction\n0\tmaybe\n", "AX.tsv, line 2: 'maybe' is no label of AX (contradiction, "),
        ("STS-B", "index\tprediction\n0\t5.001\n", "STS-B.tsv, line 2: '5.001' is no number from 0 to 5"),
        ("STS-B", "index\tprediction\n0\tnan\n", "STS-B.tsv, line 2: 'nan' is no number from 0 to 5"),
        ("QQP", "index\tprediction\n0\t1\t1\n", "QQP.tsv, line 2: 3 fields, expected index and prediction"),
        ("SST-2", b"\xff\xfe\x00", "SST-2.tsv is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_said(whole, name, content, problem):
    path = whole / f"{name}.tsv"
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems = submission_problems(whole)
    assert len(problems) == 1 and problem in problems[0]
