import zipfile

import pytest

from bertkernels.cli.main import main
from bertkernels.data.glue import TASKS
from bertkernels.data.glue_leaderboard import ROWS, write_answers


@pytest.fixture
def whole(tmp_path):
    """Files of the official sizes."""
    for task in TASKS.values():
        for name in task.test_files:
            answers = [1.0] * ROWS[name] if task.labels is None else [task.labels[0]] * ROWS[name]
            write_answers(tmp_path / f"{name}.tsv", list(map(str, range(ROWS[name]))), answers)
    return tmp_path


def test_a_whole_folder_is_packed(whole, tmp_path, capsys):
    assert main(["submission", str(whole)]) == 0
    assert "Complete: 11 files with 426,309 predictions" in capsys.readouterr().out
    with zipfile.ZipFile(whole / "submission.zip") as archive:
        assert len(archive.namelist()) == 11
    assert main(["submission", str(whole), "--output", str(tmp_path / "mine.zip")]) == 0
    assert (tmp_path / "mine.zip").read_bytes() == (whole / "submission.zip").read_bytes()


def test_what_is_missing_is_said_with_exit_code_2(whole, capsys):
    (whole / "AX.tsv").unlink()
    (whole / "RTE.tsv").write_text("index\tprediction\n0\tyes\n")
    assert main(["submission", str(whole)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all(line.startswith("bertkernels submission: ") for line in lines)
    assert "RTE.tsv, line 2: 'yes' is no label of RTE" in lines[0]
    assert "AX.tsv is missing: 1,104 predictions for AX" in lines[1]
    assert not (whole / "submission.zip").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "nowhere is no folder"),
        ([], "required: folder"),
        ([".", "--output", "nowhere/a.zip"], "nowhere is no folder"),
    ],
)
def test_bad_flags_are_one_sentence(flags, message, capsys):
    assert main(["submission", *flags]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
