"""Folders of recordings and real data that tests may need and that are not part of the repository."""

import os
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[1]


_GOLDEN = (
    [Path(os.environ["BERTKERNELS_GOLDEN"])]
    if os.environ.get("BERTKERNELS_GOLDEN")
    else [_CHECKOUT.parent / "shared" / "golden", _CHECKOUT / "tests" / "golden" / "data"]
)


def pytest_configure(config) -> None:
    config.addinivalue_line("markers", "recordings(*patterns): runs once for every recording, as argument `recording`")


# folders and files whose fixtures are made once a file and take long
_TOGETHER = ("benchmarks/", "cli/test_demo.py", "cuda/", "data/test_prepared.py", "golden/", "test_package.py")


@pytest.hookimpl(tryfirst=True)  # xdist looks at the marks in this hook too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each such file's tests run in one process (`pytest --dist loadgroup`)."""
    for item in items:
        file = item.path.relative_to(Path(__file__).parent).as_posix()
        if file.startswith(_TOGETHER):
            item.add_marker(pytest.mark.xdist_group(file))


def pytest_generate_tests(metafunc) -> None:
    """Discovers recordings: a test marked `recordings("convbert/**/encoder.npz")` gets each such file there is."""
    marker = metafunc.definition.get_closest_marker("recordings")
    if marker is None:
        return
    folder = next((place for place in _GOLDEN if place.is_dir()), None)
    cases = []
    for pattern in marker.args:
        found = sorted(folder.glob(pattern)) if folder else []
        cases += [pytest.param(path, id=str(path.relative_to(folder).with_suffix(""))) for path in found]
        if not found:
            nothing = pytest.mark.skip(f"no recordings {pattern} in {folder or _GOLDEN}")
            cases.append(pytest.param(None, marks=nothing, id=pattern))
    metafunc.parametrize("recording", cases, scope="module")


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """Recordings of the original programs: $BERTKERNELS_GOLDEN, ../shared/golden or tests/golden/data."""
    for place in _GOLDEN:
        if place.is_dir():
            return place
    pytest.skip(f"no recordings: none of {', '.join(map(str, _GOLDEN))} is a folder (set BERTKERNELS_GOLDEN)")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data files: $BERTKERNELS_DATA or ../shared/data."""
    place = Path(os.environ.get("BERTKERNELS_DATA") or _CHECKOUT.parent / "shared" / "data")
    if not place.is_dir():
        pytest.skip(f"no real data: {place} is not a folder (set BERTKERNELS_DATA)")
    return place
