"""These tests run Triton kernels on the CPU, by Triton's interpreter, in a process of their own."""

import os

import pytest


@pytest.fixture(autouse=True)
def interpreter():
    pytest.importorskip("triton", reason="Triton is not installed")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip(
            "the interpreter must be asked for before Triton is imported: TRITON_INTERPRET=1 pytest tests/triton"
        )
