"""What one process reads at once, and how it is to be read."""

from dataclasses import dataclass

DOCUMENTS = ("blank_lines", "files")


@dataclass(frozen=True)
class Piece:
    """Whole files of one format, or a part of one file or data set.

    `start` and `end` are bytes of a file, rows of a data set, or the number of a shard and how many there are. `size`
    is about how many bytes of text it holds, for progress bars.
    """

    format: str
    files: tuple[str, ...]
    start: int = 0
    end: int | None = None
    size: int = 0


@dataclass(frozen=True)
class ReadOptions:
    """How text is found in files and data sets.

    `documents`: plain text has blank lines between documents, or each file is one. `text_column`: the field of JSON
    lines and data sets that holds the text; None: found by the usual names. The others are a data set's.
    """

    documents: str = "blank_lines"
    text_column: str | None = None
    dataset_config: str | None = None
    dataset_split: str = "train"
    streaming: bool = False
