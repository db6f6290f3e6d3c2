from bertkernels.bench import OPS
from bertkernels.bench.case import BOTH, FORWARD
from bertkernels.bench.select import select_cases


def test_a_full_run_has_every_size_shape_and_mode():
    cases = select_cases([op for op in OPS if op != "padded_batch"])
    assert len(cases) == len(set(cases)) == (len(OPS) - 1) * 3 * 3 * 2
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
        ("padded_batch", "small", 32, 44),
    ]


def test_padded_batches_have_the_lengths_of_each_task():
    cases = select_cases(["padded_batch"])
    assert len(cases) == len(set(cases)) == 3 * 2 * 2
    assert {(case.text, case.tokens) for case in cases} == {("SST-2", 44), ("MRPC", 78), ("RTE", 128)}


def test_on_a_gpu_in_bfloat16():
    cases = select_cases(["light_conv"], "cuda")
    assert {(case.device, case.dtype) for case in cases} == {("cuda", "bfloat16")}
