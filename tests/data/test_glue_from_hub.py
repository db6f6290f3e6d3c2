"""GLUE as the hub has it, written as GLUE distributes it: what is written is read back by our own reader."""

import datasets
import pytest

from bertkernels.cli.main import main
from bertkernels.data.glue import TASKS, TRAINED
from bertkernels.data.glue_from_hub import write_glue
from bertkernels.data.tables import tsv_rows
from bertkernels.data.tasks import glue_folder_task
from bertkernels.errors import InputError

_TEXTS = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "qqp": ("question1", "question2"),
    "qnli": ("question", "sentence"),
    "mnli": ("premise", "hypothesis"),
    "ax": ("premise", "hypothesis"),
}
_NAMES = {
    "mnli": ["entailment", "neutral", "contradiction"],
    "ax": ["entailment", "neutral", "contradiction"],
    "qnli": ["entailment", "not_entailment"],
    "rte": ["entailment", "not_entailment"],
    "mrpc": ["not_equivalent", "equivalent"],
}


@pytest.fixture
def hub(monkeypatch):
    """The hub's columns and label names, with two rows a split; a test split's labels are -1, as there."""
    asked = []

    def load_dataset(name, config, split, streaming):
        asked.append((name, config, split))
        labels = [-1, -1] if split.startswith("test") else [0, 1]
        texts = {
            column: [f"{config} {split} {column}\t{row}" for row in range(2)]
            for column in _TEXTS.get(config, ("sentence1", "sentence2"))
        }
        kind = datasets.ClassLabel(names=_NAMES.get(config, ["0", "1"]))
        if config == "stsb":
            labels, kind = [2.5, 5.0], datasets.Value("float32")
        rows = texts | {"label": labels, "idx": [0, 1]}
        features = {column: datasets.Value("string") for column in texts} | {
            "label": kind,
            "idx": datasets.Value("int32"),
        }
        return datasets.Dataset.from_dict(rows, features=datasets.Features(features))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_what_is_written_is_what_glue_distributes(hub, tmp_path):
    write_glue(tmp_path)
    assert {name for name, *_ in hub} == {"nyu-mll/glue"}
    for name, task in ((name, TASKS[name]) for name in TRAINED):
        read = glue_folder_task(str(tmp_path), name)
        config = next(
            config
            for _, config, _ in hub
            if config == {"CoLA": "cola", "SST-2": "sst2", "STS-B": "stsb"}.get(name, name.lower())
        )
        first = _TEXTS.get(config, ("sentence1",))[0]
        assert read.train.firsts == [f"{config} train {first} {row}" for row in range(2)]
        named = _NAMES.get(config, ["0", "1"])[:2] if config != "mrpc" else ["0", "1"]
        assert read.train.labels == ([2.5, 5.0] if task.labels is None else named)
        assert set(read.evaluation) == set(task.dev)
    # Where ELECTRA and others look, by number.
    columns = {
        "MNLI": (8, 9, -1),
        "QNLI": (1, 2, -1),
        "QQP": (3, 4, 5),
        "MRPC": (3, 4, 0),
        "STS-B": (7, 8, -1),
        "RTE": (1, 2, -1),
    }
    for name, (first, second, label) in columns.items():
        header = next(tsv_rows(tmp_path / name / "train.tsv"))[1]
        task = TASKS[name]
        assert (header[first], header[second], header[label]) == (
            task.columns.first,
            task.columns.second,
            task.columns.label,
        )
    assert next(tsv_rows(tmp_path / "CoLA" / "train.tsv"))[1][1::2] == ["0", "cola train sentence 0"]
    assert next(tsv_rows(tmp_path / "CoLA" / "test.tsv"))[1] == ["index", "sentence"]
    assert next(tsv_rows(tmp_path / "MRPC" / "test.tsv"))[1] == ["index", "#1 ID", "#2 ID", "#1 String", "#2 String"]
    assert next(tsv_rows(tmp_path / "diagnostic" / "diagnostic.tsv"))[1] == ["index", "sentence1", "sentence2"]


def test_files_that_are_there_stay(hub, tmp_path, capsys):
    write_glue(tmp_path)
    (tmp_path / "RTE" / "dev.tsv").unlink()
    (tmp_path / "MRPC" / "dev.tsv").write_text("mine")
    hub.clear()
    write_glue(tmp_path, "another/name")
    assert hub == [("another/name", "rte", "validation")]
    assert (tmp_path / "MRPC" / "dev.tsv").read_text() == "mine"
    (tmp_path / "MRPC" / "dev.tsv").unlink()
    assert main(["prepare", "glue", str(tmp_path), "--from_hub"]) == 0
    assert "partial: 2 of 408 rows" in capsys.readouterr().out


def test_without_a_network(tmp_path, monkeypatch):
    def load_dataset(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(InputError, match="'nyu-mll/glue' .* could not be loaded .ConnectionError: no route to host"):
        write_glue(tmp_path)
    assert list(tmp_path.iterdir()) == []
