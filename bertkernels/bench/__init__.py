"""Measures ops and encoders beside their peers: `bertkernels bench`, and the pytest wrappers in `benchmarks/`."""
