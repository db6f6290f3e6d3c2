import shutil

import pytest

from bertkernels.data.glue import TASKS, glue_task, read_glue
from bertkernels.data.tasks import glue_folder_task
from bertkernels.errors import InputError

# The first training row of each task's real file: text, second text, label.
FIRST_ROWS = {
    "CoLA": ("Our friends won't buy this analysis, let alone the next one we propose.", None, "1"),
    "SST-2": ("hide new secretions from the parental units ", None, "0"),
    "STS-B": ("A plane is taking off.", "An air plane is taking off.", 5.0),
    "RTE": (
        "No Weapons of Mass Destruction Found in Iraq Yet.",
        "Weapons of Mass Destruction Found in Iraq.",
        "not_entailment",
    ),
    "MNLI": ("Conceptually cream skimming has two basic dimensions", "Product and geography", "neutral"),
}


@pytest.mark.parametrize("name", TASKS)
def test_real_files(data_dir, name):
    glue = data_dir / "glue"
    if not (glue / name).is_dir():
        pytest.skip(f"no files of {name} in {glue}")
    task = glue_folder_task(str(glue), name)
    assert set(task.evaluation) == set(TASKS[name].dev)
    for rows in (task.train, *task.evaluation.values()):
        file = rows.places[0].split(", line ")[0]
        with open(file, encoding="utf-8", newline="\n") as lines:
            assert len(rows) == sum(1 for _ in lines) - (name != "CoLA")
        targets = task.targets(rows)
        if task.labels is None:
            assert 0 <= min(targets) and max(targets) <= 5
        else:
            assert set(targets) == set(range(len(task.labels)))
    if name in FIRST_ROWS:
        first, second, label = FIRST_ROWS[name]
        assert task.train.firsts[0].startswith(first)
        assert task.train.labels[0] == label
        if second is not None:
            assert task.train.seconds[0].startswith(second)
        else:
            assert task.train.seconds is None


@pytest.mark.parametrize("name", ["SST-2", "sst2", "sst-2", "SST_2"])
def test_names_are_taken_in_any_writing(name):
    assert glue_task(name).folder == "SST-2"


def test_unknown_task_and_missing_folder(tmp_path):
    with pytest.raises(InputError, match="unknown GLUE task 'SST-3', expected one of CoLA, SST-2"):
        glue_task("SST-3")
    with pytest.raises(InputError, match=r"RTE is no folder"):
        read_glue(tmp_path, glue_task("RTE"))
    (tmp_path / "RTE").mkdir()
    with pytest.raises(InputError, match=r"train.tsv: no such file"):
        read_glue(tmp_path, glue_task("RTE"))


@pytest.fixture
def broken(tmp_path):
    """A task's folder whose training file has 2,000 rows and then one that was cut in two."""

    def make(name, header, row, cut):
        folder = tmp_path / name
        folder.mkdir()
        good = "\n".join(filter(None, [header, *[row] * 2000]))
        (folder / "train.tsv").write_text(f"{good}\n{cut}\n")
        shutil.copy(folder / "train.tsv", folder / "dev.tsv")
        return tmp_path

    return make


def test_a_row_with_too_few_fields_is_named(broken):
    folder = broken("SST-2", "sentence\tlabel", "fine\t1", "cut off")
    with pytest.raises(InputError, match=r"train.tsv, line 2002: 1 fields, expected 2 \(sentence, label\)"):
        read_glue(folder, glue_task("SST-2"))


def test_the_broken_rows_of_the_published_qqp_are_passed_over_and_said(broken, caplog):
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"
    folder = broken("QQP", header, "1\t2\t3\tA?\tB?\t0", "4\t5\t6\tcut")
    train, _ = read_glue(folder, glue_task("QQP"))
    assert len(train) == 2000
    assert "1 broken rows passed over, the first at line 2002" in caplog.text


def test_empty_file_and_missing_column(broken, tmp_path):
    folder = tmp_path / "CoLA"
    folder.mkdir()
    (folder / "train.tsv").write_text("")
    with pytest.raises(InputError, match="train.tsv is empty"):
        read_glue(tmp_path, glue_task("CoLA"))
    folder = broken("SST-2", "text\tlabel", "fine\t1", "fine\t1")
    with pytest.raises(InputError, match="no column 'sentence' for the text; columns: text, label"):
        read_glue(folder, glue_task("SST-2"))
