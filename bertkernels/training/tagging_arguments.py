"""The flags of tagging."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class TaggingArguments:
    """Where words and tags are, and which tags the model learns."""

    tagging_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with train.txt and dev.txt (or valid.txt) of CoNLL's form: a word and its tags a line, in "
            "columns, and a blank line between sentences."
        },
    )
    text_column_index: int = field(default=0, metadata={"help": "The words' column in such files, from 0."})
    label_column_index: int = field(
        default=-1, metadata={"help": "The tags' column in such files; negative: from the last."}
    )
    tag_scheme: Literal["iob2", "iob1", "bioes", "bilou", "plain"] | None = field(
        default=None,
        metadata={
            "help": "Tags that the model learns, whichever of these the files have. Default: bioes for chunk as in the "
            "original code, iob2 for ner, plain (no spans, tags as they are) for pos."
        },
    )
