"""`pytest benchmarks/linear.py`: the cases of bertkernels/bench/linear.py."""

OP = "linear"


def test_linear(time_peer):
    time_peer()
