"""`pytest benchmarks/padded_batch.py`: the cases of bertkernels/bench/padded_batch.py. Takes minutes: pick with -k."""

OP = "padded_batch"


def test_padded_batch(time_peer):
    time_peer()
