"""A pytest plugin for when time is short: a bit of everything first, and a stop in good order when time is up.

    PYTHONPATH=benchmarks pytest -p breadth_first --seconds 200 -m gpu tests/ops

Runs one case of every test function × implementation × dtype, then a second one of each, and so on; kernels before the
reference. When the seconds are over, the test that runs is the last one, the summary says how many were left out, and
the exit code is 75 where none has failed.
"""

import time
from collections import Counter

import pytest

TIME_IS_UP = 75  # the exit code where nothing has failed so far


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seconds", type=float, default=float("inf"), help="begin no test after this many seconds")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_UntilTimeIsUp(config.getoption("seconds")))


@pytest.hookimpl(trylast=True)  # after -m and -k
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    seen: Counter[tuple] = Counter()
    order = {}
    for item in items:
        kind = _kind(item)
        order[item] = (seen[kind], kind[-1] == "reference")
        seen[kind] += 1
    items.sort(key=order.__getitem__)


def _kind(item: pytest.Item) -> tuple:
    """File, function, dtype and implementation of a test."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    dtype = next((str(value) for value in parameters.values() if str(value).startswith("torch.")), None)
    return str(item.path), item.originalname, dtype, parameters.get("impl")


class _UntilTimeIsUp:
    def __init__(self, seconds: float):
        self._end = time.monotonic() + seconds
        self._done = 0
        self._stopped = False

    def pytest_runtest_teardown(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        self._done += 1
        if nextitem is not None and time.monotonic() >= self._end:
            self._stopped = True
            tests = item.session.testscollected
            item.session.shouldstop = f"time is up, {tests - self._done} of {tests} tests were not run"

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._stopped:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED if session.testsfailed else TIME_IS_UP
