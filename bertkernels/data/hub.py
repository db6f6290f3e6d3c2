"""Labelled text from the Hugging Face hub, by name."""

import datasets

from bertkernels.data.labelled_text import Columns, LabelledText, labelled_text, unlabelled_text
from bertkernels.data.tables import Record
from bertkernels.errors import InputError

_EVALUATION_SPLITS = ("validation", "validation_matched", "validation_mismatched", "dev", "test")


def read_hub(
    name: str, config: str | None, columns: Columns, regression: bool
) -> tuple[LabelledText, dict[str, LabelledText]]:
    """Training rows and evaluation rows by split: the validation splits, or the test split if there are none.

    Raises InputError where the set cannot be had (no network and not downloaded before, or no such name).
    """
    splits = load_splits(name, config)
    rows = {split: labelled_text(hub_records(name, split, data), columns, regression) for split, data in splits.items()}
    return rows.pop("train"), rows


def read_hub_test(name: str, config: str | None, columns: Columns) -> dict[str, LabelledText]:
    """Rows to predict by split: all whose names begin with test. Raises InputError as `read_hub`."""
    splits = load_hub(name, config)
    found = {
        split: unlabelled_text(hub_records(name, split, data), columns)
        for split, data in splits.items()
        if split.startswith("test")
    }
    if not found:
        raise InputError(f"the data set {name!r} has no split test; splits: {', '.join(splits)}")
    return found


def load_splits(name: str, config: str | None) -> dict[str, datasets.Dataset]:
    """The split "train", then those to evaluate on: the validation splits, or the test split if there are none.

    Raises InputError as `read_hub` does.
    """
    splits = load_hub(name, config)
    if "train" not in splits:
        raise InputError(f"the data set {name!r} has no split train; splits: {', '.join(splits)}")
    usual = [split for split in _EVALUATION_SPLITS if split in splits]
    if len(usual) > 1:
        usual = [split for split in usual if split != "test"]
    return {split: splits[split] for split in ["train", *usual]}


def load_hub(name: str, config: str | None) -> datasets.DatasetDict:
    """All splits of a data set. Raises InputError where it cannot be had."""
    try:
        return datasets.load_dataset(name, config)
    except Exception as error:  # the library raises its own, httpx's and huggingface_hub's errors here
        reason = " ".join(str(error).split())
        raise InputError(
            f"the data set {name!r} could not be loaded from the hub ({type(error).__name__}: {reason}); without a "
            "network use --train_file, --glue_dir or --text_source builtin"
        ) from error


def hub_records(name: str, split: str, data: datasets.Dataset) -> list[Record]:
    """A split's rows, labels by their names. Raises InputError where there are none."""
    named = {key: kind.names for key, kind in data.features.items() if isinstance(kind, datasets.ClassLabel)}
    records = []
    for number, fields in enumerate(data):
        for key, names in named.items():
            if fields[key] is not None and fields[key] >= 0:
                fields[key] = names[fields[key]]
        records.append(Record(f"{name}/{split}, row {number}", fields))
    if not records:
        raise InputError(f"{name}/{split} is empty")
    return records
