"""`pytest benchmarks/grouped_linear.py`: the cases of bertkernels/bench/grouped_linear.py."""

OP = "grouped_linear"


def test_grouped_linear(time_peer):
    time_peer()
