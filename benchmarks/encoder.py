"""`pytest benchmarks/encoder.py`: the cases of bertkernels/bench/encoder.py. Takes minutes: pick some with -k."""

OP = "encoder"


def test_encoder(time_peer):
    time_peer()
