"""Where this package keeps what it has made for its user between runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """$BERTKERNELS_CACHE, else $XDG_CACHE_HOME/bertkernels, else ~/.cache/bertkernels."""
    if os.environ.get("BERTKERNELS_CACHE"):
        return Path(os.environ["BERTKERNELS_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "bertkernels"
