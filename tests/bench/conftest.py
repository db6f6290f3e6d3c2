"""Rows of results as a run would write them."""

import pytest


@pytest.fixture
def make_row():
    def make(peer: str, p50_us: float, **changes) -> dict:
        row = {
            "op": "light_conv",
            "size": "base",
            "batch": 8,
            "tokens": 128,
            "text": None,
            "mode": "forward",
            "dtype": "float32",
            "peer": peer,
            "floor": peer == "copy of the same bytes",
            "p20_us": p50_us * 0.9,
            "p50_us": p50_us,
            "p80_us": p50_us * 1.1,
            "calls": 20,
            "peak_bytes": None,
            "bytes": 1000,
            "percent_of_copy_bandwidth": None,
            "device": "cpu",
            "device_name": "Some CPU, 2 cores",
            "threads": 2,
            "versions": {"bertkernels": "0.1.0", "torch": "2.9.0"},
            "source": "0123456789abcdef",
            "date": "2026-01-02",
        }
        return row | changes

    return make
