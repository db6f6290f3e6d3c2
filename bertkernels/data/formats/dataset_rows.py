"""Rows of a Hugging Face data set (hub name, saved folder, Parquet or Arrow file): each row's text is one document."""

from collections.abc import Iterator
from pathlib import Path

from bertkernels.data.formats.piece import Piece, ReadOptions
from bertkernels.data.formats.text_column import text_column, text_sentences
from bertkernels.errors import InputError

_ROWS = 20_000  # of one piece
FILES = (".parquet", ".arrow")


def read(piece: Piece, options: ReadOptions) -> Iterator[str]:
    (name,) = piece.files
    rows = load(name, options)
    if options.streaming:
        rows, first = rows.shard(num_shards=piece.end, index=piece.start), 0
    else:
        rows, first = rows.select(range(piece.start, piece.end)), piece.start
    for number, fields in enumerate(rows, start=first):
        place = f"{name}, row {number}"
        column = text_column(fields, options.text_column, place)
        yield from text_sentences(fields[column], column, place)
        yield ""


def split(name: str, options: ReadOptions) -> list[Piece]:
    """Pieces of a data set: ranges of rows, or the shards of one that is streamed."""
    rows = load(name, options)
    if options.streaming:
        return [Piece("dataset", (name,), number, rows.num_shards, 1) for number in range(rows.num_shards)]
    text_column(rows.features, options.text_column, name)
    starts = range(0, len(rows), _ROWS)
    return [Piece("dataset", (name,), start, min(start + _ROWS, len(rows)), _ROWS) for start in starts]


def content(name: str, options: ReadOptions) -> dict:
    """Stands for the data set's content in a fingerprint. Of one that is streamed there is no more than its name."""
    kept = None if options.streaming else load(name, options)._fingerprint
    return {"name": name, "config": options.dataset_config, "split": options.dataset_split, "content": kept}


def load(name: str, options: ReadOptions):
    """The data set's split. Raises InputError where it cannot be had."""
    import datasets

    path, split = Path(name), options.dataset_split
    try:
        if path.suffix in FILES and path.is_file():
            kind = path.suffix.removeprefix(".")
            return datasets.load_dataset(kind, data_files=name, split="train", streaming=options.streaming)
        if is_saved(path):
            found = datasets.load_from_disk(name)
            found = found[split] if isinstance(found, datasets.DatasetDict) else found
            return found.to_iterable_dataset() if options.streaming else found
        return datasets.load_dataset(name, options.dataset_config, split=split, streaming=options.streaming)
    except Exception as error:  # the library raises its own, httpx's and huggingface_hub's errors here
        reason = " ".join(str(error).split())
        raise InputError(
            f"the data set {name!r} (split {split}) could not be loaded ({type(error).__name__}: {reason})"
        ) from error


def is_saved(path: Path) -> bool:
    """Whether a folder is what `save_to_disk` writes."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
