"""`pytest benchmarks/light_conv.py`: the cases of bertkernels/bench/light_conv.py."""

OP = "light_conv"


def test_light_conv(time_peer):
    time_peer()
