"""Tokenised documents kept on disk: any sentence of any of them can be read, in little memory."""

from array import array
from pathlib import Path

import numpy as np


class DocumentStore:
    """Documents of sentences of token ids. All are added first, then read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "documents.ids"
        self._file = open(self._path, "wb")  # noqa: SIM115 (closed by `finish`)
        self._ends = array("q", [0])  # of sentences, in ids
        self._documents = array("q", [0])  # of documents, in sentences
        self._ids: np.ndarray | None = None

    def add(self, sentence: list[int]) -> None:
        """Adds a sentence to the last document."""
        self._file.write(np.asarray(sentence, dtype=np.int32).tobytes())
        self._ends.append(self._ends[-1] + len(sentence))

    def end_document(self) -> None:
        """Ends the last document, if it holds anything."""
        if len(self._ends) - 1 > self._documents[-1]:
            self._documents.append(len(self._ends) - 1)

    def finish(self) -> None:
        """From here on documents are read."""
        self._file.close()
        if self._ends[-1]:  # an empty file cannot be mapped
            self._ids = np.asarray(np.memmap(self._path, dtype=np.int32, mode="r"))

    def __len__(self) -> int:
        return len(self._documents) - 1

    def sentence_count(self, document: int) -> int:
        return self._documents[document + 1] - self._documents[document]

    def sentence(self, document: int, number: int) -> list[int]:
        place = self._documents[document] + number
        return self._ids[self._ends[place] : self._ends[place + 1]].tolist()

    def close(self) -> None:
        """Removes what was kept."""
        self._file.close()
        self._ids = None
        self._path.unlink(missing_ok=True)
