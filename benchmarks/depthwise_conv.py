"""`pytest benchmarks/depthwise_conv.py`: the cases of bertkernels/bench/depthwise_conv.py."""

OP = "depthwise_conv"


def test_depthwise_conv(time_peer):
    time_peer()
