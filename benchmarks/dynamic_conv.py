"""`pytest benchmarks/dynamic_conv.py`: the cases of bertkernels/bench/dynamic_conv.py."""

OP = "dynamic_conv"


def test_dynamic_conv(time_peer):
    time_peer()
