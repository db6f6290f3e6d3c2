"""Worker of the built-in text: `python -m bertkernels.data.read_docstrings LIST.json` prints one JSON line a file."""

import json
import sys
import warnings
from pathlib import Path

from bertkernels.data.docstrings import docstrings
from bertkernels.data.prose import paragraphs, sentences


def read(path: str) -> list[list[str]]:
    """Paragraphs of sentences of one source file's docstrings; none from a file that is not valid Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escape sequences in other people's source
            texts = list(docstrings(Path(path).read_text(encoding="utf-8")))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    return [sentences(paragraph) for text in texts for paragraph in paragraphs(text)]


if __name__ == "__main__":
    for name in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(json.dumps(read(name)), flush=True)
