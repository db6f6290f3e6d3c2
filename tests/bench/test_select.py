from bertkernels.bench import OPS
from bertkernels.bench.case import BOTH, FORWARD
from bertkernels.bench.select import select_cases


def test_a_full_run_has_every_size_shape_and_mode():
    cases = select_cases()
    assert len(cases) == len(set(cases)) == len(OPS) * 3 * 3 * 2
    assert {(case.batch, case.tokens) for case in cases} == {(8, 128), (2, 512), (1, 128)}
    assert {case.mode for case in cases} == {FORWARD, BOTH}
    assert all(case.compiled for case in cases if case.mode == FORWARD)
    assert {(case.size, case.batch) for case in cases if case.mode == BOTH and case.compiled} == {
        ("small", 8),
        ("base", 8),
    }


def test_nothing_is_compiled_unless_wanted():
    assert not any(case.compiled for case in select_cases(compiled=False))


def test_a_quick_run_has_one_shape_an_op():
    cases = select_cases(quick=True)
    assert [(case.op, case.size, case.batch, case.tokens) for case in cases if case.mode == FORWARD] == [
        ("light_conv", "base", 8, 128),
        ("depthwise_conv", "base", 8, 128),
        ("grouped_linear", "base", 8, 128),
        ("encoder", "small", 8, 128),
    ]


def test_on_a_gpu_in_bfloat16():
    cases = select_cases(["light_conv"], "cuda")
    assert {(case.device, case.dtype) for case in cases} == {("cuda", "bfloat16")}
