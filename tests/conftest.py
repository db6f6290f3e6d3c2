"""Folders of recordings and real data that tests may need and that are not part of the repository."""

import os
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Recordings of the original programs: $BERTKERNELS_GOLDEN, ../shared/golden or tests/golden/data."""
    places = [_CHECKOUT.parent / "shared" / "golden", _CHECKOUT / "tests" / "golden" / "data"]
    if os.environ.get("BERTKERNELS_GOLDEN"):
        places = [Path(os.environ["BERTKERNELS_GOLDEN"])]
    for place in places:
        if place.is_dir():
            return place
    pytest.skip(f"no recordings: none of {', '.join(map(str, places))} is a folder (set BERTKERNELS_GOLDEN)")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data files: $BERTKERNELS_DATA or ../shared/data."""
    place = Path(os.environ.get("BERTKERNELS_DATA") or _CHECKOUT.parent / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"no real data: {place} is not a folder (set BERTKERNELS_DATA)")
    return place
