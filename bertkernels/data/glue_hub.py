"""GLUE from the Hugging Face hub, with the labels that GLUE's own files and the leaderboard have."""

import datasets

from bertkernels.data.glue import GlueTask, check_trained
from bertkernels.data.hub import hub_records, load_hub
from bertkernels.data.labelled_text import Columns, LabelledText, labelled_text, unlabelled_text

HUB_NAMES = ("glue", "nyu-mll/glue")
_COLUMNS = Columns(label="label")  # texts are found by the usual names
_DEV = {"dev": "validation", "dev_matched": "validation_matched", "dev_mismatched": "validation_mismatched"}
_TEST = {"MNLI-m": "test_matched", "MNLI-mm": "test_mismatched"}


def read_glue_hub(name: str, task: GlueTask) -> tuple[LabelledText, dict[str, LabelledText]]:
    """Training rows and evaluation rows as `read_glue` gives them. Raises InputError where they cannot be had."""
    check_trained(task)
    splits = _load(name, task)
    return _labelled(name, "train", splits, task), {dev: _labelled(name, _DEV[dev], splits, task) for dev in task.dev}


def read_glue_hub_test(name: str, task: GlueTask) -> dict[str, LabelledText]:
    """Rows to predict as `read_glue_test` gives them. Raises InputError where they cannot be had."""
    splits = _load(name, task)
    places = {file: _TEST.get(file, "test") for file in task.test_files}
    return {file: unlabelled_text(hub_records(name, split, splits[split]), _COLUMNS) for file, split in places.items()}


def _load(name: str, task: GlueTask) -> datasets.DatasetDict:
    return load_hub(name, task.folder.replace("-", "").lower())


def _labelled(name: str, split: str, splits: datasets.DatasetDict, task: GlueTask) -> LabelledText:
    data = splits[split]
    if task.labels == ("0", "1"):  # the hub has names of its own for these, in the same order
        data = data.cast_column("label", datasets.Value("int64"))
    return labelled_text(hub_records(name, split, data), _COLUMNS, regression=task.labels is None)
