import shutil

import datasets
import pytest

from bertkernels.data import hub
from bertkernels.data.glue import TASKS, TRAINED, check_glue_folders, glue_task, read_glue, read_glue_test, task_names
from bertkernels.data.tasks import glue_folder_task, glue_folder_to_predict, glue_hub_task, glue_hub_to_predict
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


@pytest.mark.parametrize("name", TRAINED)
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


# The header lines of GLUE's test files, by file of predictions; the text(s) of a row stand in the last column(s).
TEST_FILES = {
    "CoLA": ("CoLA/test.tsv", "index\tsentence"),
    "SST-2": ("SST-2/test.tsv", "index\tsentence"),
    "MRPC": ("MRPC/test.tsv", "index\t#1 ID\t#2 ID\t#1 String\t#2 String"),
    "QQP": ("QQP/test.tsv", "id\tquestion1\tquestion2"),
    "STS-B": (
        "STS-B/test.tsv",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
    ),
    "MNLI-m": (
        "MNLI/test_matched.tsv",
        "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\t"
        "sentence2_parse\tsentence1\tsentence2",
    ),
    "QNLI": ("QNLI/test.tsv", "index\tquestion\tsentence"),
    "RTE": ("RTE/test.tsv", "index\tsentence1\tsentence2"),
    "WNLI": ("WNLI/test.tsv", "index\tsentence1\tsentence2"),
    "AX": ("MNLI/diagnostic.tsv", "index\tsentence1\tsentence2"),
}
TEST_FILES["MNLI-mm"] = ("MNLI/test_mismatched.tsv", TEST_FILES["MNLI-m"][1])


@pytest.fixture
def unlabelled(tmp_path):
    """All of GLUE's test files, with two rows each: the second has index 1."""
    for file, header in TEST_FILES.values():
        path = tmp_path / file
        path.parent.mkdir(exist_ok=True)
        columns = header.split("\t")
        rows = ["\t".join([str(number), *(f"{name} {number}" for name in columns[1:])]) for number in range(2)]
        path.write_text("\ufeff" + "\n".join([header, *rows]) + "\n", encoding="utf-8")
    return tmp_path


def test_every_task_s_test_rows(unlabelled):
    found = {}
    for name in TASKS:
        task = glue_folder_to_predict(str(unlabelled), name)
        assert task.train is None and not task.evaluation and task.glue
        found |= task.test
    assert found.keys() == TEST_FILES.keys()
    for name, rows in found.items():
        columns = TEST_FILES[name][1].split("\t")
        assert rows.indices == ["0", "1"] and rows.labels is None
        if name in ("CoLA", "SST-2"):
            assert (rows.firsts[1], rows.seconds) == (f"{columns[-1]} 1", None)
        else:
            assert (rows.firsts[1], rows.seconds[1]) == (f"{columns[-2]} 1", f"{columns[-1]} 1")


