"""GLUE rows become the features that the original program made of them, pair swap and cuts included."""

import json

import pytest

from bertkernels.data.glue import glue_task
from bertkernels.data.tasks import glue_folder_task
from bertkernels.data.tokenizer import read_vocabulary, tokenizer_from_vocabulary
from bertkernels.training.tasks.text_classification import TextClassification

_FOLDERS = {"sst": "SST-2", "sts": "STS-B"}


@pytest.mark.recordings("**/glue_features_*.json")
def test_features(recording, data_dir, tmp_path):
    tokenizer = tokenizer_from_vocabulary(read_vocabulary(data_dir / "vocab.txt"))
    for name, recorded in json.loads(recording.read_text()).items():
        folder = tmp_path / glue_task(_FOLDERS.get(name, name)).folder
        folder.mkdir()
        for split in ("train", "dev"):
            (folder / f"{split}.tsv").write_text("\n".join(recorded["tsv_lines"]) + "\n", encoding="utf-8")
        task = glue_folder_task(str(tmp_path), folder.name, double_unordered=True)
        _same_pairs(task.train, recorded["train_pairs"])
        kind = TextClassification(task, label_scale=5.0 if task.labels is None else 1.0)
        length = recorded["max_seq_length"]
        found = kind.encode(task.evaluation["dev"], tokenizer, length, training=False)
        assert len(found) == len(recorded["dev"])
        for row, example in zip(found, recorded["dev"], strict=True):
            features = example["features"]
            padding = [0] * (length - len(row["input_ids"]))
            assert row["input_ids"] + padding == features["input_ids"]
            assert row["token_type_ids"] + padding == features["segment_ids"]
            assert row["attention_mask"] + padding == features["input_mask"]
            label = features[f"{name}_targets" if task.labels is None else f"{name}_label_ids"]
            assert row["label"] == pytest.approx(label, rel=1e-6)


def _same_pairs(rows, recorded) -> None:
    seconds = rows.seconds or [None] * len(rows)
    found = [[first, second, label] for first, second, label in zip(rows.firsts, seconds, rows.labels, strict=True)]
    expected = [
        [first, second, float(label) if isinstance(rows.labels[0], float) else label]
        for first, second, label in recorded
    ]
    assert found == expected
