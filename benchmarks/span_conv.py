"""`pytest benchmarks/span_conv.py`: the cases of bertkernels/bench/span_conv.py."""

OP = "span_conv"


def test_span_conv(time_peer):
    time_peer()
