"""`pytest benchmarks/mixed_attention.py`: the cases of bertkernels/bench/mixed_attention.py."""

OP = "mixed_attention"


def test_mixed_attention(time_peer):
    time_peer()
