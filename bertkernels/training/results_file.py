"""Results as JSON files that are there whole or not at all."""

import json
import os
from pathlib import Path


def write_json(path: Path, content: dict) -> None:
    """Writes beside the file and renames."""
    written = path.with_suffix(".writing")
    written.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(written, path)
