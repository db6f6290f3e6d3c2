"""`pytest benchmarks/residual_norm.py`: the cases of bertkernels/bench/residual_norm.py."""

OP = "residual_norm"


def test_residual_norm(time_peer):
    time_peer()