def test_mrpc_as_microsoft_publishes_it(unlabelled):
    (unlabelled / "MRPC" / "test.tsv").unlink()
    lines = ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\tone\ttwo", "0\t9\t3\tthree\tfour"]
    (unlabelled / "MRPC" / "msr_paraphrase_test.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = read_glue_test(unlabelled, glue_task("MRPC"))["MRPC"]
    assert (rows.indices, rows.firsts, rows.seconds) == (["0", "1"], ["one", "three"], ["two", "four"])


def test_rows_to_predict_may_not_be_broken_nor_missing(unlabelled):
    with open(unlabelled / "QQP" / "test.tsv", "a") as file:
        file.write("3\tcut\n" + "4\ta\tb\n" * 2000)
    with pytest.raises(InputError, match="test.tsv, line 4: 2 fields, expected 3"):
        read_glue_test(unlabelled, glue_task("QQP"))
    (unlabelled / "RTE" / "test.tsv").unlink()
    with pytest.raises(InputError, match=r"RTE/test.tsv: no such file$"):
        read_glue_test(unlabelled, glue_task("RTE"))
    (unlabelled / "MNLI" / "diagnostic.tsv").unlink()
    with pytest.raises(InputError, match="AX/diagnostic.tsv: no such file, nor .*MNLI/diagnostic.tsv"):
        read_glue_test(unlabelled, glue_task("AX"))


def test_ax_has_nothing_to_train_on(tmp_path):
    with pytest.raises(InputError, match="AX has no training rows: fine-tune on MNLI"):
        read_glue(tmp_path, glue_task("AX"))


def test_pairs_in_both_orders_where_the_order_means_nothing(data_dir):
    folder = str(data_dir / "glue")
    once, doubled = glue_folder_task(folder, "MRPC").train, glue_folder_task(folder, "MRPC", True).train
    assert doubled.firsts == once.firsts + once.seconds and doubled.seconds == once.seconds + once.firsts
    assert doubled.labels == once.labels * 2
    assert glue_folder_task(folder, "RTE", True).train == glue_folder_task(folder, "RTE").train


def test_several_names():
    assert task_names("all", TRAINED) == list(TRAINED)
    assert task_names("mrpc, STS_B", TRAINED) == ["MRPC", "STS-B"]
    assert task_names("squad", TRAINED) == ["squad"]
    with pytest.raises(InputError, match="RTE stands there twice"):
        task_names("RTE,rte", TRAINED)
    with pytest.raises(InputError, match="unknown GLUE task 'squad'"):
        task_names("RTE,squad", TRAINED)


def unlabelleds_of_several_tasks(tmp_path):
    (tmp_path / "RTE").mkdir()
    check_glue_folders(tmp_path, ["RTE"])
    with pytest.raises(InputError, match="has no folder CoLA, QQP"):
        check_glue_folders(tmp_path, ["CoLA", "RTE", "QQP"])


@pytest.fixture
def hub_copy(monkeypatch):
    """GLUE as the hub has it: class labels with names of its own, and -1 for those that are not known."""
    asked = []

    def load(name, config):
        asked.append((name, config))
        texts = {"mnli": ("premise", "hypothesis"), "qqp": ("question1", "question2")}.get(config, ("sentence", None))
        names = {"mnli": ["entailment", "neutral", "contradiction"], "qqp": ["not_duplicate", "duplicate"]}
        splits = ["train", "validation", "test"]
        if config == "mnli":
            splits = ["train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"]
        labels = names.get(config, ["unacceptable", "acceptable"])
        found = {}
        for split in splits:
            columns = {text: [f"{split} {text} {row}" for row in range(len(labels))] for text in texts if text}
            known = list(range(len(labels)))
            columns |= {"label": [-1] * len(labels) if split.startswith("test") else known, "idx": known}
            kinds = {text: datasets.Value("string") for text in texts if text}
            kinds |= {"label": datasets.ClassLabel(names=labels), "idx": datasets.Value("int32")}
            found[split] = datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))
        return datasets.DatasetDict(found)

    monkeypatch.setattr(hub.datasets, "load_dataset", load)
    return asked


def test_the_hub_s_copy_has_the_labels_of_the_files(hub_copy):
    task = glue_hub_task("nyu-mll/glue", "QQP")
    assert task.train.labels == ["0", "1"] and task.labels == ["0", "1"] and list(task.evaluation) == ["dev"]
    assert task.train.seconds == ["train question2 0", "train question2 1"]
    task = glue_hub_task("nyu-mll/glue", "MNLI")
    assert task.evaluation["dev_mismatched"].labels == ["entailment", "neutral", "contradiction"]
    assert task.targets(task.train) == [1, 2, 0]
    rows = glue_hub_to_predict("glue", "MNLI").test
    assert {name: found.firsts[0] for name, found in rows.items()} == {
        "MNLI-m": "test_matched premise 0",
        "MNLI-mm": "test_mismatched premise 0",
    }
    assert rows["MNLI-mm"].indices == ["0", "1", "2"] and rows["MNLI-m"].labels is None
    assert set(hub_copy) == {("nyu-mll/glue", "qqp"), ("nyu-mll/glue", "mnli"), ("glue", "mnli")}
    with pytest.raises(InputError, match="--task_name RTE goes with --dataset_name nyu-mll/glue, not imdb"):
        glue_hub_task("imdb", "RTE")
