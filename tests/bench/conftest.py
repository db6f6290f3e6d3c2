"""Rows of results as a run would write them."""

import pytest


@pytest.fixture
def make_row():
    def make(peer: str, p50_us: float, **changes) -> dict:
        row = {
            "record": "times",
            "op": "light_conv",
            "size": "base",
            "batch": 8,
            "tokens": 128,
            "text": None,
            "mode": "forward",
            "dtype": "float32",
            "peer": peer,
            "floor": peer in ("copy of the same bytes", "its own matrix products"),
            "easier": peer == "static conv1d",
            "p20_us": p50_us * 0.9,
            "p50_us": p50_us,
            "p80_us": p50_us * 1.1,
            "calls": 20,
            "peak_bytes": None,
            "bytes": 1000,
            "operations": None,
            "percent_of_copy_bandwidth": None,
            "percent_of_matrix_rate": None,
            "copy_gb_s": None,
            "matrix_gflop_s": None,
            "left_out": {},
            "device": "cpu",
            "device_name": "Some CPU, 2 cores",
            "threads": 2,
            "versions": {"bertkernels": "0.1.0", "torch": "2.9.0"},
            "source": "0123456789abcdef",
            "date": "2026-01-02",
            "effort": "full",
        }
        return row | changes

    return make
