import pytest
import torch

from bertkernels.cli import tune
from bertkernels.cli.main import main

pytest.importorskip("triton", reason="Triton is not installed")

from bertkernels.tune.jobs import Job  # noqa: E402
from bertkernels.tune.search import Finding  # noqa: E402
from bertkernels.tune.subject import Subject  # noqa: E402


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ops", "light_conf"], "light_conf"),
        (["--sizes", "large"], "large"),
        (["--dtype", "int8"], "int8"),
        (["--device", "cpu"], "--device must be cuda"),
        (["--device", "cuda:one"], "--device must be cuda"),
        (["--budget_s", "0"], "--budget_s must be above 0"),
        (["--budget_s", "nan"], "--budget_s must be above 0"),
        (["--quickly"], "--quickly"),
    ],
)
def test_bad_arguments(arguments, message, capsys):
    assert main(["tune", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("bertkernels tune: ") and error.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu(capsys):
    assert main(["tune"]) == 2
    assert capsys.readouterr().err == (
        "bertkernels tune: tuning times kernels on a CUDA device, and torch finds none here\n"
    )


def job(kernel, candidates=3):
    subject = Subject(kernel, {"C": 8}, tuple({"N": n} for n in range(candidates)), None)
    return Job("op", kernel, "C=8,bfloat16", {"small": subject})


def test_report_says_what_won_by_how_much_and_what_was_discarded(capsys, tmp_path):
    results = [
        (
            job("a"),
            Finding({"N": 1, "M": 2}, 1.25, 3, [({"N": 0}, "spills 8 registers"), ({"N": 2}, "wrong result 0 on x")]),
        ),
        (job("b"), Finding(None, 0.9, 3)),
        (job("c"), Finding(None, 1.0, 1)),
        (job("d"), Finding(None, 1.0, 3, [({}, "spills 4 registers"), ({}, "spills 2 registers"), ({}, "slow")])),
    ]
    assert tune.report(iter(results), 4, "Some GPU", tmp_path) == 0
    out, err = capsys.readouterr()
    assert out == f"a C=8,bfloat16: 1.25× as fast by N=1 M=2\nTuned configurations: {tmp_path}\n"
    assert "[1/4] a C=8,bfloat16: 1.25× as fast by N=1 M=2 (3 tried)" in err
    assert "discarded 1 of 3: wrong result 0 on x" in err and "discarded 2 of 3: it spills registers" in err
    assert "[2/4] b C=8,bfloat16: the rule stays: the best of 3 is 0.90× as fast" in err
    assert "none of them usable" in err
    assert "Time was up before all candidates of 1 were tried" in err


def test_report_of_an_interrupted_run(capsys, tmp_path):
    def results():
        yield job("a"), Finding({"N": 1}, 1.25, 3)
        raise KeyboardInterrupt

    assert tune.report(results(), 4, "Some GPU", tmp_path) == 130
    out, err = capsys.readouterr()
    assert "Interrupted: 1 of 4 are done and kept." in err and out.startswith("a C=8,bfloat16: 1.25×")


def test_a_kernel_that_cannot_run_is_an_error(capsys, tmp_path):
    assert tune.report(iter([(job("a"), Finding(failure="OutOfResources: x"))]), 1, "Some GPU", tmp_path) == 1
    out, err = capsys.readouterr()
    assert "not even the rule can be run: OutOfResources: x" in err and "No configuration beats the rules" in out
