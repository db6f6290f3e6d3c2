"""Checks of task folders say what is there, and name the place of what cannot be used."""

import json

import pytest

from bertkernels.cli.main import main
from bertkernels.data.checks.glue import check_glue
from bertkernels.data.checks.report import refuse_unusable
from bertkernels.data.checks.squad import check_squad
from bertkernels.data.checks.tagging import check_tagging
from bertkernels.data.glue import TASKS, TRAINED
from bertkernels.errors import InputError


def _status(checks):
    return {check.file: check.status for check in checks}


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_real_glue(data_dir, capsys):
    checks = check_glue(data_dir / "glue")
    status = _status(checks)
    for check in checks:
        path = data_dir / "glue" / check.file
        if not path.is_file():
            assert check.status == "missing"
            continue
        lines = sum(1 for _ in open(path, encoding="utf-8", newline="\n"))
        assert check.rows == lines - (not check.file.startswith("CoLA/")) and check.problem is None
        kind = "complete" if check.rows == check.published else "partial"
        assert check.status == f"{kind}: {check.rows:,} of {check.published:,} rows"
    assert status["MRPC/train.tsv"] == "complete: 3,668 of 3,668 rows"
    assert main(["prepare", "glue", str(data_dir / "glue")]) == 0
    out = capsys.readouterr().out
    assert "MRPC/train.tsv" in out and "0 1,194, 1 2,474" in out and len(out.splitlines()) == len(checks)


def test_every_task_and_file_is_looked_for(tmp_path):
    status = _status(check_glue(tmp_path))
    assert set(status.values()) == {"missing"}
    for name, task in ((name, TASKS[name]) for name in TRAINED):
        for split in ("train", *task.dev):
            assert f"{name}/{split}.tsv" in status
    with pytest.raises(InputError, match="holds none of the files that were looked for: expected CoLA/train.tsv"):
        refuse_unusable(check_glue(tmp_path), tmp_path, "CoLA/train.tsv and so on")


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("SST-2/train.tsv", "", "SST-2/train.tsv is empty"),
        ("SST-2/dev.tsv", "text\tlabel\nfine\t1\n", "SST-2/dev.tsv: no column 'sentence'; columns: text, label"),
        ("SST-2/test.tsv", "index\ttext\n0\tfine\n", "SST-2/test.tsv: no column 'sentence'"),
        ("SST-2/train.tsv", "sentence\tlabel\nfine\t1\ncut\n", "train.tsv, line 3: 1 fields, expected 2"),
        (
            "RTE/train.tsv",
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tyes\n",
            "train.tsv, line 2: unknown label 'yes'",
        ),
        (
            "STS-B/dev.tsv",
            "sentence1\tsentence2\tscore\na\tb\t5.1\n",
            "dev.tsv, line 2: score '5.1', expected a number",
        ),
        ("STS-B/dev.tsv", "sentence1\tsentence2\tscore\na\tb\tx\n", "dev.tsv, line 2: score 'x'"),
        ("CoLA/train.tsv", "gj04\t1\tfine\n", "train.tsv, line 1: 3 fields, expected 4"),
    ],
)
def test_glue_files_that_cannot_be_used(tmp_path, file, text, problem, capsys):
    _write(tmp_path / file, text)
    assert _status(check_glue(tmp_path))[file] == "unusable"
    assert main(["prepare", "glue", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert problem in printed.err and len(printed.err.splitlines()) == 1
    assert problem in printed.out, "the table has it too"


def test_broken_rows_of_the_published_qqp_are_counted(tmp_path):
    row = "1\t2\t3\tA?\tB?\t0\n"
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    _write(tmp_path / "QQP/train.tsv", header + row * 2000 + "4\t5\tcut\n")
    check = next(check for check in check_glue(tmp_path) if check.file == "QQP/train.tsv")
    assert check.rows == 2000 and "1 broken rows are passed over" in check.note


def test_more_rows_than_published(tmp_path):
    _write(tmp_path / "WNLI/dev.tsv", "index\tsentence1\tsentence2\tlabel\n" + "0\ta\tb\t1\n" * 72)
    assert _status(check_glue(tmp_path))["WNLI/dev.tsv"] == "more than published: 72 of 71 rows"


@pytest.mark.parametrize("version", ["1.1", "2.0"])
def test_real_squad(data_dir, version):
    checks = {check.file: check for check in check_squad(data_dir / f"squad_v{version}")}
    for split in ("train", "dev"):
        check = checks.pop(f"{split}-v{version}.json")
        articles = json.loads((data_dir / f"squad_v{version}" / check.file).read_text(encoding="utf-8"))["data"]
        assert check.rows == sum(len(paragraph["qas"]) for article in articles for paragraph in article["paragraphs"])
        assert check.problem is None and check.status.startswith("partial") and "not where" not in check.note
        assert ("without answer" in check.note) == (version == "2.0")
    assert {check.status for check in checks.values()} == {"missing"}


def _squad(**changes):
    question = {"id": "q7", "question": "Who?", "answers": [{"text": "He", "answer_start": 0}]} | changes
    return {"data": [{"paragraphs": [{"context": "He did.", "qas": [question]}]}]}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "not valid JSON"),
        (json.dumps({}), "expected 'data' (list)"),
        (json.dumps({"data": [{}]}), "article 1: expected 'paragraphs' (list)"),
        (json.dumps({"data": []}), "holds no questions"),
        (json.dumps(_squad(id=7)), "paragraph 1: expected 'id' (str)"),
        (json.dumps(_squad(answers=[{"text": "He"}])), "question q7: expected 'answer_start' (int)"),
        (json.dumps(_squad(answers=[])), "question q7: no answers, and is_impossible is not true"),
    ],
)
def test_squad_files_that_cannot_be_used(tmp_path, content, problem, capsys):
    _write(tmp_path / "dev-v2.0.json", content)
    assert main(["prepare", "squad", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "dev-v2.0.json" in error and problem in error and len(error.splitlines()) == 1


def test_answers_that_are_elsewhere_are_counted(tmp_path):
    _write(tmp_path / "dev-v1.1.json", json.dumps(_squad(answers=[{"text": "He", "answer_start": 3}])))
    check = next(check for check in check_squad(tmp_path) if check.file == "dev-v1.1.json")
    assert check.rows == 1 and "1 answers are not where answer_start says" in check.note


def test_real_tagging(data_dir):
    for check in check_tagging(data_dir / "tagging"):
        text = (data_dir / "tagging" / check.file).read_text(encoding="utf-8")
        blocks, inside = 0, False
        for line in text.splitlines():
            blocks += bool(line.strip()) and not inside
            inside = bool(line.strip())
        assert check.rows == blocks and check.problem is None
    assert _status(check_tagging(data_dir / "tagging"))["wnut17/train.txt"] == "complete: 3,394 of 3,394 rows"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("He O\nran\n", "a.txt, line 2: 1 columns, expected 2"),
        ("He\n", "a.txt, line 1: no tag column"),
        ("He O\nran verb\n", "a.txt, line 2: 'verb' is no tag"),
    ],
)
def test_tagging_files_that_cannot_be_used(tmp_path, text, problem, capsys):
    _write(tmp_path / "a.txt", text)
    assert main(["prepare", "tagging", str(tmp_path)]) == 2
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["glue"], "the following arguments are required: DIR"),
        (["squad", "absent"], "DIR absent is no folder"),
        (["squad", "absent", "--from_hub"], "unrecognized arguments: --from_hub"),
    ],
)
def test_bad_flags(flags, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", *flags]) == 2
    assert message in capsys.readouterr().err
